"""The one who tells all who watch: what it asks of the database, and what it does with those who do not listen."""

from __future__ import annotations

import asyncio
import json
import time as clock
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field

import pytest
from sqlalchemy import event

from pipeline import generations, telemetry, timeline
from pipeline.api.broadcast import Broadcaster, Pace
from pipeline.api.watcher import Watcher
from pipeline.db import Database, Row
from pipeline.links import Links
from pipeline.schemas import GenerationCreate
from tests.house import eventually
from tests.pipeline.chains import MOCK_CHAIN

pytestmark = pytest.mark.anyio

LINKS = Links("http://localhost:8000", None, ["a secret for tests"], 60.0)
QUICK = Pace(tick=0.03, blind=0.1, rest=0.005)
HEAD = "INSERT INTO timeline (generation_id, tenant_id, run, at, event, detail) "
MANY = {
    "sqlite": HEAD + "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :count)"
    " SELECT :id, 'default', 1, 0, 'retry', NULL FROM n",
    "postgres": HEAD + "SELECT :id, 'default', 1, 0, 'retry', NULL FROM generate_series(1, :count)",
}


@pytest.fixture
def broadcaster(db: Database) -> Broadcaster:
    return Broadcaster(db, LINKS, 1000, QUICK)


async def becomes(look: Callable[[], object], seconds: float = 5.0) -> None:
    """Wait until something is so."""

    async def now() -> object:
        return look()

    await eventually(now, bool, seconds)


@dataclass
class Reader:
    """One who watches and writes down what they are told."""

    watcher: Watcher
    cut: list[str]
    heard: bytearray = field(default_factory=bytearray)

    async def listen(self, broadcaster: Broadcaster) -> None:
        while (portion := await self.watcher.take()) is not None:
            with broadcaster.sending(self.watcher):
                self.heard += portion

    async def hears(self, text: str, seconds: float = 5.0) -> None:
        await becomes(lambda: text.encode() in self.heard, seconds)

    def ids(self) -> list[str]:
        return [line[4:] for line in self.heard.decode().splitlines() if line.startswith("id: ")]


def new_watcher(
    generation_id: str, *, cursor: int = 0, seconds: float = 60.0, closing: asyncio.Event | None = None
) -> Reader:
    cut: list[str] = []
    ends = clock.monotonic() + seconds
    watcher = Watcher(
        generation_id, cursor, ends=ends, closing=closing or asyncio.Event(), abort=lambda: cut.append(generation_id)
    )
    return Reader(watcher, cut)


@asynccontextmanager
async def listening(broadcaster: Broadcaster, generation_id: str, **options) -> AsyncIterator[Reader]:
    reader = new_watcher(generation_id, **options)
    with broadcaster.watch(reader.watcher):
        task = asyncio.create_task(reader.listen(broadcaster))
        try:
            yield reader
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def made(db: Database, name: str = "gen_1") -> Row:
    request = GenerationCreate(prompt="a watched fox")
    words = {"tenant": "default", "request": request, "chain": MOCK_CHAIN, "idempotency_key": None}
    row, _ = await db.write(lambda tx: generations.create(tx, generation_id=name, **words))
    return row


async def note(db: Database, row: Row, name: str, **changes: object) -> None:
    """A turn as the workflow would record it."""

    def unit(tx):
        if changes:
            tx.update("generation", changes, "id = :id", {"id": row["id"]})
        timeline.note(tx, row, name)

    await db.write(unit)


async def many_lines(db: Database, row: Row, count: int) -> None:
    sql = MANY["postgres" if db.postgres else "sqlite"]
    await db.write(lambda tx: tx.run(sql, {"id": row["id"], "count": count}))


@contextmanager
def statements(db: Database) -> Iterator[list[str]]:
    """The questions that are asked for those who watch."""
    asked: list[str] = []

    def before(_connection, _cursor, statement, *_rest):
        if "FROM json_each" in statement and "timeline" in statement:
            asked.append(statement)

    event.listen(db.engine, "before_cursor_execute", before)
    yield asked
    event.remove(db.engine, "before_cursor_execute", before)


async def test_what_is_new_reaches_everybody_and_costs_one_question(db, broadcaster):
    rows = [await made(db, f"gen_{number}") for number in range(3)]
    costs = []
    for crowd in (1, 40):
        async with AsyncExitStack() as stack:
            readers = [
                await stack.enter_async_context(listening(broadcaster, rows[number % 3]["id"]))
                for number in range(crowd)
            ]
            for reader in readers:
                await reader.hears("event: queued")
            with statements(db) as asked:
                for number in range(5):
                    await note(db, rows[0], f"step.{crowd}.{number}")
                    for reader in readers[::3]:
                        await reader.hears(f"event: step.{crowd}.{number}\n")
            costs.append(len(asked))
        assert all(len(set(reader.ids())) == len(reader.ids()) for reader in readers)
    assert costs[1] <= 5 * 6
    assert costs[1] <= costs[0] * 3 + 5


async def test_nobody_watching_asks_nothing_and_on_sqlite_quiet_costs_nothing(sqlite_place):
    db = sqlite_place.open()
    broadcaster = Broadcaster(db, LINKS, 10, QUICK)
    row = await made(db)
    async with listening(broadcaster, row["id"]) as reader:
        await reader.hears("event: queued")
        await asyncio.sleep(QUICK.tick * 3)
        with statements(db) as asked:
            await asyncio.sleep(QUICK.tick * 6)
        assert asked == []
        await sqlite_place.open().write(lambda tx: timeline.note(tx, row, "from.elsewhere"))
        await reader.hears("from.elsewhere")
    assert broadcaster.watching == 0
    with statements(db) as asked:
        await note(db, row, "unheard")
        await asyncio.sleep(QUICK.tick * 3)
    assert asked == []


