"""Commands that speak to a running service: `submit`, `show`."""

from __future__ import annotations

from typing import Any

import click

from pipeline.cli.base import run_loop
from pipeline.cli.options import service_options


def _pairs(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    pairs = dict(value.partition("=")[::2] for value in values)
    if any("=" not in value for value in values):
        raise click.BadParameter("is written NAME=VALUE")
    return pairs


@click.command()
@click.argument("prompt")
@click.option("--wait", is_flag=True, help="Wait for the end, then print the URL of the video.")
@click.option("--duration", type=int, metavar="SECONDS", help="Length of the video.")
@click.option("--aspect-ratio", metavar="W:H", help="Such as 16:9 or 9:16.")
@click.option("--resolution", metavar="NAME", help="Such as 720p.")
@click.option("--seed", type=int, help="The same seed and prompt give the same video, where the provider can.")
@click.option("--audio", is_flag=True, default=None, help="With sound.")
@click.option("--negative-prompt", metavar="TEXT", help="What should not be in the picture.")
@click.option("--image", metavar="FILE_OR_URL", help="The first frame: PNG, JPEG or WebP.")
@click.option("--model", help="A model of the provider.")
@click.option("--provider", help="A provider of the service; else its default.")
@click.option("--priority", type=click.IntRange(1, 10), help="1 is highest; 5 unless given.")
@click.option("--user", metavar="ID", help="For whom it is: userId.")
@click.option("--generation-id", metavar="ID", help="Your own id for it: generationId.")
@click.option("--metadata", multiple=True, metavar="NAME=VALUE", callback=_pairs, help="Comes back in the webhook.")
@click.option("--idempotency-key", metavar="KEY", help="The same key is never taken twice; made up unless given.")
@click.option("--json", "as_json", is_flag=True, help="Print the whole generation as JSON.")
@service_options
def submit(wait: bool, as_json: bool, url: str | None, key: str | None, retry_for: float, **asked: Any) -> None:
    """Ask a running service for a video of PROMPT.

    Prints the generation's id, or with --wait the URL of the video; progress goes to standard error. The request is
    repeated with one Idempotency-Key while the service does not answer, so that it is never taken twice.

    Exit codes: 0 taken (--wait: completed), 1 failed or cancelled, 2 refused, 3 not reachable, 130 Ctrl-C.

    \b
    Example:
      dailies submit "a red fox in the snow" --wait
      dailies submit "the sea at night" --duration 8 --aspect-ratio 9:16 --metadata scene=12
    """
    from pipeline.cli.submit import Submission, build_body, report
    from pipeline.cli.target import service_at

    idempotency_key = asked.pop("idempotency_key")
    submission = Submission(service_at(url, key, retry_for), build_body(asked), idempotency_key)
    result = run_loop(submission.run(wait), on_interrupt=submission.goodbye)
    report(result, wait=wait, as_json=as_json)


@click.command()
@click.argument("generation_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON, with its timeline and deliveries.")
@service_options
def show(generation_id: str, as_json: bool, url: str | None, key: str | None, retry_for: float) -> None:
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

    click.echo(run_loop(show_text(service_at(url, key, retry_for), generation_id, as_json=as_json)))


COMMANDS = (submit, show)
