"""The service that a command speaks to: where it is, with which key, and a client of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlsplit

import click
import httpx

from pipeline.cli.base import CommandError, run_loop, settings_or_exit
from pipeline.cli.client import Client
from pipeline.cli.options import Where
from pipeline.config import LOOPBACK_HOSTS, Settings

T = TypeVar("T")

KEY_FROM = "--key or $DAILIES_KEY"
REQUEST_SECONDS = 15.0
WILDCARDS = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 - read, not bound


@dataclass(frozen=True, slots=True)
class Target:
    """A service, the key for it and where that came from, and the seconds for which an answer is sought."""

    url: str
    key: str | None
    key_from: str | None
    patience: float


def service_at(where: Where) -> Target:
    """The service that the options mean; what they leave out comes from the settings. Raises CommandError."""
    if where.url and where.key:
        return Target(where.url, where.key, KEY_FROM, where.retry_for)
    settings = settings_or_exit()
    found = settings.api_key[0].get_secret_value() if settings.api_key else None
    key_from = KEY_FROM if where.key else "API_KEY in the environment or .env"
    return Target(where.url or local_url(settings), where.key or found, key_from, where.retry_for)


def local_url(settings: Settings) -> str:
    """Where a service with these settings listens, as this machine reaches it."""
    host = "localhost" if settings.host in LOOPBACK_HOSTS | WILDCARDS else settings.host
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


@asynccontextmanager
async def connect(target: Target) -> AsyncIterator[Client]:
    """A client of the service; the environment's proxies are used for services on other machines only."""
    try:
        nearby = urlsplit(target.url).hostname in LOOPBACK_HOSTS
    except ValueError as error:
        raise CommandError(f"--url {target.url}: {error}") from None
    told: set[str] = set()

    def tell(reason: str) -> None:
        if reason not in told:
            told.add(reason)
            click.echo(f"{reason}; trying again", err=True)

    async with httpx.AsyncClient(timeout=REQUEST_SECONDS, trust_env=not nearby) as http:
        yield Client(http, target.url, key=target.key, key_from=target.key_from, patience=target.patience, on_wait=tell)


def ask_service(
    where: Where, work: Callable[[Client], Awaitable[T]], *, on_interrupt: Callable[[], str | None] = lambda: None
) -> T:
    """Do something with the service that the options mean, from start to end. Raises CommandError."""
    target = service_at(where)

    async def run() -> T:
        async with connect(target) as client:
            return await work(client)

    return run_loop(run(), on_interrupt=on_interrupt)