async def test_another_process_is_heard_on_each_engine(place):
    here, there = place.open(), place.open()
    row = await made(here)
    async with listening(Broadcaster(here, LINKS, 10, QUICK), row["id"]) as reader:
        await reader.hears("event: queued")
        await note(there, row, "submit.accepted", stage="generating", status="processing")
        await reader.hears('"stage":"generating"')
        await note(there, row, "completed", status="failed", stage=None)
        await reader.hears("event: end")
    told = reader.heard.decode()
    assert told.index("event: completed") < told.index('"status":"failed"') < told.index("event: end")


async def test_one_who_reads_slowly_is_told_all_of_it_later(db, broadcaster):
    row = await made(db)
    slow = new_watcher(row["id"])
    with broadcaster.watch(slow.watcher):
        async with listening(broadcaster, row["id"]) as quick:
            slow.heard += await slow.watcher.take()
            with broadcaster.sending(slow.watcher), statements(db) as asked:
                for number in range(20):
                    await note(db, row, f"step.{number}")
                    await quick.hears(f"event: step.{number}\n")
            assert slow.watcher.missed is False
            before = len(asked)
            slow.heard += await slow.watcher.take()
            assert slow.ids() == quick.ids()
    assert before <= 20 * 6


async def test_a_timeline_that_is_too_long_for_one_look_arrives_whole(db, broadcaster):
    row = await made(db)
    await many_lines(db, row, 4_500)
    await note(db, row, "failed", status="failed", stage=None)
    async with listening(broadcaster, row["id"]) as reader:
        await reader.hears("event: end")
    assert reader.heard.startswith(b"event: generation\n")
    assert len(reader.ids()) == len(set(reader.ids())) == 1 + 4_500 + 1 + 1
    assert reader.ids()[-1] == f"{reader.ids()[-2]}-end"


async def test_one_who_does_not_read_is_cut_off_and_bothers_nobody(db):
    told: list[str] = []
    unsubscribe = telemetry.subscribe(lambda name, _: told.append(name))
    broadcaster = Broadcaster(db, LINKS, 10, Pace(tick=0.02, blind=0.05, rest=0.005, stuck=0.2))
    row = await made(db)
    deaf = new_watcher(row["id"])
    with broadcaster.watch(deaf.watcher):
        await deaf.watcher.take()
        async with listening(broadcaster, row["id"]) as reader:
            with broadcaster.sending(deaf.watcher):
                await many_lines(db, row, 100)
                await becomes(lambda: deaf.cut)
            await reader.hears("event: retry")
        assert await deaf.watcher.take() is None
    unsubscribe()
    assert "watch.dropped" in told


async def test_silence_is_filled_with_comments(db):
    broadcaster = Broadcaster(db, LINKS, 10, Pace(tick=0.02, blind=0.05, rest=0.005, keep_alive=0.05))
    row = await made(db)
    async with listening(broadcaster, row["id"]) as reader:
        await reader.hears(": keep-alive\n\n: keep-alive\n\n")


async def test_a_stream_ends_with_its_time_with_the_server_and_with_the_row(db, broadcaster):
    row, other = await made(db), await made(db, "gen_2")
    closing = asyncio.Event()
    over, closed, gone = (
        new_watcher(row["id"], seconds=0.2),
        new_watcher(row["id"], closing=closing),
        new_watcher(other["id"]),
    )
    readers = [over, closed, gone]
    with broadcaster.watch(over.watcher), broadcaster.watch(closed.watcher), broadcaster.watch(gone.watcher):
        tasks = [asyncio.create_task(reader.listen(broadcaster)) for reader in readers]
        await closed.hears("event: queued")
        await asyncio.wait_for(tasks[0], 5)
        assert not tasks[1].done()
        closing.set()
        await asyncio.wait_for(tasks[1], 5)
        await db.write(lambda tx: tx.run("DELETE FROM generation WHERE id = 'gen_2'"))
        await asyncio.wait_for(tasks[2], 5)
    assert not any("event: end" in reader.heard.decode() for reader in readers)


async def test_a_database_that_does_not_answer_for_a_while_is_asked_again(sqlite_place):
    db = sqlite_place.open()
    broadcaster = Broadcaster(db, LINKS, 10, QUICK)
    row = await made(db)
    told: list[str] = []
    unsubscribe = telemetry.subscribe(lambda name, _: told.append(name))
    async with listening(broadcaster, row["id"]) as reader:
        await reader.hears("event: queued")
        await db.write(lambda tx: tx.run("ALTER TABLE timeline RENAME TO away"))
        await becomes(lambda: "watch.failed" in told)
        await db.write(lambda tx: tx.run("ALTER TABLE away RENAME TO timeline"))
        await note(db, row, "back.again")
        await reader.hears("back.again")
    unsubscribe()


async def test_a_generation_that_was_redriven_is_followed_into_its_next_run(db, broadcaster):
    row = await made(db)
    await note(db, row, "failed", status="failed", stage=None)
    async with listening(broadcaster, row["id"]) as first:
        await first.hears("event: end")
    cursor = int(first.ids()[-1].removesuffix("-end"))
    await note(db, row, "redriven", status="processing", stage="storing", run=2)
    async with listening(broadcaster, row["id"], cursor=cursor) as second:
        await second.hears("event: redriven")
        await note(db, row, "completed", status="failed", stage=None)
        await second.hears("event: end")
    events = [line for line in second.heard.decode().splitlines() if line.startswith("event: ")]
    assert events == [f"event: {n}" for n in ("generation", "redriven", "completed", "generation", "end")]
    first_data = next(line for line in second.heard.decode().splitlines() if line.startswith("data: "))
    assert json.loads(first_data[6:])["stage"] == "storing"
