"""Commands of those who want videos: `submit`, `estimate`, `models`, `watch`, `show`, `list`, `cancel`, `delete`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import click

from pipeline.cli.base import run_loop
from pipeline.cli.options import Where, json_option, moment, page_options, service_options

F = TypeVar("F", bound=Callable[..., Any])


def _pairs(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    pairs = dict(value.partition("=")[::2] for value in values)
    if any("=" not in value for value in values):
        raise click.BadParameter("is written NAME=VALUE")
    return pairs


def _object(_ctx: click.Context, _param: click.Parameter, value: str | None) -> dict[str, Any] | None:
    if value is None:
        return None
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise click.BadParameter("is a JSON object, such as '{\"loop\": true}'")
    return found


def request_options(command: F) -> F:
    """What is asked for: the members of a request."""
    for option in reversed(_REQUEST):
        option(command)
    return command


_REQUEST = (
    click.option("--duration", type=int, metavar="SECONDS", help="Length of the video."),
    click.option("--aspect-ratio", metavar="W:H", help="Such as 16:9 or 9:16."),
    click.option("--resolution", metavar="NAME", help="Such as 720p."),
    click.option("--seed", type=int, help="The same seed and prompt give the same video, where the provider can."),
    click.option("--audio", is_flag=True, default=None, help="With sound."),
    click.option("--negative-prompt", metavar="TEXT", help="What should not be in the picture."),
    click.option("--image", metavar="FILE_OR_URL", help="The first frame: PNG, JPEG or WebP."),
    click.option("--last-image", metavar="FILE_OR_URL", help="The last frame, where a model takes one."),
    click.option("--model", help="A model of the provider; `dailies models` lists them."),
    click.option("--provider", help="A provider of the service; else its default."),
    click.option(
        "--fallback",
        multiple=True,
        metavar="PROVIDER[:MODEL]",
        help="Who is asked next, if the one before did not take it; may be given up to five times.",
    ),
    click.option("--extra", metavar="JSON", callback=_object, help="Members for the provider's own body."),
)


@click.command()
@click.argument("prompt")
@click.option("--wait", is_flag=True, help="Wait for the end, then print the URL of the video.")
@request_options
@click.option("--priority", type=click.IntRange(1, 10), help="1 is highest; 5 unless given.")
@click.option("--user", metavar="ID", help="For whom it is: userId.")
@click.option("--generation-id", metavar="ID", help="Your own id for it: generationId.")
@click.option("--metadata", multiple=True, metavar="NAME=VALUE", callback=_pairs, help="Comes back in the webhook.")
@click.option("--idempotency-key", metavar="KEY", help="The same key is never taken twice; made up unless given.")
@click.option("--json", "as_json", is_flag=True, help="Print the whole generation as JSON.")
@service_options
def submit(wait: bool, as_json: bool, service: Where, **asked: Any) -> None:
    """Ask a running service for a video of PROMPT.

    Prints the generation's id, or with --wait the URL of the video; progress goes to standard error. The request is
    repeated with one Idempotency-Key while the service does not answer, so that it is never taken twice.

    Exit codes: 0 taken (--wait: completed), 1 failed or cancelled, 2 refused, 3 not reachable, 130 Ctrl-C.

    \b
    Example:
      dailies submit "a red fox in the snow" --wait
      dailies submit "the sea at night" --duration 8 --aspect-ratio 9:16 --metadata scene=12
      dailies submit "a lighthouse" --provider fal --fallback runway --fallback luma:ray-2
    """
    from pipeline.cli.submit import Submission, build_body, report
    from pipeline.cli.target import service_at

    idempotency_key = asked.pop("idempotency_key")
    submission = Submission(service_at(service), build_body(asked), idempotency_key)
    result = run_loop(submission.run(wait), on_interrupt=submission.goodbye)
    report(result, wait=wait, as_json=as_json)


@click.command()
@click.argument("prompt")
@request_options
@json_option
@service_options
def estimate(as_json: bool, service: Where, **asked: Any) -> None:
    """Say what a video of PROMPT would cost and how long it would take. Nothing is submitted.

    One line for each provider that would be asked, in order. The options are those of `submit`.

    Exit codes: 0, 2 if it would be refused, 3 if the service is not reachable.

    \b
    Example:
      dailies estimate "a red fox in the snow" --duration 8 --resolution 1080p
      dailies estimate "the sea at night" --provider fal --fallback runway --json
    """
    from pipeline.cli.offers import estimate_text
    from pipeline.cli.submit import build_body
    from pipeline.cli.target import ask_service

    body = build_body(asked)
    click.echo(ask_service(service, lambda client: estimate_text(client, body, as_json=as_json)))


@click.command()
@click.argument("provider", required=False)
@json_option
@service_options
def models(provider: str | None, as_json: bool, service: Where) -> None:
    """List the models that can be asked for, what they can do and what a second of video costs.

    Of one PROVIDER, or of all. A model that is not listed is passed on as it is, with a warning.

    Exit codes: 0, 2 if there is no such provider, 3 if the service is not reachable.

    \b
    Example:
      dailies models
      dailies models fal --json
    """
    from pipeline.cli.offers import models_text
    from pipeline.cli.target import ask_service

    click.echo(ask_service(service, lambda client: models_text(client, provider, as_json=as_json)))


@click.command()
@click.argument("generation_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON, with its timeline and deliveries.")
@service_options
def show(generation_id: str, as_json: bool, service: Where) -> None:
    """Show a generation: where it stands, what happened, and how its webhooks fared.

    ID is ours (gen_...) or your own generationId.

    Exit codes: 0, 2 if there is no such generation, 3 if the service is not reachable.

    \b
    Example:
      dailies show gen_01a20c2379a472e79903854a2481a75a
      dailies show order-17 --json
    """
    from pipeline.cli.submit import show_text
    from pipeline.cli.target import service_at

    click.echo(run_loop(show_text(service_at(service), generation_id, as_json=as_json)))


@click.command()
@click.argument("generation_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print the generation as one line of JSON for each change.")
@service_options
def watch(generation_id: str, as_json: bool, service: Where) -> None:
    """Watch a generation until it ends: its stages, progress, and about how long it will take.

    Prints the URL of the video in the end; everything before goes to standard error. A service that restarts is
    waited for. Ctrl-C leaves the generation going.

    Exit codes: 0 completed, 1 failed or cancelled, 2 no such generation, 3 not reachable, 130 Ctrl-C.

    \b
    Example:
      dailies watch gen_01a20c2379a472e79903854a2481a75a
      dailies watch order-17 --json
    """
    from pipeline.cli.submit import report, watch_lines, watch_shown
    from pipeline.cli.target import ask_service

    work = watch_lines if as_json else watch_shown
    ended = ask_service(
        service,
        lambda client: work(client, generation_id),
        on_interrupt=lambda: f"the generation goes on; look at it with: dailies show {generation_id}",
    )
    report(ended, wait=True, as_json=False, quiet=as_json)


@click.command("list")
@click.option("--status", metavar="NAMES", help="Such as processing, or completed,failed.")
@click.option("--user", metavar="ID", help="Of this userId.")
@click.option("--provider", metavar="NAME", help="Made by this provider.")
@click.option("--model", metavar="NAME", help="Made by this model.")
@click.option("--error", metavar="CODE", help="Failed with this code.")
@click.option("--generation-id", metavar="ID", help="With this generationId of your own.")
@click.option("--metadata", multiple=True, metavar="NAME=VALUE", callback=_pairs, help="With this in its metadata.")
@click.option("--since", metavar="TIME", callback=moment, help="Asked for since: 15m, 2h, 3d, or 2026-11-22T14:00Z.")
@click.option("--until", metavar="TIME", callback=moment, help="Asked for before, written likewise.")
@click.option("--oldest", is_flag=True, help="Oldest first, not newest.")
@page_options
@json_option
@service_options
def list_(limit: int, every: bool, as_json: bool, service: Where, **asked: Any) -> None:
    """List generations, newest first.

    Exit codes: 0, 2 if a filter is refused, 3 if the service is not reachable.

    \b
    Example:
      dailies list
      dailies list --status failed --since 1d --all
      dailies list --user ann --json
    """
    from pipeline.cli.listing import generation_query, list_generations
    from pipeline.cli.target import ask_service

    most = None if every else limit
    query = generation_query(asked)
    text = ask_service(service, lambda client: list_generations(client, query, most, as_json=as_json))
    click.echo(text)


@click.command()
@click.argument("generation_ids", metavar="ID...", nargs=-1, required=True)
@json_option
@service_options
def cancel(generation_ids: tuple[str, ...], as_json: bool, service: Where) -> None:
    """Cancel generations. One that the provider has begun is stopped there if it can be; it may be charged.

    Prints how each stands now: `cancelled`, or that the end is under way.

    Exit codes: 0, 2 if one was refused (the others were cancelled), 3 if the service is not reachable.

    \b
    Example:
      dailies cancel gen_01a20c2379a472e79903854a2481a75a
      dailies cancel order-17 order-18
    """
    from pipeline.cli.acts import cancel_each, finish
    from pipeline.cli.target import ask_service

    text, refused = ask_service(service, lambda client: cancel_each(client, generation_ids, as_json=as_json))
    click.echo(text)
    finish(refused)


@click.command()
@click.argument("generation_ids", metavar="ID...", nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@service_options
def delete(generation_ids: tuple[str, ...], yes: bool, as_json: bool, service: Where) -> None:
    """Delete generations that have ended: the video's file, the prompt, and what else was asked. For good.

    What was paid stays in the accounts. Asks first, unless --yes is given.

    Exit codes: 0, 2 if one was refused or nobody said yes, 3 if the service is not reachable.

    \b
    Example:
      dailies delete gen_01a20c2379a472e79903854a2481a75a
      dailies delete order-17 order-18 --yes
    """
    from pipeline.cli.acts import delete_each, finish, sure
    from pipeline.cli.target import ask_service

    sure(f"Delete {', '.join(generation_ids)} with all files, for good?", yes)
    text, refused = ask_service(service, lambda client: delete_each(client, generation_ids, as_json=as_json))
    click.echo(text)
    finish(refused)


COMMANDS = (submit, estimate, models, watch, show, list_, cancel, delete)
