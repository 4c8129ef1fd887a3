"""The `dailies` command. What a command needs is imported when it runs, so that help is quick.

::

    ask       submit, watch, show, list, cancel, delete    done by submit, watch, follow; client asks, words tell
    operate   stats, dead, redrive, delivery, ...          done by stats, listing, delivery, tables, redriving, acts
    explain   explain                                      done by explaining
    pauses    pause, resume, users                         done by pausing
    run       serve, api, worker, work, migrate, import-sqlite    done by service, schema and importing
    endpoints endpoints and its commands                   done by places
    held      held, resolve                                done by holding
    listen    listen, resend                               done by listening and resending
    keys      create, list, revoke                         done by itself
    drill     drill                                        done by drilling
    local     doctor, config, prune, completion            done by doctor/, effective and pruning
    hooks     trigger, verify, sink                        done by trigger and samples, verify, sink
    tools     mock, receive, demo                          done by mock, receiver, demo and its proof
"""

from __future__ import annotations

import click

from pipeline import __version__
from pipeline.cli import ask, drill, endpoints, explain, held, keys, listen, local, operate, pauses, run, tools
from pipeline.cli.base import Commands

__all__ = ["main"]


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="dailies")
def main() -> None:
    """Videos from prompts, with a signed webhook at the end.

    Settings come from the environment and from `.env` in the working directory; `.env.example` explains each.
    Commands of the first two groups speak to a service: this machine's, or that of --url.

    \b
    Example:
      dailies demo                           see everything work, on free ports
      dailies serve                          API, worker and mock provider
      dailies submit "a red fox" --wait      from another terminal
    """


main.add_section("Make videos", ask.COMMANDS)
main.add_section(
    "Look after a service",
    (*explain.COMMANDS, *operate.COMMANDS, *pauses.COMMANDS, *endpoints.COMMANDS, listen.resend, *held.COMMANDS),
)
main.add_section("Run it on this machine", (*run.COMMANDS, *keys.COMMANDS, *local.COMMANDS))
main.add_section("Develop", (*tools.COMMANDS, drill.drill, listen.listen, local.completion))
