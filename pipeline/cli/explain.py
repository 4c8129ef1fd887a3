"""The command that says why."""

from __future__ import annotations

import click

from pipeline.cli.options import Where, json_option, service_options


@click.command()
@click.argument("generation_id", metavar="ID")
@json_option
@service_options
def explain(generation_id: str, as_json: bool, service: Where) -> None:
    """Say why a generation waits or what it does just now, and what to do: the first thing to look at.

    While it waits: what keeps it (a cap, others before it, a pause and its end, money, a rate, no worker), its place in
    line and when it should start. Then what its next turn waits for; in the end how its webhooks fare.

    Exit codes: 0, 2 if there is no such generation, 3 if the service is not reachable.

    \b
    Example:
      dailies explain gen_01a20c2379a472e79903854a2481a75a
      dailies explain order-17 --json
    """
    from pipeline.cli.explaining import explain_one
    from pipeline.cli.target import ask_service

    click.echo(ask_service(service, lambda client: explain_one(client, generation_id, as_json=as_json)))


COMMANDS = (explain,)
