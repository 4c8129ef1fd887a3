"""Commands of who receives: `listen` without being reachable, `resend` what was missed."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.cli.base import CommandError, run_loop
from pipeline.cli.options import Where, json_option, moment, service_options

DEFAULT_TARGET = "http://localhost:3000/api/webhooks/worker"


@click.command()
@click.option("--forward-to", "target", metavar="URL", default=DEFAULT_TARGET, show_default=True, help="Your app.")
@click.option("--events", metavar="TYPES", help="Only these, with commas: generation.completed,generation.failed")
@click.option("--secret", metavar="WHSEC", help="Signs; else WEBHOOK_SECRET, else one that is made and kept.")
@click.option("--print-secret", is_flag=True, help="Print the secret, and exit.")
@click.option(
    "--env-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write WEBHOOK_SECRET into this file first, such as .env.local",
)
@click.option("--count", "most", type=click.IntRange(1), metavar="N", help="End after so many events.")
@click.option(
    "--timeout", type=click.FloatRange(min=0.1), default=15.0, show_default=True, help="Seconds for your app to answer."
)
@service_options
def listen(
    target: str,
    events: str | None,
    secret: str | None,
    print_secret: bool,
    env_file: Path | None,
    most: int | None,
    timeout: float,
    service: Where,
) -> None:
    """Hear the events of a service, here or elsewhere, and forward them to your app on this machine.

    The very bytes go on, with headers that are signed afresh with a secret of your project, which stays the same. Each
    event comes once and prints one line; after a cut it goes on where it was. What your app did not take is not sent
    again by itself. Progress and the like come only if an endpoint of the service wants them. Needs a key with the
    scope read.

    Exit codes: 0, 1 with --count if your app did not take all, 2 refused, 3 not reachable, 130 Ctrl-C.

    \b
    Example:
      dailies listen --forward-to http://localhost:3000/api/webhooks/worker
      dailies listen --env-file .env.local --events generation.completed
      dailies listen --url https://staging.example --key dk_...
    """
    from pipeline.cli.listening import project_secret, write_env

    ours = project_secret(secret)
    if print_secret:
        click.echo(ours)
        return
    if env_file is not None and write_env(env_file, ours):
        click.echo(f"WEBHOOK_SECRET was written to {env_file}: restart your app if it runs", err=True)
    run_loop(_listen(service, target, events, ours, most, timeout))


async def _listen(
    service: Where, target: str, events: str | None, secret: str, most: int | None, timeout: float
) -> None:
    import httpx

    from pipeline.cli import listening
    from pipeline.cli.target import connect, service_at
    from webhooks.events import validate_filter

    try:
        types = validate_filter([name.strip() for name in events.split(",") if name.strip()]) if events else ()
    except ValueError as error:
        raise CommandError(f"--events: {error}") from None
    async with connect(service_at(service)) as client, httpx.AsyncClient(trust_env=False) as http:
        forwarder = listening.Forwarder(http, target, secret, timeout)
        tell = lambda text: click.echo(text, err=True)  # noqa: E731 - what is told beside the lines
        await listening.listen(client, forwarder.forward, types=types, most=most, tell=tell)


@click.command()
@click.argument("delivery_id", metavar="[ID]", required=False)
@click.option("--failed", is_flag=True, help="All that failed and were made since a time.")
@click.option("--since", metavar="TIME", callback=moment, help="With --failed: 15m, 2h, 3d, or 2026-11-22T14:00Z.")
@click.option("--until", metavar="TIME", callback=moment, help="With --failed: made before; else until now.")
@click.option("--endpoint", metavar="ID", help="With --failed: to this one, which is opened if failures closed it.")
@click.option("--type", "types", metavar="NAME", multiple=True, help="With --failed: of this event; may be repeated.")
@click.option(
    "--wait", type=click.FloatRange(min=0), default=30.0, show_default=True, metavar="SECONDS", help="For the outcome."
)
@json_option
@service_options
def resend(
    delivery_id: str | None,
    failed: bool,
    since: str | None,
    until: str | None,
    endpoint: str | None,
    types: tuple[str, ...],
    wait: float,
    as_json: bool,
    service: Where,
) -> None:
    """Send an event once more by the ID of its delivery, or all that failed since a time. Events keep their ids.

    With --failed what is dead gets a new schedule and what waits for its next try goes now; it is done by the service
    even if this command is ended. Endpoints that were switched off are skipped, unless --endpoint names one. That needs
    a key with the scope admin, an ID one with the scope submit.

    Exit codes: 0 delivered or all sent again, 1 it failed again or some were skipped, 2 refused, 3 not reachable.

    \b
    Example:
      dailies resend dlv_01a20c2379a472e79903854a2481a75a
      dailies resend --failed --since 1h
      dailies resend --failed --since 2d --endpoint ep_default
    """
    from pipeline.cli.resending import chosen, resend_failed, resend_one
    from pipeline.cli.target import ask_service

    asked = {"since": since, "until": until, "endpoint": endpoint, "types": list(types) or None}
    chosen(delivery_id, failed=failed, since=since, others={**asked, "since": None})
    if delivery_id is not None:
        wanted = delivery_id
        click.echo(ask_service(service, lambda client: resend_one(client, wanted, wait=wait, as_json=as_json)))
        return
    tell = lambda text: click.echo(text, err=True)  # noqa: E731 - progress, beside the answer
    work = lambda client: resend_failed(client, asked, wait=wait, as_json=as_json, tell=tell)  # noqa: E731
    click.echo(ask_service(service, work))


COMMANDS = (listen, resend)
