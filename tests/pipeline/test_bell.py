"""Wake-ups between machines: heard within milliseconds, rung seldom, and taken up again whatever breaks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from statistics import median
from time import monotonic

import psycopg
import pytest

from pipeline.db.bell import PAUSE_SECONDS, Bell
from pipeline.db.engine import listening_arguments
from pipeline.turn import Report, Turn
from pipeline.wake import DEAF_SECONDS, Doorbell
from tests.pipeline.engines import Place, PostgresServer
from tests.pipeline.queue_help import enqueue
from tests.pipeline.silent_proxy import SilentProxy
from tests.pipeline.test_worker import Scripted, done, make_worker, running, until
from tests.pipeline.test_writer import run_script

pytestmark = pytest.mark.anyio


class Ears:
    """Counts what is heard."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def __call__(self) -> None:
        self.times.append(monotonic())


@asynccontextmanager
async def listening(bell: Bell | None, heard: Callable[[], None]) -> AsyncIterator[Bell]:
    """A bell that hears; the call at its start is over."""
    assert bell is not None
    bell.open(heard)
    try:
        await until(lambda: bell.listening, 10)
        await asyncio.sleep(0)
        yield bell
    finally:
        bell.close()


async def test_sqlite_has_no_bell(sqlite_place: Place) -> None:
    assert sqlite_place.open().bell("w1") is None


async def test_a_ring_is_heard_by_all_others_and_not_by_oneself(postgres_place: Place) -> None:
    ears = [Ears(), Ears(), Ears()]
    first, second, third = (postgres_place.open().bell(f"w{n}") for n in range(3))
    async with listening(first, ears[0]) as one, listening(second, ears[1]), listening(third, ears[2]):
        one.ring()
        await until(lambda: [len(each.times) for each in ears] == [1, 2, 2])


async def test_many_rings_are_few_notifications(postgres_place: Place) -> None:
    """The server lets only one that rings commit at a time."""
    db, ears = postgres_place.open(), Ears()
    sent: list[str] = []

    async def notify(payload: str) -> None:
        sent.append(payload)
        await db.notify(payload)

    bell = Bell("w1", notify, listening_arguments(postgres_place.url))
    async with listening(bell, lambda: None), listening(postgres_place.open().bell("w2"), ears):
        started, rung = monotonic(), 0
        while monotonic() - started < 0.45 or len(sent) < 3:
            bell.ring()
            rung += 1
            await asyncio.sleep(0)
        assert len(sent) <= 2 + (monotonic() - started) / PAUSE_SECONDS
        assert rung > len(sent)
        await until(lambda: len(ears.times) >= 2)
        await asyncio.sleep(2 * PAUSE_SECONDS)
        last = len(sent)
        await asyncio.sleep(3 * PAUSE_SECONDS)
        assert len(sent) <= last + 1, "it is silent when nobody rings"


async def test_a_crowd_that_rings_is_heard_ten_times_a_second_at_most(postgres_place: Place) -> None:
    db, ears = postgres_place.open(), Ears()
    async with listening(postgres_place.open().bell("w1"), ears):
        started = monotonic()
        for n in range(100):
            await db.notify(f"w{n + 2}")
        await until(lambda: len(ears.times) >= 2)
        assert len(ears.times) <= 3 + (monotonic() - started) / 0.1


async def test_a_connection_that_is_ended_is_made_anew_and_what_was_missed_is_looked_for(
    postgres_place: Place, postgres_server: PostgresServer
) -> None:
    ears = Ears()
    async with listening(postgres_place.open().bell("w1"), ears) as bell:
        with psycopg.connect(postgres_place.url, autocommit=True) as admin:
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND query = 'LISTEN dailies'"
            )
        await until(lambda: not bell.listening)
        await until(lambda: bell.listening and len(ears.times) == 2)
        await asyncio.to_thread(postgres_server.restart)
        await until(lambda: bell.listening and len(ears.times) >= 3, 10)
        before = len(ears.times)
        await postgres_place.open().notify("w2")
        await until(lambda: len(ears.times) > before)


async def test_a_connection_that_went_dead_without_a_word_is_noticed(
    postgres_place: Place, postgres_server: PostgresServer
) -> None:
    """As behind a router that forgot it: both ends believe in it, and TCP's own probes may be answered halfway."""
    ears = Ears()
    async with SilentProxy(postgres_server.port) as proxy:
        url = postgres_place.url.replace(f":{postgres_server.port}/", f":{proxy.port}/")
        db = postgres_place.open()
        bell = Bell("w1", db.notify, listening_arguments(url), ping=0.2, patience=0.3)
        async with listening(bell, ears):
            await asyncio.sleep(0.5)
            assert bell.listening
            assert proxy.connections == 1, "asked twice by now, and answered"
            proxy.silence()
            await until(lambda: not bell.listening, 3)
            await db.notify("w2")
            await until(lambda: bell.listening and len(ears.times) == 2, 20)
            await db.notify("w2")
            await until(lambda: len(ears.times) == 3)


async def test_a_worker_that_cannot_hear_looks_every_second(postgres_place: Place) -> None:
    db = postgres_place.open()
    deaf = Bell("w1", db.notify, listening_arguments("postgresql://nobody@127.0.0.1:1/nowhere"))
    bell = Doorbell(None, "w1", distant=deaf)
    bell.open()
    try:
        started = monotonic()
        await bell.wait(5.0)
        assert monotonic() - started < 2 * DEAF_SECONDS
        async with running(make_worker(db, handler := Scripted(done), bell=bell)):
            await enqueue(postgres_place.open(), "unheard")
            await until(lambda: handler.started == ["unheard"], 3.0)
    finally:
        bell.close()


RINGER = """
import asyncio, sys, time
from pipeline.db import Database
from pipeline.wake import Doorbell
from tests.pipeline.queue_help import enqueue

async def main():
    db = Database(sys.argv[1])
    bell = Doorbell(None, "api", distant=db.bell("api"))
    bell.open()
    await asyncio.sleep(0.3)
    for n in range(12):
        await asyncio.sleep(0.15)
        await enqueue(db, f"g{n}")
        print(time.monotonic(), flush=True)
        bell.ring()
    await asyncio.sleep(0.2)
    bell.close()
    db.close()

asyncio.run(main())
"""


class Watched(Scripted):
    """Notes when each turn begins."""

    def __init__(self) -> None:
        super().__init__(done)
        self.at: dict[str, float] = {}

    async def run(self, turn: Turn) -> Report:
        self.at[turn.claim.subject_id] = monotonic()
        return await super().run(turn)


async def test_work_from_another_machine_begins_within_milliseconds(postgres_place: Place) -> None:
    """The two share nothing but the database. The bound is wide, since other tests share the machine: see
    docs/operations.md for what is measured on one that is quiet."""
    db = postgres_place.open()
    bell = Doorbell(None, "w1", distant=db.bell("w1"))
    bell.open()
    handler = Watched()
    try:
        async with running(make_worker(db, handler, bell=bell)):
            ringer = run_script(RINGER, postgres_place.url)
            output, _ = await asyncio.to_thread(ringer.communicate, timeout=30)
            assert ringer.returncode == 0, output
            await until(lambda: len(handler.at) == 12)
    finally:
        bell.close()
    waits = [handler.at[f"g{n}"] - float(at) for n, at in enumerate(output.split())]
    print(f"from the commit to the start: {sorted(round(wait * 1000, 1) for wait in waits)} ms")
    assert median(waits) < 0.5, "that would be a poll"
