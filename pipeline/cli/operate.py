"""Commands of those who look after a service: what is dead, delivered, and how it is going."""

from __future__ import annotations

from typing import Any

import click

from pipeline.cli.options import Where, json_option, moment, page_options, service_options

allow_repay_option = click.option("--allow-repay", is_flag=True, help="Pay again for what may have been paid before.")
dry_run_option = click.option("--dry-run", is_flag=True, help="Say what it would do and cost, and do nothing.")
yes_option = click.option("--yes", is_flag=True, help="Do not ask.")


@click.command()
@click.option("--watch", is_flag=True, help="Again and again, until Ctrl-C.")
@click.option(
    "--every", type=click.FloatRange(min=0.2), default=2.0, show_default=True, metavar="SECONDS", help="With --watch."
)
@json_option
@service_options
def stats(watch: bool, every: float, as_json: bool, service: Where) -> None:
    """Show what waits, what runs, what is stuck and why; for the operator also lanes, workers and the last hour.

    With --watch --json each look is one line of JSON. Needs a key with the scope admin.

    Exit codes: 0, 2 if the key may not, 3 if the service is not reachable, 130 Ctrl-C with --watch.

    \b
    Example:
      dailies stats
      dailies stats --watch
    """
    from pipeline.cli.stats import once, watch_live
    from pipeline.cli.target import ask_service

    if watch:
        ask_service(service, lambda client: watch_live(client, every, as_json=as_json))
    click.echo(ask_service(service, lambda client: once(client, as_json=as_json)))


@click.command()
@click.argument("generation_id", metavar="ID")
@click.option(
    "--from",
    "start",
    type=click.Choice(["auto", "store", "poll", "resolve", "submit"]),
    default="auto",
    show_default=True,
    help="Where it goes on; auto is where it failed. Only submit can pay again.",
)
@allow_repay_option
@dry_run_option
@yes_option
@json_option
@service_options
def redrive(generation_id: str, start: str, as_json: bool, service: Where, **terms: bool) -> None:
    """Let a failed generation go on where it failed, as a new run. Says what that costs before it is done.

    What was paid for is not paid for again unless --allow-repay is given: a video that was made is stored, work that
    was taken is waited for. On a terminal it asks before anything is paid, unless --yes is given.

    Exit codes: 0 it goes on, 2 refused (would pay again, cannot go on, nobody said yes), 3 not reachable.

    \b
    Example:
      dailies redrive gen_01a20c2379a472e79903854a2481a75a --dry-run
      dailies redrive order-17 --allow-repay
    """
    from pipeline.cli.redriving import Terms, redrive_one
    from pipeline.cli.target import ask_service

    text = ask_service(
        service, lambda client: redrive_one(client, generation_id, start, Terms(**terms), as_json=as_json)
    )
    click.echo(text)


@click.group(invoke_without_command=True)
@click.option("--group", "grouped", is_flag=True, help="One line per kind, lane and error.")
@click.option("--kind", type=click.Choice(["generation", "delivery"]), help="Only these.")
@click.option("--error", metavar="CODE", help="Only with this error.")
@click.option("--provider", metavar="NAME", help="Only of this provider.")
@click.option("--endpoint", metavar="ID", help="Only to this endpoint.")
@page_options
@json_option
@service_options
@click.pass_context
def dead(
    ctx: click.Context,
    /,
    limit: int,
    every: bool,
    as_json: bool,
    service: Where,
    **asked: Any,
) -> None:
    """List what is dead: given up after every attempt, those that died last first.

    Needs a key with the scope admin.

    Exit codes: 0, 2 if a filter is refused, 3 if the service is not reachable.

    \b
    Example:
      dailies dead
      dailies dead --group
      dailies dead redrive --error provider_unavailable
    """
    if ctx.invoked_subcommand is not None:
        return
    from pipeline.cli.listing import list_dead
    from pipeline.cli.target import ask_service

    most = None if every else limit
    click.echo(ask_service(service, lambda client: list_dead(client, asked, most, as_json=as_json)))


@dead.command("redrive")
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Everything that is dead.")
@click.option("--error", metavar="CODE", help="Those with this error.")
@click.option("--kind", type=click.Choice(["generation", "delivery"]), help="Those of this kind.")
@click.option("--lane", metavar="NAME", help="Those of this lane, such as provider:mock.")
@allow_repay_option
@dry_run_option
@yes_option
@json_option
@service_options
def dead_redrive(
    ids: tuple[str, ...],
    everything: bool,
    error: str | None,
    kind: str | None,
    lane: str | None,
    as_json: bool,
    service: Where,
    **terms: bool,
) -> None:
    """Let dead generations and deliveries go on: by ID, by what they have in common, or all.

    What would be paid for a second time stays where it is unless --allow-repay is given. On a terminal it asks before
    anything is paid, unless --yes is given.

    Exit codes: 0, 1 if some could not go on, 2 refused, 3 not reachable.

    \b
    Example:
      dailies dead redrive gen_01a20c2379a472e79903854a2481a75a
      dailies dead redrive --error webhook_refused
      dailies dead redrive --all --dry-run
    """
    chosen = {"ids": list(ids) or None, "errorCode": error, "kind": kind, "lane": lane, "all": everything or None}
    given = {name: value for name, value in chosen.items() if value is not None}
    if not given or (len(given) > 1 and given.keys() & {"ids", "all"}):
        raise click.UsageError("say which: IDs, or --error, --kind and --lane, or --all")
    from pipeline.cli.redriving import Terms, redrive_dead
    from pipeline.cli.target import ask_service

    done = ask_service(service, lambda client: redrive_dead(client, given, Terms(**terms), as_json=as_json))
    click.echo(done.text)
    done.complain()


