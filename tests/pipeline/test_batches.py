"""A worker looks at the queue no more often than it pays, and takes in batches what is due by then."""

from __future__ import annotations

import asyncio
from time import monotonic

import pytest

from pipeline import queue
from pipeline.db import Database, Tx
from pipeline.lifecycle import Decision, Done, NotYet, Step
from pipeline.queue import Agenda
from pipeline.turn import Report, Turn
from pipeline.wake import Doorbell
from pipeline.worker.pace import LONGEST_REST, SHARE, Pace
from tests.pipeline.engines import Time
from tests.pipeline.queue_help import LEASE, claim_one, enqueue
from tests.pipeline.test_worker import Scripted, done, has, make_worker, running, until

pytestmark = pytest.mark.anyio

STEPS = [Step.SUBMIT, Step.POLL, Step.STORE]


class Counted(Database):
    """Counts looks."""

    looks = 0

    async def write(self, unit, **options):
        self.looks += getattr(unit, "__qualname__", "").startswith("Worker._look")
        return await super().write(unit, **options)


class Quiet(Scripted):
    """Its records leave nothing to look for."""

    def record_turn(self, tx: Tx, turn: Turn, report: Report) -> Decision | None:
        turn.quiet = True
        return super().record_turn(tx, turn, report)


@pytest.fixture
async def counted(place):
    db = Counted(place.url, ahead=place.time)
    place.opened.append(db)
    return db


async def agenda(db: Database) -> tuple[set[Step], float | None]:
    found, at = await db.read(lambda tx: (queue.agenda(tx, STEPS), tx.now))
    assert isinstance(found, Agenda)
    return set(found.due), None if found.later is None else (found.later - at) / 1000


async def test_the_agenda_says_what_is_due_and_when_more_will_be(db: Database, time: Time) -> None:
    assert await agenda(db) == (set(), None)
    await enqueue(db, "g1", delay=30.0)
    await enqueue(db, "g2", delay=20.0, lane="provider:b")
    await enqueue(db, "g3", delay=5.0, step=Step.STORE)
    await enqueue(db, "elsewhere", step=Step.LATE)
    due, later = await agenda(db)
    assert due == set()
    assert later == pytest.approx(5, abs=2)
    time.passes(25)
    due, later = await agenda(db)
    assert due == {Step.POLL, Step.STORE}
    assert later == pytest.approx(5, abs=2), "what is due already is no time to wait for"


async def test_the_agenda_knows_leases_that_end(db: Database, time: Time) -> None:
    await enqueue(db, "g1")
    await claim_one(db)
    assert (await agenda(db))[0] == set()
    assert (await agenda(db))[1] == pytest.approx(LEASE, abs=2)
    time.passes(LEASE + 1)
    assert await agenda(db) == ({Step.POLL}, None)


def test_the_rest_grows_with_what_a_look_costs() -> None:
    now = [100.0]
    pace = Pace(0.0, lambda: now[0])
    assert pace.rest() == 0, "the first look waits for nothing"
    now[0] += 0.01
    pace.looked(100.0, full=False)
    assert pace.rest() == pytest.approx(0.01 * SHARE)
    now[0] += 1
    assert pace.rest() == 0, "who comes alone waits for nothing"
    pace.looked(now[0] - 3, full=False)
    assert pace.rest() == pytest.approx(LONGEST_REST)
    pace.looked(now[0] - 3, full=True)
    assert pace.rest() == 0, "there is more to take"


def test_a_batch_is_given_its_time_to_fill() -> None:
    pace = Pace(2.0, lambda: 100.0)
    pace.looked(99.9, full=False)
    assert pace.rest() == 2.0
    pace.looked(99.9, full=True)
    assert pace.rest() == 0.0


async def test_a_full_batch_is_followed_by_the_next_at_once(counted: Counted) -> None:
    await enqueue(counted, *(f"g{n}" for n in range(30)))
    slots = {Step.POLL: 100}
    gate = asyncio.Event()

    async def script(turn: Turn) -> Report:
        await gate.wait()
        return Report(Done())

    handler = Scripted(script)
    async with running(make_worker(counted, handler, slots=slots, batch=10)):
        await until(lambda: len(handler.started) == 30)
        assert counted.looks <= 4, "30 in batches of 10, and one that found that there is no more"
        gate.set()


async def test_many_that_are_due_at_once_are_taken_by_one_look(counted: Counted) -> None:
    await enqueue(counted, *(f"g{n}" for n in range(50)))
    handler = Quiet(lambda turn: _later())
    async with running(make_worker(counted, handler, slots={Step.POLL: 100})):
        await until(lambda: len(handler.started) == 50)
        await until(has(counted, "g49", status="pending"))
        assert counted.looks <= 2


async def _later() -> Report:
    return Report(NotYet(3600.0))


async def test_what_a_quiet_turn_puts_off_is_taken_at_its_time(db: Database) -> None:
    """No look follows a quiet turn; the worker knows by itself when its job is due again."""
    await enqueue(db, "g1")
    answers = [NotYet(0.2), NotYet(0.2), Done()]

    async def script(turn: Turn) -> Report:
        return Report(answers.pop(0))

    began = monotonic()
    async with running(make_worker(db, Quiet(script))):
        await until(has(db, "g1", status="done"))
    assert 0.4 <= monotonic() - began < 2.5


async def test_a_worker_that_waits_for_its_batch_stops_at_once(db: Database) -> None:
    bell = Doorbell(None)
    await enqueue(db, "g1")
    worker = make_worker(db, handler := Scripted(done), bell=bell, fill=60.0)
    async with running(worker):
        await until(has(db, "g1", status="done"))
        await enqueue(db, "g2")
        bell.ring()
        await asyncio.sleep(0.05)
        assert handler.started == ["g1"], "the next batch has its minute to fill"
        began = monotonic()
    assert monotonic() - began < 2


async def test_emptying_a_queue_of_quiet_turns_ends(db: Database) -> None:
    await enqueue(db, "g1", "g2")
    began = monotonic()
    assert await make_worker(db, Quiet(lambda turn: _later())).drain_queue() == 2
    assert monotonic() - began < 4
