"""Commands for who writes a receiver: `trigger` sends events, `verify` explains signatures, `sink` misbehaves."""

from __future__ import annotations

import time
from pathlib import Path

import click

from pipeline.cli.base import run_loop, settings_or_exit
from pipeline.cli.options import json_option, moment
from webhooks.events import EventType

FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("request", type=FILE, required=False)
@click.option("--secret", "secrets", multiple=True, help="What the receiver verifies with; else the service's own.")
@click.option("--header", "-H", "headers", multiple=True, metavar="'NAME: VALUE'", help="A header; may be repeated.")
@click.option("--body", type=FILE, help="The body's bytes, if they are kept apart.")
@click.option("--at", callback=moment, metavar="TIME", help="When it arrived, such as 5m or 2026-11-22T14:00:00Z.")
@json_option
def verify(
    request: Path | None,
    secrets: tuple[str, ...],
    headers: tuple[str, ...],
    body: Path | None,
    at: str | None,
    as_json: bool,
) -> None:
    """Say why a webhook's signature does not verify: which of key, id, timestamp and body is wrong.

    Reads the REQUEST as it was saved, or standard input: headers, an empty line, the body; also a curl command, what
    `dailies receive` prints, or JSON with `headers` and `body`. Tries what receivers do wrong (trimmed or parsed
    bodies, secrets not decoded, clocks) until the signature fits. Nothing is sent, and no secret is printed.

    Exit codes: 0 if it verifies, 1 if it does not, 2 if that is no request.

    \b
    Example:
      dailies verify request.txt
      dailies verify --secret "$WEBHOOK_SECRET" < request.txt
      dailies receive | tee log.txt                      and later, with one request cut out of it:
      dailies verify --at 2026-11-22T14:00:00Z request.txt
    """
    from pipeline.cli.verify import diagnosis_json, diagnosis_text, examined
    from pipeline.cli.words import json_text

    found = examined(request, secrets=secrets, headers=headers, body=body, at=at, now=time.time())
    click.echo(json_text(diagnosis_json(found)) if as_json else diagnosis_text(found))
    if not found.verifies:
        raise SystemExit(1)


@click.command()
@click.option(
    "--behaviour", "-b", "behaviours", multiple=True, metavar="LIST", help="Such as slow-body,status=503:0.3."
)
@click.option("--list", "listed", is_flag=True, help="Print every behaviour, and exit.")
@click.option("--port", type=click.IntRange(0, 65535), help="0: a free one; else the port of WEBHOOK_URL.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen.")
@click.option("--secret", "secrets", multiple=True, help="whsec_...; else WEBHOOK_SECRET, else DATA_DIR/secrets.")
@click.option("--seed", type=int, help="Choose the same way each time.")
@click.option("--ca-file", type=FILE, help="Write the authority of its certificates here, for clients to trust.")
def sink(
    behaviours: tuple[str, ...],
    listed: bool,
    port: int | None,
    host: str,
    secrets: tuple[str, ...],
    seed: int | None,
    ca_file: Path | None,
) -> None:
    """Be a bad receiver: slow, silent, broken, huge, redirecting. For seeing what becomes of webhooks then.

    Prints a line for every request, with whether its signature was right. One port speaks http and https.

    Exit codes: 0 after Ctrl-C, 2 if it cannot start.

    \b
    Example:
      dailies sink --list
      dailies sink --behaviour status=503,retry-after=20
      dailies sink --behaviour slow-body,status=503:0.3 --port 4000
    """
    from pipeline.cli.receiver import default_port, receiver_secrets
    from pipeline.cli.sink import behaviour_table, run_sink, wanted

    if listed:
        click.echo(behaviour_table())
        return
    spec, chosen = wanted(behaviours), default_port() if port is None else port
    known = receiver_secrets(secrets)
    run_loop(run_sink(spec, host=host, port=chosen, secrets=known, seed=seed, ca_file=ca_file))


@click.command()
@click.argument("event", metavar="EVENT", type=click.Choice([each.value for each in EventType]))
@click.option("--set", "sets", multiple=True, metavar="data.NAME=VALUE", help="Change what it says; may be repeated.")
@click.option("--to", metavar="URL", help="Where to send it; else WEBHOOK_URL.")
@click.option("--secret", "secrets", multiple=True, help="What to sign with; else the service's own.")
@click.option("--times", type=click.IntRange(1, 100), default=1, show_default=True, help="So often, with the same id.")
@click.option("--dry-run", is_flag=True, help="Print the request instead of sending it.")
@json_option
def trigger(
    event: str,
    sets: tuple[str, ...],
    to: str | None,
    secrets: tuple[str, ...],
    times: int,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Send an event of this type, signed and sent as real ones are, and say what the answer means.

    EVENT is generation.completed, .failed, .cancelled, .processing, .progress, .held or .expired, or webhook.test.
    It tells of a generation that does not exist, and its id begins with evt_test. Run it in the service's directory:
    the secret and the allowed addresses are the service's. --times 2 shows whether the receiver knows repeats.

    Exit codes: 0 if it was taken, 1 if not, 2 if it cannot be sent.

    \b
    Example:
      dailies trigger generation.completed
      dailies trigger generation.failed --set data.error.code=timeout --to http://localhost:3000/hook
      dailies trigger generation.progress --dry-run | dailies verify
    """
    from pipeline.cli.trigger import prepared, request_text, result_json, result_text, sent, went
    from pipeline.cli.words import json_text

    made = prepared(event, sets, to, secrets, time.time())
    if dry_run:
        click.echo(request_text(made, time.time()), nl=False)
        return
    results = run_loop(sent(made, settings_or_exit(), times))
    click.echo(json_text(result_json(made, results)) if as_json else result_text(made, results))
    if not went(results):
        raise SystemExit(1)


COMMANDS = (trigger, verify, sink)
