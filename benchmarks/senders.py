"""Ways to send signed webhooks, 64 at once: ours, and two that one writes in an afternoon."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
from standardwebhooks import Webhook

from pipeline.config import Settings
from pipeline.outbound import Exchange, Outbound
from webhooks.sender import build_headers, send

SECRET = "whsec_" + "QUJD" * 8
BODY = b'{"type":"generation.completed","data":{"prompt":"%s"}}' % (b"x" * 1000)

SendOne = Callable[[str, str], Awaitable[bool]]
"""Sends one event, by its id, to a URL; whether it was taken."""


@asynccontextmanager
async def ours(_folder: Path) -> AsyncIterator[SendOne]:
    """Our sender over the client that ships, without a database."""
    outbound = Outbound(Settings(_env_file=None, allowed_networks="127.0.0.0/8"))

    async def one(event: str, url: str) -> bool:
        headers = build_headers([SECRET], event_id=event, timestamp=int(time.time()), body=BODY, attempt=1)
        result = await send(
            outbound.webhooks, url, headers=headers, body=BODY, timeout=15, now=time.time, exchange=Exchange()
        )
        return result.status == 200

    try:
        yield one
    finally:
        await outbound.aclose()


@asynccontextmanager
async def shared_client(_folder: Path) -> AsyncIterator[SendOne]:
    """One httpx client for everything, and the official library's signature."""
    async with httpx.AsyncClient(timeout=15) as client:

        async def one(event: str, url: str) -> bool:
            return (await client.post(url, content=BODY, headers=_signed(event))).status_code == 200

        yield one


@asynccontextmanager
async def client_each(folder: Path) -> AsyncIterator[SendOne]:
    """A new httpx client per delivery, as its documentation begins, and a row stored after each."""
    store = sqlite3.connect(folder / f"each-{time.monotonic_ns()}.db", isolation_level=None)
    store.execute("PRAGMA journal_mode=WAL")
    store.execute("CREATE TABLE attempt (event TEXT, status INTEGER, response TEXT)")

    async def one(event: str, url: str) -> bool:
        async with httpx.AsyncClient(timeout=15) as client:
            answer = await client.post(url, content=BODY, headers=_signed(event))
        store.execute("INSERT INTO attempt VALUES (?, ?, ?)", (event, answer.status_code, answer.text[:2048]))
        return answer.status_code == 200

    try:
        yield one
    finally:
        store.close()


def _signed(event: str) -> dict[str, str]:
    now = datetime.now(UTC)
    return {
        "content-type": "application/json",
        "webhook-id": event,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(SECRET).sign(event, now, BODY.decode()),
    }


async def rate(one: SendOne, urls: list[str], *, in_flight: int, seconds: float) -> float:
    """Deliveries per second with so many under way at once, after a warm-up of a fifth of the time."""
    numbers, taken = itertools.count(), 0
    begin = time.monotonic() + seconds / 5
    end = begin + seconds

    async def worker() -> None:
        nonlocal taken
        while (now := time.monotonic()) < end:
            number = next(numbers)
            assert await one(f"evt_{number}", urls[number % len(urls)])
            taken += begin <= now

    await asyncio.gather(*(worker() for _ in range(in_flight)))
    return taken / (time.monotonic() - begin)


async def first_bytes(one: SendOne, urls: list[str], *, per_second: float, seconds: float) -> dict[str, int]:
    """Send so many a second, evenly; when each was handed over, in nanoseconds of the monotonic clock."""
    handed: dict[str, int] = {}
    tasks = []
    began = time.monotonic()
    for number in range(int(per_second * seconds)):
        await asyncio.sleep(max(0.0, began + number / per_second - time.monotonic()))
        event = f"evt_{time.monotonic_ns()}"
        handed[event] = time.monotonic_ns()
        tasks.append(asyncio.create_task(_must(one(event, urls[number % len(urls)]))))
    await asyncio.gather(*tasks)
    return handed


async def _must(sending: Awaitable[bool]) -> None:
    assert await sending
