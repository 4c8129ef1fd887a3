"""How long providers take: learned from the newest, kept in memory, read seldom and by an index."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest

from pipeline.db import Database, DatabaseUnavailable, Row, Tx
from pipeline.durations import ENOUGH, MOST_KEYS, REFRESH_SECONDS, SAMPLES, Durations, Key, key_of, learn, taken
from pipeline.workflow.policy import Policies, pace_of
from providers.base import Capabilities
from providers.catalogue import load_catalogue
from tests.house import eventually
from tests.pipeline.engines import transaction

pytestmark = pytest.mark.anyio

KEY = Key("mock", "mock-1", 8)
CATALOGUE = load_catalogue("mock")


class Asked:
    """A provider as far as durations go."""

    def __init__(self, typical: float = 30.0) -> None:
        models = {name: replace(model, typical_seconds=typical) for name, model in CATALOGUE.models.items()}
        self.capabilities = Capabilities(replace(CATALOGUE, models=models))


class Watch:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def finish(tx: Tx, number: int, seconds: float, *, key: Key = KEY, at: int = 0) -> None:
    row: Row = {
        "id": f"gen_{number:032x}",
        "tenant_id": "default",
        "request_hash": "",
        "prompt": "",
        "parameters": "{}",
        "labels": "{}",
        "provider": key.provider,
        "model": key.model,
        "duration": key.duration,
        "priority": 5,
        "status": "failed",
        "run": 1,
        "sequence": 1,
        "created_at": 0,
        "updated_at": 0,
        "accepted_at": at,
        "generated_at": at + int(seconds * 1000),
    }
    tx.insert("generation", row)


def durations(db: Database, watch: Watch | None = None) -> Durations:
    return Durations(db, {"mock": Asked()}, watch or Watch())


@contextmanager
def counted(db: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """How often the database is read."""
    reads: list[object] = []
    real = db.read

    async def read(work):
        reads.append(work)
        return await real(work)

    with monkeypatch.context() as patch:
        patch.setattr(db, "read", read)
        yield reads


@pytest.mark.parametrize(
    ("seconds", "p50", "p90"),
    [
        ([1, 2, 3, 4, 5], 3, 5),
        (range(1, 11), 5, 9),
        (range(1, 101), 50, 90),
        ([7] * 5, 7, 7),
        ([9, 1, 1, 1, 1], 1, 9),
    ],
)
def test_ranks(seconds, p50, p90):
    found = learn([each * 1000 for each in seconds])
    assert found is not None
    assert (found.p50, found.p90, found.samples, found.basis) == (p50, p90, len(seconds), "history")


def test_a_few_are_no_history():
    assert learn([1000] * (ENOUGH - 1)) is None


def test_a_night_of_ours_is_believed_up_to_a_bound():
    found = learn([8 * 3600 * 1000] * ENOUGH, usual=120.0)
    assert found is not None
    assert (found.p50, found.p90, found.soon) == (480, 480, 480)


@pytest.mark.parametrize("night", [ENOUGH, SAMPLES])
@pytest.mark.parametrize(("true", "most"), [(60.0, 40), (300.0, 40), (5.0, 90)])
def test_looks_that_came_too_late_do_not_make_the_next_ones_late(night, true, most):
    """What we measure is when we looked: one night of ours must not hold itself up by that."""
    catalogue = load_catalogue("runway")
    usual = catalogue.models[catalogue.default_model].typical_seconds
    policies = Policies(
        submit_attempts=3,
        store_attempts=3,
        retry_base=2,
        retry_max=60,
        poll_interval=10,
        poll_interval_max=60,
        generation_timeout=1200,
        queue_timeout=86400,
        submit_timeout=60,
        late_answer=30,
        on_unknown="fail",
        max_submissions=3,
        lane_pause=60,
    )
    seen, late = [8 * 3600 * 1000] * night, []
    while len(late) < most + 100:
        known = learn(seen[:SAMPLES], usual)
        assert known is not None
        pace = pace_of(catalogue, None, known.p50, known.soon)
        look = policies.first_poll(pace)
        assert look <= 0.8 * 1.5 * usual
        late.append(max(0.0, look - max(true, catalogue.poll_seconds)))
        while look < true:
            look += policies.next_poll(pace, elapsed=look, asked=None, jitter=0.5)
        seen.insert(0, int(look * 1000))
    assert max(late[most:]) == 0


async def test_what_was_found_again_or_redriven_tells_nothing_of_the_provider(db):
    def write(tx: Tx) -> None:
        for number in (1, 2, 3):
            finish(tx, number, number, at=1_000_000)
            tx.insert(
                "submission",
                {
                    "id": f"sub_{number}",
                    "generation_id": f"gen_{number:032x}",
                    "tenant_id": "default",
                    "run": 1,
                    "provider": "mock",
                    "token": f"sub_{number}",
                    "outcome": "succeeded",
                    "operation_id": f"op_{number}",
                    "carries": "",
                    "billed": "yes",
                    "estimate_micros": 1,
                    "intended_at": 1_000_000 - (600_000 if number == 1 else 1000),
                },
            )
        tx.run("UPDATE generation SET redriven_at = 1 WHERE id LIKE '%2'")

    await db.write(write)
    assert await db.read(lambda tx: taken(tx, KEY)) == [3000]


async def test_the_newest_count_and_no_others(db):
    def write(tx: Tx) -> None:
        for number in range(SAMPLES + 50):
            finish(tx, number, 100 if number < 50 else 10, at=number * 1_000_000)
        finish(tx, 900, 77, key=replace(KEY, duration=4))
        finish(tx, 901, 77, key=replace(KEY, model="mock-2"))
        finish(tx, 902, 77, key=replace(KEY, provider="fal"))

    await db.write(write)
    assert await db.read(lambda tx: taken(tx, KEY)) == [10_000] * SAMPLES


async def test_what_has_no_model_or_length_is_a_kind_of_its_own(db):
    nameless = Key("fal", None, None)
    await db.write(lambda tx: [finish(tx, number, 5, key=nameless) for number in range(3)])
    await db.write(lambda tx: finish(tx, 9, 7, key=Key("fal", None, 8)))
    assert await db.read(lambda tx: taken(tx, nameless)) == [5000] * 3


async def test_times_that_cannot_be_are_left_out(db):
    def write(tx: Tx) -> None:
        finish(tx, 1, -5, at=10_000)
        finish(tx, 2, 5)
        finish(tx, 3, 6)
        tx.run("UPDATE generation SET accepted_at = NULL WHERE id LIKE '%3'")

    await db.write(write)
    assert await db.read(lambda tx: taken(tx, KEY)) == [5000]


async def test_the_catalogue_tells_until_history_does(db):
    watch = Watch()
    known = durations(db, watch)
    first = known.expected(KEY)
    assert (first.p50, first.p90, first.samples, first.basis) == (30.0, 60.0, 0, "catalogue")
    await db.write(lambda tx: [finish(tx, number, 2 + number) for number in range(4)])
    await known.refresh()
    few = known.expected(KEY)
    assert (few.p50, few.samples, few.basis) == (30.0, 4, "catalogue")
    await db.write(lambda tx: finish(tx, 9, 20))
    watch.now += REFRESH_SECONDS
    known.learned(KEY)
    await known.refresh()
    assert (known.expected(KEY).basis, known.expected(KEY).p90) == ("history", 20.0)
    assert known.learned(KEY) == known.expected(KEY)


async def test_who_is_not_known_takes_a_minute(db):
    known = durations(db)
    assert known.expected(Key("nobody", "x", 5)).p50 == 60.0
    assert known.expected(Key("mock", "mock-99", 5)).p50 == 60.0


async def test_it_is_read_once_a_minute_and_only_for_who_asks(db, monkeypatch):
    watch = Watch()
    known = durations(db, watch)
    known.learned(KEY)
    with counted(db, monkeypatch) as reads:
        await known.refresh()
        await known.refresh()
        assert len(reads) == 1
        watch.now += REFRESH_SECONDS
        await known.refresh()
        assert len(reads) == 1, "nobody asked since"
        known.learned(KEY)
        await known.refresh()
        assert len(reads) == 2
        watch.now += 3700
        await known.refresh()
        await known.look([KEY])
        assert len(reads) == 3, "forgotten after an hour, and read again for who wants it now"
        await known.look([KEY])
        assert len(reads) == 3


async def test_a_view_reads_nothing(db, monkeypatch):
    known = durations(db)
    row = {"provider": "mock", "model": "mock-1", "duration": 8}
    with counted(db, monkeypatch) as reads:
        assert known.of(row) == (30.0, 60.0)
        assert key_of(row) == KEY
        assert reads == []


async def test_made_up_models_fill_no_memory(db):
    known = durations(db)
    for number in range(MOST_KEYS + 100):
        known.expected(Key("mock", f"m{number}", 8))
    assert len(known._entries) == MOST_KEYS


async def test_a_database_that_is_away_is_asked_the_next_time(db, monkeypatch):
    known = durations(db)
    known.learned(KEY)

    async def away(_: object) -> None:
        raise DatabaseUnavailable("gone")

    with monkeypatch.context() as patch:
        patch.setattr(db, "read", away)
        await known.refresh()
    await db.write(lambda tx: [finish(tx, number, 4) for number in range(5)])
    await known.refresh()
    assert known.expected(KEY).p50 == 4.0


async def test_what_is_new_is_read_at_once_whichever_thread_asks(db):
    await db.write(lambda tx: [finish(tx, number, 4) for number in range(5)])
    known = Durations(db, {})
    keeping = asyncio.create_task(known.keep())
    try:
        await asyncio.sleep(0)
        await asyncio.to_thread(known.learned, KEY)

        async def look() -> object:
            return known.learned(KEY)

        assert (await eventually(look, bool, 5)).p50 == 4.0
    finally:
        keeping.cancel()
        with suppress(asyncio.CancelledError):
            await keeping
    known.learned(Key("mock", "late", 1))


class Explained(Tx):
    """Asks for the plan of every query first."""

    plans: list[str]

    def all(self, sql: str, parameters: Any = None) -> list[Row]:
        head = "EXPLAIN" if self.postgres else "EXPLAIN QUERY PLAN"
        self.plans += [str(row) for row in super().all(f"{head} {sql}", parameters)]
        return super().all(sql, parameters)


@pytest.mark.parametrize("key", [KEY, Key("mock", None, None)])
def test_it_is_found_by_its_index(place, key):
    with transaction(place.open()) as tx:
        if tx.postgres:
            tx.run("SET LOCAL enable_seqscan = off")
            tx.run("SET LOCAL enable_sort = off")
        asked = Explained(tx.connection, tx.now, postgres=tx.postgres)
        asked.plans = []
        taken(asked, key)
    assert any("generation_pace" in line for line in asked.plans), asked.plans
    assert not any("Sort" in line or "TEMP B-TREE" in line for line in asked.plans), asked.plans
