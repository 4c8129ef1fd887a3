"""A hundred receivers that hang slow nobody: through the whole of our delivery, over real sockets."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.office import Office, office
from benchmarks.receiver import Remote, receiving

pytestmark = pytest.mark.anyio

HANGING = 100
BACKLOG = 4
"""Deliveries that wait for each of them: the first wave holds as many connections as it may."""
HELD = 128
"""Places that they get of the 256: half, since nothing has proved them well."""
SAMPLES, PER_SECOND, ROUNDS = 50, 50.0, 3
NOISE_MS = 50.0
"""Where other tests run beside this one, no p99 below it tells anything. A place that is held is held for seconds."""


@contextmanager
def hanging(count: int) -> Iterator[list[str]]:
    """Ports whose connections are made by the kernel and never answered by anybody."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
            each.listen(64)
        yield [f"http://127.0.0.1:{each.getsockname()[1]}/hook" for each in sockets]
    finally:
        for each in sockets:
            each.close()


async def p99(place: Office, remote: Remote) -> float:
    """Milliseconds from commit to first byte of events to the healthy endpoint, which is the first."""
    handed: dict[str, int] = {}
    began = time.monotonic()
    for number in range(SAMPLES):
        await asyncio.sleep(max(0.0, began + number / PER_SECOND - time.monotonic()))
        (event,), done = await place.post(1)
        handed[event] = done
    async with asyncio.timeout(20):
        while not (times := remote.times()).keys() >= handed.keys():  # noqa: ASYNC110 # another process
            await asyncio.sleep(0.05)
    spent = sorted(max(0.0, (times[event] - at) / 1e6) for event, at in handed.items())
    return spent[int(SAMPLES * 0.99) - 1]


async def test_a_healthy_receiver_does_not_feel_a_hundred_that_hang(tmp_path: Path) -> None:
    with hanging(HANGING) as dead, receiving(1) as remote:
        async with office(tmp_path, [*remote.urls, *dead], webhook_timeout=60, drain_timeout=0.1) as place:
            alone = min([await p99(place, remote) for _ in range(ROUNDS)])
            await place.post(HANGING * BACKLOG, first=1)
            sent = "SELECT count(*) FROM job WHERE status = 'processing'"
            async with asyncio.timeout(20):
                while await place.plant.db.read(lambda tx: tx.value(sent)) < HELD:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            beside = min([await p99(place, remote) for _ in range(ROUNDS)])
            assert beside <= max(2 * alone, NOISE_MS), f"alone {alone:.1f} ms, beside {beside:.1f} ms"
