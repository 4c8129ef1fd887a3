"""Commands that hold things back: pauses, and what each user may have."""

from __future__ import annotations

from typing import Any

import click

from pipeline.cli.options import Where, json_option, page_options, service_options

tenant_option = click.option("--tenant", metavar="NAME", help="Whose user; for the operator.")


@click.command()
@click.argument("lane", required=False)
@tenant_option
@click.option("--seconds", type=click.IntRange(1), metavar="N", help="For so long; else until it is resumed.")
@click.option("--reason", metavar="TEXT", help="For people; `dailies stats` and `dailies explain` show it.")
@json_option
@service_options
def pause(
    lane: str | None, tenant: str | None, seconds: int | None, reason: str | None, as_json: bool, service: Where
) -> None:
    """Start nothing new: in a LANE, or anywhere. What runs goes on, deliveries too.

    LANE is a provider's name (or provider:NAME), endpoint:ID (nothing is sent there), user:ID, or everything. Requests
    are still taken and wait. A tenant's key with the scope admin pauses its users; all else needs a key of the operator
    (API_KEY).

    Exit codes: 0, 2 if there is no such lane or the key may not, 3 if the service is not reachable.

    \b
    Example:
      dailies pause --reason "moving the database" --seconds 600
      dailies pause mock
      dailies pause user:alice --reason "too many at once"
    """
    from pipeline.cli.pausing import pause_lane
    from pipeline.cli.target import ask_service

    named, body = {"lane": lane, "tenant": tenant}, {"seconds": seconds, "reason": reason}
    click.echo(ask_service(service, lambda client: pause_lane(client, named, body, as_json=as_json)))


@click.command()
@click.argument("lane", required=False)
@tenant_option
@json_option
@service_options
def resume(lane: str | None, tenant: str | None, as_json: bool, service: Where) -> None:
    """Open a LANE again, or the whole service: after `dailies pause`, or before a pause of its own has ended.

    LANE is named as for `dailies pause`.

    Exit codes: 0, 2 if there is no such lane or the key may not, 3 if the service is not reachable.

    \b
    Example:
      dailies resume
      dailies resume mock
      dailies resume user:alice
    """
    from pipeline.cli.pausing import resume_lane
    from pipeline.cli.target import ask_service

    named = {"lane": lane, "tenant": tenant}
    click.echo(ask_service(service, lambda client: resume_lane(client, named, as_json=as_json)))


@click.group(invoke_without_command=True)
@click.option("--tenant", metavar="NAME", help="Of this tenant; for the operator, who else sees all.")
@page_options
@json_option
@service_options
@click.pass_context
def users(ctx: click.Context, /, tenant: str | None, limit: int, every: bool, as_json: bool, service: Where) -> None:
    """List users, whom requests name: who waits, who has what in flight, what is set for whom, and what he spent today.

    AT MOST is what a user may have in flight at once; `-` is the bound of all (USER_MAX_IN_FLIGHT). Needs a key with
    the scope admin.

    Exit codes: 0, 2 if the key may not, 3 if the service is not reachable.

    \b
    Example:
      dailies users
      dailies users set alice --weight 3 --max-in-flight 5
      dailies users reset alice
    """
    if ctx.invoked_subcommand is not None:
        return
    from pipeline.cli.pausing import list_users
    from pipeline.cli.target import ask_service

    most = None if every else limit
    click.echo(ask_service(service, lambda client: list_users(client, tenant, most, as_json=as_json)))


@users.command()
@click.argument("user", metavar="USER")
@tenant_option
@json_option
@service_options
def show(user: str, tenant: str | None, as_json: bool, service: Where) -> None:
    """Show one user.

    Exit codes: 0, 2 if the key may not, 3 if the service is not reachable.

    \b
    Example:
      dailies users show alice
    """
    from pipeline.cli.pausing import show_user
    from pipeline.cli.target import ask_service

    click.echo(ask_service(service, lambda client: show_user(client, user, tenant, as_json=as_json)))


def _bound(_ctx: click.Context, _param: click.Parameter, value: str | None) -> int | str | None:
    """A callback for a number of generations, or `none`."""
    if value is None or value == "none":
        return value
    if not value.isascii() or not value.isdigit() or len(value) > 6:
        raise click.BadParameter(f"{value!r} is neither a number of generations nor `none`")
    return int(value)


@users.command("set")
@click.argument("user", metavar="USER")
@click.option(
    "--weight", type=click.FloatRange(0.01, 100), help="Places against others: with 3 three times as many as with 1."
)
@click.option("--max-in-flight", metavar="N", callback=_bound, help="Generations at once, or none: the bound of all.")
@tenant_option
@json_option
@service_options
def set_command(
    user: str, weight: float | None, max_in_flight: int | str | None, tenant: str | None, as_json: bool, service: Where
) -> None:
    """Say how much a user gets, against others and at most. What is not named stays as it is.

    Exit codes: 0, 2 if it is refused, 3 if the service is not reachable.

    \b
    Example:
      dailies users set alice --weight 3 --max-in-flight 5
      dailies users set alice --max-in-flight none
    """
    from pipeline.cli.pausing import set_user
    from pipeline.cli.target import ask_service

    asked: dict[str, Any] = {} if weight is None else {"weight": weight}
    if max_in_flight is not None:
        asked["maxInFlight"] = None if max_in_flight == "none" else max_in_flight
    if not asked:
        raise click.UsageError("say what is to change: --weight, --max-in-flight")
    click.echo(ask_service(service, lambda client: set_user(client, user, tenant, asked, as_json=as_json)))


@users.command()
@click.argument("user", metavar="USER")
@tenant_option
@json_option
@service_options
def reset(user: str, tenant: str | None, as_json: bool, service: Where) -> None:
    """Let a user have what everybody has. A pause stays as it is.

    Exit codes: 0, 2 if it is refused, 3 if the service is not reachable.

    \b
    Example:
      dailies users reset alice
    """
    from pipeline.cli.pausing import reset_user
    from pipeline.cli.target import ask_service

    click.echo(ask_service(service, lambda client: reset_user(client, user, tenant, as_json=as_json)))


COMMANDS = (pause, resume, users)
