"""A worker process is killed with -9 at boundaries of its turns: one charge, one stored video, one event, every time.

The whole sweep is `make crashes` (`tests.crash_sweep`). Here: all of a plain generation on SQLite with idempotency keys
and on PostgreSQL without any recovery, and of all other stories and modes a sample, which changes with the day.
"""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from tests.crash_sweep import COMPLETED, SENT, UNSENT, Cell, Result, Sweep, kinds, open_sweep, wrong
from tests.pipeline.engines import PostgresServer, start_postgres

pytestmark = pytest.mark.anyio

SAMPLE = 4
PLAIN = [("plain", "sqlite", "key"), ("plain", "postgres", "none")]


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    started = start_postgres()
    yield started
    started.stop()
    shutil.rmtree(started.folder)


async def sampled(sweep: Sweep, dice: random.Random) -> list[Cell]:
    """A boundary of each of a few kinds."""
    chosen = dice.sample([kind for kind in kinds() if kind not in PLAIN], SAMPLE)
    return [dice.choice(cells) for cells in await asyncio.gather(*(sweep.cells(*kind) for kind in chosen))]


def check(results: dict[Cell, Result]) -> None:
    assert wrong(results) == []


async def test_with_idempotency_keys_every_crash_ends_completed_and_charged_once(tmp_path):
    async with open_sweep(tmp_path, None) as sweep:
        results = await sweep.results(await sweep.cells("plain", "sqlite", "key"))
    assert len(results) >= 20
    steps = {cell.boundary.split()[1] for cell in results}
    assert steps == {"submit", "poll", "store", "deliver"}
    assert {*UNSENT, *SENT} <= {cell.boundary for cell in results}
    check(results)
    assert all(result.end == COMPLETED for result in results.values())


async def test_without_any_recovery_a_crash_around_the_paid_call_is_told_and_never_repeated(tmp_path, server):
    async with open_sweep(tmp_path, server) as sweep:
        results = await sweep.results(await sweep.cells("plain", "postgres", "none"))
    check(results)
    failed = {cell.boundary: result.end["charges"] for cell, result in results.items() if result.end["code"]}
    assert failed == dict.fromkeys(UNSENT, 0) | dict.fromkeys(SENT, 1)


async def test_a_sample_of_all_other_stories_databases_and_modes_ends_as_it_should(tmp_path, server):
    seed = datetime.now(UTC).strftime("%Y-%m-%d")
    print(f"the sample of {seed}")
    async with open_sweep(tmp_path, server) as sweep:
        results = await sweep.results(await sampled(sweep, random.Random(seed)))
    check(results)
