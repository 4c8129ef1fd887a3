"""The `dailies` command. What a command needs is imported when it runs, so that help is quick.

::

    run       serve, api, worker, work, migrate      done by service and schema
    ask       submit, show                           done by submit: client asks, watch waits, words tell
    tools     mock, receive, demo                    done by mock, receiver, demo and its proof
"""

from __future__ import annotations

import click

from pipeline import __version__
from pipeline.cli.ask import COMMANDS as ASK
from pipeline.cli.base import Commands
from pipeline.cli.run import COMMANDS as RUN
from pipeline.cli.tools import COMMANDS as TOOLS

__all__ = ["main"]


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="dailies")
def main() -> None:
    """Videos from prompts, with a signed webhook at the end.

    Settings come from the environment and from `.env` in the working directory; `.env.example` explains each.

    \b
    Example:
      dailies demo                           see everything work, on free ports
      dailies serve                          API, worker and mock provider
      dailies submit "a red fox" --wait      from another terminal
    """


for command in (*RUN, *ASK, *TOOLS):
    main.add_command(command)
