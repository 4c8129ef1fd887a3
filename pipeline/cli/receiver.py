"""The development receiver: where its secret comes from, and how a webhook is shown."""

from __future__ import annotations

import time
from collections.abc import Sequence
from urllib.parse import urlsplit

import click

from pipeline.cli.base import CommandError, settings_or_exit
from pipeline.cli.ports import listening
from pipeline.cli.signals import stop_signals
from pipeline.server import HttpServer
from webhooks.receiver import Received, create_receiver
from webhooks.signing import InvalidSecret, parse_secret

DEFAULT_PATH = "/api/webhooks/worker"
SHOWN_HEADERS = ("webhook-id", "webhook-timestamp", "webhook-signature", "content-type", "user-agent")


def default_port() -> int:
    """The port that WEBHOOK_URL names, where webhooks will come."""
    url = urlsplit(settings_or_exit().webhook_url or "http://localhost:3000")
    return url.port or (443 if url.scheme == "https" else 80)


def receiver_secrets(given: Sequence[str]) -> tuple[str, ...]:
    """The secrets to verify with: those given, else the service's own. Raises CommandError."""
    if not given:
        return _own_secrets()
    for secret in given:
        try:
            parse_secret(secret)
        except InvalidSecret as error:
            raise CommandError(f"--secret: {error}") from None
    return tuple(given)


def _own_secrets() -> tuple[str, ...]:
    from pipeline.cli.schema import guarded
    from pipeline.safety import resolve_secrets

    with guarded():
        return resolve_secrets(settings_or_exit()).webhook


async def run_receiver(secrets: Sequence[str], *, host: str, port: int, path: str | None) -> None:
    """Receive and print until a signal. Raises CommandError."""
    receiver = create_receiver(
        secrets,
        on_event=lambda received: click.echo(received_text(received)),
        now=time.time,
        respond=lambda received: None if path in {None, received.path} else 404,
    )
    with stop_signals() as stop, listening(host, port, "--host and --port"):
        async with HttpServer(receiver, host, port) as server:
            click.echo(f"Webhooks are received at http://{host}:{server.port}{path or DEFAULT_PATH}")
            click.echo(f"A page of what came: http://{host}:{server.port}/\n")
            await stop.wait()


def received_text(received: Received) -> str:
    """A webhook as a block of text: verified or what is wrong, its headers, its body."""
    mark = "signature valid" if received.valid else f"NOT VERIFIED: {received.problem}"
    clock = time.strftime("%H:%M:%S", time.localtime(received.at))
    again = " (came before)" if received.duplicate else ""
    headers = [f"  {name}: {received.headers[name]}" for name in SHOWN_HEADERS if name in received.headers]
    return "\n".join([f"{clock}  POST {received.path}  {mark}{again}", *headers, received.text, ""])
