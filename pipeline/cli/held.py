"""Commands about paid calls that nobody knows the outcome of."""

from __future__ import annotations

import click

from pipeline.cli.operate import yes_option
from pipeline.cli.options import Where, json_option, page_options, service_options


@click.command()
@page_options
@json_option
@service_options
def held(limit: int, every: bool, as_json: bool, service: Where) -> None:
    """List paid calls whose outcome nobody knows, oldest first, and explain each.

    Says what happened, what was tried, what can still come and until when, what happens then, and what you can do.
    Needs a key with the scope admin.

    Exit codes: 0, 2 if the key may not, 3 if the service is not reachable.

    \b
    Example:
      dailies held
    """
    from pipeline.cli.holding import list_held
    from pipeline.cli.target import ask_service

    click.echo(ask_service(service, lambda client: list_held(client, None if every else limit, as_json=as_json)))


@click.command()
@click.argument("generation_id", metavar="ID")
@click.argument("operation", required=False)
@click.option(
    "--as",
    "said",
    type=click.Choice(["accepted", "not-taken", "abandon"]),
    required=True,
    help="The provider has it as OPERATION; surely never took it; or nobody will know.",
)
@yes_option
@json_option
@service_options
def resolve(generation_id: str, operation: str | None, said: str, yes: bool, as_json: bool, service: Where) -> None:
    """Say what became of a paid call: look at the provider's own list of jobs first.

    accepted: the operation is looked up with the service's own key, and the generation goes on with it. not-taken: a
    new call is made. abandon: the generation fails, and the call stays in the ledger as possibly charged. It asks
    before, unless --yes is given. Needs a key with the scope admin.

    Exit codes: 0, 2 refused (not held any more, unknown operation, nobody said yes), 3 not reachable.

    \b
    Example:
      dailies resolve gen_01a20c2379a472e79903854a2481a75a --as accepted req_8f14e45f
      dailies resolve order-17 --as not-taken
    """
    if (said == "accepted") != (operation is not None):
        raise click.UsageError("OPERATION goes with --as accepted, and with nothing else")
    from pipeline.cli.holding import resolve_one
    from pipeline.cli.target import ask_service

    text = ask_service(
        service, lambda client: resolve_one(client, generation_id, said, operation, yes=yes, as_json=as_json)
    )
    click.echo(text)


COMMANDS = (held, resolve)
