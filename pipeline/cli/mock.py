"""The mock provider in this process: beside the service, or alone."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import click
import httpx

from pipeline.cli.base import CommandError
from pipeline.cli.ports import listening
from pipeline.cli.signals import stop_signals
from pipeline.config import LOOPBACK_HOSTS, Settings
from pipeline.outbound import Outbound
from pipeline.telemetry import emit
from providers.mock.serve import MockServer
from providers.mock.server import create_mock

SERVICE = "dailies-mock"


@asynccontextmanager
async def run_mock(settings: Settings, *, host: str, port: int, speed: float, state: Path) -> AsyncIterator[MockServer]:
    """A mock provider with its own HTTP client for callbacks. Raises OSError when it cannot listen."""
    state.parent.mkdir(parents=True, exist_ok=True)
    outbound = Outbound(settings)
    try:
        async with MockServer(create_mock(state, speed=speed, client=outbound.calls), host=host, port=port) as server:
            yield server
    except sqlite3.DatabaseError as error:
        raise CommandError(f"the mock's accounts in {state} cannot be used: {error}; move the file away") from None
    finally:
        await outbound.aclose()


@asynccontextmanager
async def mock_beside(settings: Settings) -> AsyncIterator[None]:
    """The mock at MOCK_URL, if PROVIDER=mock wants it on this machine and none is there. Raises CommandError."""
    host, port = mock_address(settings)
    if settings.provider != "mock" or host not in LOOPBACK_HOSTS:
        yield
        return
    async with AsyncExitStack() as stack:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        mock = run_mock(settings, host=host, port=port, speed=settings.mock_speed, state=settings.data_dir / "mock.db")
        with listening(host, port, "MOCK_URL"):
            try:
                await stack.enter_async_context(mock)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                await _require_mock(settings.mock_url)
                emit("service.notice", notice=f"a mock provider answers at {settings.mock_url} already: it is used")
            else:
                emit("service.notice", notice=f"the mock provider runs at {settings.mock_url}")
        yield


def mock_address(settings: Settings) -> tuple[str, int]:
    """Host and port of MOCK_URL. Raises CommandError."""
    try:
        parts = urlsplit(settings.mock_url)
        return parts.hostname or "", parts.port or 80
    except ValueError as error:
        raise CommandError(f"MOCK_URL={settings.mock_url}: {error}") from None


async def _require_mock(url: str) -> None:
    """Raises CommandError unless it is a mock provider that holds the port."""
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=3) as client:
            answer = (await client.get(f"{url.rstrip('/')}/healthz")).json()
            found = answer.get("service") if isinstance(answer, dict) else None
    except (httpx.HTTPError, ValueError):
        found = None
    if found != SERVICE:
        raise CommandError(
            f"the port of MOCK_URL={url} is taken by a program that is no mock provider: stop it, or take another port"
        )


async def run_mock_alone(
    settings: Settings, *, host: str, port: int | None, speed: float | None, state: Path | None
) -> None:
    """Run the mock until a signal. Raises CommandError."""
    port = mock_address(settings)[1] if port is None else port
    state, speed = state or settings.data_dir / "mock.db", speed or settings.mock_speed
    with stop_signals() as stop, listening(host, port, "--host and --port"):
        async with run_mock(settings, host=host, port=port, speed=speed, state=state) as server:
            click.echo(f"The mock provider listens at {server.url}, {speed:g} times faster than a real one.")
            click.echo(f"Its accounts are in {state}; what was charged: curl -s {server.url}/ledger")
            click.echo(f"Use it: PROVIDER=mock MOCK_URL={server.url} dailies serve")
            click.echo("Faults on demand: dailies mock --faults")
            await stop.wait()