@click.command()
@click.argument("delivery_id", metavar="[ID]", required=False)
@click.option("--state", type=click.Choice(["pending", "delivered", "dead", "cancelled"]), help="Only these.")
@click.option("--endpoint", metavar="ID", help="Only to this endpoint.")
@click.option("--type", "kind", metavar="NAME", help="Only of this event type, such as generation.failed.")
@click.option("--generation", metavar="ID", help="Only of this generation, by our id.")
@click.option("--since", metavar="TIME", callback=moment, help="Made since: 15m, 2h, 3d, or 2026-11-22T14:00Z.")
@page_options
@json_option
@service_options
def deliveries(
    delivery_id: str | None,
    limit: int,
    every: bool,
    as_json: bool,
    service: Where,
    **asked: Any,
) -> None:
    """List webhook deliveries, newest first; with an ID show that one, as `dailies delivery` does.

    Exit codes: 0, 2 if there is no such delivery or a filter is refused, 3 if the service is not reachable.

    \b
    Example:
      dailies deliveries --state dead
      dailies deliveries --generation gen_01a20c2379a472e79903854a2481a75a
      dailies deliveries dlv_01a20c2379a472e79903854a2481a75a
    """
    from pipeline.cli.delivery import tell
    from pipeline.cli.listing import list_deliveries
    from pipeline.cli.target import ask_service

    most = None if every else limit
    if delivery_id is not None:
        wanted = delivery_id
        click.echo(ask_service(service, lambda client: tell(client, wanted, headers=False, as_json=as_json)))
    else:
        click.echo(ask_service(service, lambda client: list_deliveries(client, asked, most, as_json=as_json)))


@click.command()
@click.argument("reference", metavar="ID")
@click.option("--headers", is_flag=True, help="Also the headers that were sent and answered.")
@json_option
@service_options
def delivery(reference: str, headers: bool, as_json: bool, service: Where) -> None:
    """Say why a webhook did not arrive: how it stands, what it waits for, every attempt, and what to do.

    ID is that of a delivery, or of a generation (either one): then all its deliveries are told, oldest first.

    Exit codes: 0, 2 if there is none, 3 if the service is not reachable.

    \b
    Example:
      dailies delivery dlv_01a20c2379a472e79903854a2481a75a --headers
      dailies delivery order-17
    """
    from pipeline.cli.delivery import tell
    from pipeline.cli.target import ask_service

    click.echo(ask_service(service, lambda client: tell(client, reference, headers=headers, as_json=as_json)))


@click.command()
@click.argument("delivery_ids", metavar="ID...", nargs=-1, required=True)
@json_option
@service_options
def redeliver(delivery_ids: tuple[str, ...], as_json: bool, service: Where) -> None:
    """Send the event of a delivery once more, with the same webhook-id, as a delivery of its own.

    Prints the new delivery's id.

    Exit codes: 0, 2 if one was refused (the others are sent), 3 if the service is not reachable.

    \b
    Example:
      dailies redeliver dlv_01a20c2379a472e79903854a2481a75a
    """
    from pipeline.cli.acts import finish, redeliver_each
    from pipeline.cli.target import ask_service

    text, refused = ask_service(service, lambda client: redeliver_each(client, delivery_ids, as_json=as_json))
    click.echo(text)
    finish(refused)


@click.command()
@click.option(
    "--by",
    type=click.Choice(["user", "provider", "model", "day"]),
    default="provider",
    show_default=True,
    help="What it is added up by.",
)
@click.option("--since", metavar="TIME", callback=moment, help="Submitted since: 24h, 7d, or 2026-11-22T14:00Z.")
@click.option("--until", metavar="TIME", callback=moment, help="Submitted before.")
@click.option("--tenant", metavar="NAME", help="Of this tenant; for the operator, who else sees all.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="At most so many groups.")
@json_option
@service_options
def usage(as_json: bool, service: Where, **asked: Any) -> None:
    """Add up what was submitted and what it cost, of the last 30 days unless asked otherwise.

    NOT SETTLED are the list prices of calls under way, and of those that may have been charged. Needs a key with the
    scope admin.

    Exit codes: 0, 2 if a time is refused or the key may not, 3 if the service is not reachable.

    \b
    Example:
      dailies usage --by provider --since 7d
      dailies usage --by user --limit 10
    """
    from pipeline.cli.target import ask_service
    from pipeline.cli.usage import usage_text

    click.echo(ask_service(service, lambda client: usage_text(client, asked, as_json=as_json)))


COMMANDS = (stats, dead, redrive, deliveries, delivery, redeliver, usage)
