"""Commands that play the others' parts: `mock` (the provider), `receive` (the app), `demo` (everyone)."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.cli import hooks
from pipeline.cli.base import CommandError, run_loop, settings_or_exit

DEMO_PROMPT = "a red fox in the snow"


@click.command()
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Where to listen; else the port of MOCK_URL. 0: a free one."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen.")
@click.option("--speed", type=click.FloatRange(min=0, min_open=True), help="30 makes 30 s take 1 s; else MOCK_SPEED.")
@click.option(
    "--state", type=click.Path(path_type=Path, dir_okay=False), help="Its SQLite file; else DATA_DIR/mock.db."
)
@click.option("--faults", is_flag=True, help="Print the faults that a prompt can ask for, and exit.")
def mock(port: int | None, host: str, speed: float | None, state: Path | None, faults: bool) -> None:
    """Run the mock provider alone: it renders real MP4s, keeps a ledger of charges, and fails on demand.

    `dailies serve` starts one by itself; run it alone to watch it, or to restart one without the other.

    Exit codes: 0 after Ctrl-C, 2 if it cannot start.

    \b
    Example:
      dailies mock --speed 10
      dailies mock --faults
      curl -s http://127.0.0.1:8001/ledger
    """
    if faults:
        click.echo(_fault_table())
        return
    from pipeline.cli.mock import run_mock_alone

    run_loop(run_mock_alone(settings_or_exit(), host=host, port=port, speed=speed, state=state), fast=True)


def _fault_table() -> str:
    from providers.mock.faults import FAULTS, SECONDS

    width = max(map(len, FAULTS))
    rows = [f"  {name:<{width}}  {meaning}" for name, meaning in FAULTS.items()]
    return "\n".join(
        [
            "Write [[NAME]] in a prompt, or [[NAME:NUMBER]]: so many times, or so many seconds for "
            + " and ".join(sorted(SECONDS))
            + ".",
            "",
            *rows,
            "",
            "Example: dailies submit 'a red fox [[429:2]]' --wait",
            'Without touching prompts: PUT /faults with a list such as [{"fault": "503-poll", "count": 3}].',
        ]
    )


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), help="0: a free one; else the port of WEBHOOK_URL.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen.")
@click.option("--path", help="Answer 404 on any other path, such as /api/webhooks/worker; else any path is taken.")
@click.option("--secret", "secrets", multiple=True, help="whsec_...; else WEBHOOK_SECRET, else DATA_DIR/secrets.")
def receive(port: int | None, host: str, path: str | None, secrets: tuple[str, ...]) -> None:
    """Receive webhooks: verify each and print it. For development.

    Answers 204 to what verifies and 401 to what does not; its page shows what came. In the same directory
    as `dailies serve` it knows the secret by itself.

    Exit codes: 0 after Ctrl-C, 2 if it cannot start.

    \b
    Example:
      dailies receive
      dailies receive --port 4000 --secret whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw
    """
    from pipeline.cli.receiver import default_port, receiver_secrets, run_receiver

    chosen = default_port() if port is None else port
    run_loop(run_receiver(receiver_secrets(secrets), host=host, port=chosen, path=path), fast=True)


@click.command()
@click.argument("prompt", default=DEMO_PROMPT)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("data/demo"),
    show_default=True,
    help="Everything is kept here; made anew each time.",
)
@click.option("--keep-running", is_flag=True, help="Leave the service running until Ctrl-C.")
def demo(prompt: str, data_dir: Path, keep_running: bool) -> None:
    """Make one video from PROMPT with everything in place: API, worker, mock provider and webhook receiver.

    Uses free ports and its own directory, and neither your environment nor your .env.

    Exit codes: 0 only if the webhook arrived, verified, and the file is a playable video; else 1.

    \b
    Example:
      dailies demo
      dailies demo "the sea at night"
    """
    if not prompt.strip():
        raise CommandError("PROMPT is empty")
    from pipeline.cli.demo import run_demo

    run_loop(run_demo(prompt, data_dir, keep_running=keep_running), fast=True)


COMMANDS = (mock, receive, *hooks.COMMANDS, demo)
