"""`dailies endpoints`: where events go."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import click

from pipeline.cli.operate import yes_option
from pipeline.cli.options import Where, json_option, page_options, service_options

_SPAN = re.compile(r"([0-9]{1,6})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_NONE = "none"


def _span(_ctx: click.Context, _param: click.Parameter, value: str | None) -> int | None:
    """A callback for times such as 24h, in seconds."""
    if value is None:
        return None
    match = _SPAN.fullmatch(value)
    if match is None and value != "0":
        raise click.BadParameter(f"{value!r} is no time such as 90m, 24h, 7d or 0")
    return int(match[1]) * _SECONDS[match[2]] if match else 0


def _headers(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> dict[str, str] | None:
    """A callback for `Name: value`, as curl has it; `none` alone is none."""
    if not values or values == (_NONE,):
        return {} if values else None
    pairs = [value.partition(":") for value in values]
    if not all(colon for _, colon, _ in pairs):
        raise click.BadParameter("a header is written 'Name: value'")
    return {name.strip(): text.strip() for name, _, text in pairs}


def _number(most: int) -> Callable[[click.Context, click.Parameter, str | None], int | str | None]:
    """A callback for a number up to `most`, or `none` for no bound of its own."""

    def check(_ctx: click.Context, _param: click.Parameter, value: str | None) -> int | str | None:
        if value is None or value == _NONE:
            return value
        if not value.isascii() or not value.isdigit() or not 1 <= int(value[:9]) <= most:
            raise click.BadParameter(f"{value!r} is neither a number from 1 to {most} nor `none`")
        return int(value)

    return check


_OPTIONS = (
    click.option("--events", multiple=True, metavar="TYPE", help="Only these, or generation.*; may be repeated."),
    click.option("--description", metavar="TEXT", help="For people."),
    click.option(
        "-H",
        "--header",
        "headers",
        multiple=True,
        metavar="'NAME: VALUE'",
        callback=_headers,
        help="Sent along, and never shown again; may be repeated.",
    ),
    click.option("--ordered/--unordered", default=None, help="Later events of a generation wait for earlier ones."),
    click.option("--max-in-flight", metavar="N", callback=_number(100), help="Deliveries at once, or none."),
    click.option("--rate", metavar="N", callback=_number(60_000), help="Deliveries per minute, or none."),
)
_SIGNING = click.option(
    "--signing", type=click.Choice(["v1", "v1a", "both"]), help="v1: a shared secret; v1a: Ed25519, a public key."
)
_SECRET = click.option(
    "--secret",
    envvar="DAILIES_ENDPOINT_SECRET",
    metavar="whsec_...",
    help="Your own; better in $DAILIES_ENDPOINT_SECRET. Else one is made.",
)


def _member_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.group(invoke_without_command=True)
@click.option("--tenant", metavar="NAME", help="Of this tenant; for the operator, who else sees all.")
@page_options
@json_option
@service_options
@click.pass_context
def endpoints(
    ctx: click.Context, /, tenant: str | None, limit: int, every: bool, as_json: bool, service: Where
) -> None:
    """List where events go, newest first; its commands make, change and try endpoints.

    Needs a key with the scope admin. The endpoint of WEBHOOK_URL is ep_default.

    Exit codes: 0, 2 if the key may not, 3 if the service is not reachable.

    \b
    Example:
      dailies endpoints
      dailies endpoints create https://app.example/api/webhooks/worker
      dailies endpoints test ep_default
    """
    if ctx.invoked_subcommand is not None:
        return
    from pipeline.cli.places import list_endpoints
    from pipeline.cli.target import ask_service

    most = None if every else limit
    click.echo(ask_service(service, lambda client: list_endpoints(client, tenant, most, as_json=as_json)))


@endpoints.command("list")
@click.option("--tenant", metavar="NAME", help="Of this tenant; for the operator, who else sees all.")
@page_options
@json_option
@service_options
@click.pass_context
def list_command(ctx: click.Context, /, **asked: Any) -> None:
    """The same as `dailies endpoints` alone.

    \b
    Example:
      dailies endpoints list --tenant acme
    """
    from pipeline.cli.places import list_endpoints
    from pipeline.cli.target import ask_service

    most = None if asked["every"] else asked["limit"]
    work = {"as_json": asked["as_json"]}
    click.echo(ask_service(asked["service"], lambda client: list_endpoints(client, asked["tenant"], most, **work)))


@endpoints.command()
@click.argument("target", metavar="URL")
@click.option("--tenant", metavar="NAME", help="Whose; for the operator.")
@_member_options
@_SIGNING
@_SECRET
@json_option
@service_options
def create(target: str, tenant: str | None, as_json: bool, service: Where, **members: Any) -> None:
    """Send events to URL. Prints the secret that signs, which is shown this once.

    Standard output is the secret alone (of v1a the public key); the rest goes to standard error. Without --events it
    gets the three ends of a generation. Nothing is requested there now: `dailies endpoints test` does that.

    Exit codes: 0, 2 if it is refused, 3 if the service is not reachable.

    \b
    Example:
      dailies endpoints create https://app.example/api/webhooks/worker --description production
      dailies endpoints create https://app.example/hook --events 'generation.*' -H 'X-Api-Key: 123' --signing both
    """
    from pipeline.cli.places import create_endpoint
    from pipeline.cli.target import ask_service

    body = {"url": target, **_body(members)}
    out, err = ask_service(service, lambda client: create_endpoint(client, tenant, body, as_json=as_json))
    click.echo(out)
    click.echo(err, err=True, nl=bool(err))


@endpoints.command()
@click.argument("endpoint_id", metavar="ID")
@json_option
@service_options
def show(endpoint_id: str, as_json: bool, service: Where) -> None:
    """Show one endpoint: what it gets, how it signs, whether it is on, paused or failing, and its last attempt.

    Exit codes: 0, 2 if there is none such, 3 if the service is not reachable.

    \b
    Example:
      dailies endpoints show ep_default
    """
    from pipeline.cli.places import show_endpoint
    from pipeline.cli.target import ask_service

    click.echo(ask_service(service, lambda client: show_endpoint(client, endpoint_id, as_json=as_json)))


@endpoints.command()
@click.argument("endpoint_id", metavar="ID")
@click.option("--to", "target", metavar="URL", help="Where it goes from now on.")
@_member_options
@json_option
@service_options
def update(endpoint_id: str, as_json: bool, service: Where, **members: Any) -> None:
    """Change an endpoint; what is not named stays as it is. Headers are replaced as a whole.

    `none` takes a bound, the description or all headers away; a header with the value *** stays as it is.

    Exit codes: 0, 2 if it is refused (such as what the settings decide), 3 if the service is not reachable.

    \b
    Example:
      dailies endpoints update ep_01a20c2379a472e79903854a2481a75a --events generation.completed --rate none
    """
    from pipeline.cli.places import update_endpoint
    from pipeline.cli.target import ask_service

    body = _body(members)
    if not body:
        raise click.UsageError("say what is to change")
    click.echo(ask_service(service, lambda client: update_endpoint(client, endpoint_id, body, as_json=as_json)))


@endpoints.command()
@click.argument("endpoint_id", metavar="ID")
@yes_option
@service_options
def delete(endpoint_id: str, yes: bool, service: Where) -> None:
    """Send nothing there any more: its secrets are gone at once, and what was on its way is cancelled.

    It asks before, unless --yes is given. To stop for a while: `dailies endpoints disable`.

    Exit codes: 0, 2 if it is refused or nobody said yes, 3 if the service is not reachable.

    \b
    Example:
      dailies endpoints delete ep_01a20c2379a472e79903854a2481a75a
    """
    from pipeline.cli.places import delete_endpoint
    from pipeline.cli.target import ask_service

    click.echo(ask_service(service, lambda client: delete_endpoint(client, endpoint_id, yes=yes)))


@endpoints.command()
@click.argument("endpoint_id", metavar="ID")
@click.option(
    "--overlap",
    metavar="TIME",
    callback=_span,
    default="24h",
    show_default=True,
    help="So long the old secrets go on signing: up to 7d; 0 ends them at once, for one that leaked.",
)
@_SIGNING
@_SECRET
@json_option
@service_options
def rotate(endpoint_id: str, overlap: int, as_json: bool, service: Where, **members: Any) -> None:
    """Give an endpoint a new secret and print it: it is shown this once.

    Deliveries are signed with the old ones as well until the overlap has ended, so that the receiver can change over
    in its own time. At most 10 are live.

    Exit codes: 0, 2 if it is refused, 3 if the service is not reachable.

    \b
    Example:
      dailies endpoints rotate ep_01a20c2379a472e79903854a2481a75a
      dailies endpoints rotate ep_01a20c2379a472e79903854a2481a75a --overlap 0
    """
    from pipeline.cli.places import rotate_secret
    from pipeline.cli.target import ask_service

    body = {"overlapSeconds": overlap, **_body(members)}
    out, err = ask_service(service, lambda client: rotate_secret(client, endpoint_id, body, as_json=as_json))
    click.echo(out)
    click.echo(err, err=True, nl=bool(err))


@endpoints.command("test")
@click.argument("endpoint_id", metavar="ID")
@json_option
@service_options
def test_command(endpoint_id: str, as_json: bool, service: Where) -> None:
    """Send a signed `webhook.test` at once and say what came of it, and what to do about it.

    It is sent as real events are, whatever the filter says and also while the endpoint is switched off.

    Exit codes: 0 it was taken, 1 it was not, 2 if there is no such endpoint, 3 if the service is not reachable.

    \b
    Example:
      dailies endpoints test ep_default
    """
    from pipeline.cli.base import Failed
    from pipeline.cli.places import test_endpoint
    from pipeline.cli.target import ask_service

    delivered, text = ask_service(service, lambda client: test_endpoint(client, endpoint_id, as_json=as_json))
    if not delivered and not as_json:
        raise Failed(text)
    click.echo(text)
    if not delivered:
        raise SystemExit(Failed.exit_code)


@endpoints.command()
@click.argument("endpoint_id", metavar="ID")
@json_option
@service_options
def enable(endpoint_id: str, as_json: bool, service: Where) -> None:
    """Switch an endpoint on again; whatever had switched it off or paused it is forgotten.

    \b
    Example:
      dailies endpoints enable ep_default
    """
    from pipeline.cli.places import switch_endpoint
    from pipeline.cli.target import ask_service

    click.echo(ask_service(service, lambda client: switch_endpoint(client, endpoint_id, "enable", as_json=as_json)))


@endpoints.command()
@click.argument("endpoint_id", metavar="ID")
@click.option("--reason", metavar="TEXT", help="For people.")
@json_option
@service_options
def disable(endpoint_id: str, reason: str | None, as_json: bool, service: Where) -> None:
    """Switch an endpoint off, until it is switched on again: no start does that.

    What is due there ends dead; it is listed, and can be sent again (`dailies redeliver`).

    \b
    Example:
      dailies endpoints disable ep_default --reason "moving the app"
    """
    from pipeline.cli.places import switch_endpoint
    from pipeline.cli.target import ask_service

    body = None if reason is None else {"reason": reason}
    text = ask_service(service, lambda client: switch_endpoint(client, endpoint_id, "disable", body, as_json=as_json))
    click.echo(text)


_MEMBERS = {
    "target": "url",
    "events": "events",
    "description": "description",
    "headers": "headers",
    "ordered": "ordered",
    "max_in_flight": "maxInFlight",
    "rate": "ratePerMinute",
    "signing": "signing",
    "secret": "secret",
}


def _body(members: Mapping[str, Any]) -> dict[str, Any]:
    """What was given, in the API's words; `none` is null. Pure."""
    given = {_MEMBERS[name]: value for name, value in members.items() if value is not None and value != ()}
    return {
        name: None if value == _NONE else list(value) if isinstance(value, tuple) else value
        for name, value in given.items()
    }


COMMANDS = (endpoints,)
