"""A worker looks at the queue no more often than it pays, and takes in batches what is due by then."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import monotonic

import pytest

from pipeline import queue
from pipeline.clock import Clock
from pipeline.db import Database, DatabaseUnavailable, Tx
from pipeline.lifecycle import Decision, Done, NotYet, Snooze, Step
from pipeline.queue import Agenda
from pipeline.turn import Ended, Lease, Report, Turn
from pipeline.wake import Doorbell
from pipeline.worker.leases import Leases
from pipeline.worker.pace import LONGEST_REST, SHARE, Pace
from pipeline.worker.runner import Runner
from tests.pipeline.engines import Time, transaction
from tests.pipeline.queue_help import GENERATION, LEASE, claim_one, enqueue, finish
from tests.pipeline.queue_help import claim as claim_some
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


# --- records that go together -------------------------------------------------------------------------------------


async def rows(db: Database) -> dict[str, dict]:
    found = await db.read(lambda tx: tx.all("SELECT * FROM job ORDER BY id"))
    return {row["subject_id"]: row for row in found}


async def test_many_are_put_off_as_one_is(db: Database, time: Time) -> None:
    """The same columns as `acknowledge` writes, under the same fence."""
    await enqueue(db, "alone", "together", "woken", "stolen", "over")
    claims = {claim.subject_id: claim for claim in await claim_some(db)}
    await finish(db, claims["alone"], Snooze(30.0))
    await db.write(lambda tx: queue.wake(tx, GENERATION, "woken"))
    await db.write(lambda tx: tx.run("UPDATE job SET fence = fence + 1 WHERE subject_id = 'stolen'"))
    await db.write(lambda tx: tx.run("UPDATE job SET locked_until = 1 WHERE subject_id = 'over'"))
    some = [(claim, 30.0) for name, claim in claims.items() if name != "alone"]
    put_off = await db.write(lambda tx: queue.snooze_all(tx, some))
    assert {name: put_off[claim.id].woken for name, claim in claims.items() if claim.id in put_off} == {
        "together": False,
        "woken": True,
    }
    found = await rows(db)
    alike = {"id", "subject_id", "scheduled_for"}
    plain = {name: {key: value for key, value in row.items() if key not in alike} for name, row in found.items()}
    assert plain["together"] == plain["alone"]
    assert found["together"]["scheduled_for"] == pytest.approx(found["alone"]["scheduled_for"], abs=2000)
    assert found["woken"]["scheduled_for"] <= found["together"]["scheduled_for"] - 25_000, "due at once"
    assert [found[name]["status"] for name in ("stolen", "over")] == ["processing"] * 2, "not ours: nothing is written"


async def test_what_somebody_holds_is_not_waited_for(db: Database) -> None:
    """SQLite has one writer. On PostgreSQL a row that is locked is left to a record of its own, so that two processes
    cannot wait for each other."""
    if not db.postgres:
        return
    await enqueue(db, "g1", "g2")
    claims = await claim_some(db)
    with transaction(db) as other:
        other.one("SELECT id FROM job WHERE subject_id = 'g1' FOR UPDATE")
        put_off = await db.write(lambda tx: queue.snooze_all(tx, [(claim, 30.0) for claim in claims]))
    assert list(put_off) == [claim.id for claim in claims if claim.subject_id == "g2"]


class Plain(Scripted):
    """Its records go together; `fails` says what the batch raises."""

    fails: Exception | None = None
    batches: list[int]

    def is_plain(self, turn: Turn, report: Report) -> bool:
        return isinstance(report.outcome, NotYet)

    def record_plain(self, tx: Tx, ended: Sequence[Ended]) -> dict[int, Decision]:
        self.batches.append(len(ended))
        if self.fails is not None:
            raise self.fails
        put_off = queue.snooze_all(tx, [(turn.claim, 3600.0) for turn, _ in ended])
        return {job: Snooze(3600.0) for job in put_off}


@pytest.mark.parametrize("fails", [None, ValueError("no such thing"), DatabaseUnavailable("the disk is full")])
async def test_turns_that_end_together_are_recorded_together_or_else_alone(db: Database, fails) -> None:
    await enqueue(db, *(f"g{n}" for n in range(20)))
    gate = asyncio.Event()

    async def script(turn: Turn) -> Report:
        await gate.wait()
        return Report(NotYet(3600.0))

    handler = Plain(script)
    handler.batches, handler.fails = [], fails
    async with running(make_worker(db, handler, slots={Step.POLL: 100})):
        await until(lambda: len(handler.started) == 20)
        gate.set()
        await until(lambda: all_pending(db))
    assert sum(handler.batches) >= 20
    assert len(handler.batches) <= 6, "one for the first, and the others while that is written"


async def test_a_turn_whose_record_is_on_its_way_is_not_lost(db: Database) -> None:
    """Its job is given back before its task hears of it: a renewal in between finds nothing to renew."""
    runner = Runner(db, lambda turn, decision: None, {}, make_worker(db, Scripted(done))._limits)
    lost: list[bool] = []
    runner.interrupt = lambda turn: lost.append(turn.recording)
    await enqueue(db, "g1", "g2")
    for claim, recording in zip(await claim_some(db, worker="w1"), (True, False), strict=True):
        await finish(db, claim, Snooze(30.0))
        runner.running[claim.id] = Turn(claim, None, Lease(1e12, 1.0, monotonic), recording=recording)
    await Leases(db, Clock(), runner, "w1", LEASE)._renew()
    assert lost == [False]


async def all_pending(db: Database) -> bool:
    return all(row["status"] == "pending" and row["polls"] == 1 for row in (await rows(db)).values())
