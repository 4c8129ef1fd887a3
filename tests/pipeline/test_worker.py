"""The worker keeps its bounds, its leases and its word: with a scripted handler on a real database."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from pipeline import admission, queue
from pipeline.clock import Clock
from pipeline.db import Database, DatabaseUnavailable, Tx
from pipeline.lifecycle import POISON_CLAIMS, Decision, Done, JobKind, NotYet, RetryPolicy, Step, decide
from pipeline.queue import Claim, LeaseLost
from pipeline.turn import Report, Turn
from pipeline.wake import Doorbell
from pipeline.worker import Identity, Limits, Worker
from tests.pipeline.engines import Place
from tests.pipeline.queue_help import enqueue, job
from tests.pipeline.test_writer import run_script

pytestmark = pytest.mark.anyio

Script = Callable[[Turn], Any]


class Scripted:
    """A handler whose turns do what the test says."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self.started: list[str] = []
        self.interrupted: list[str] = []
        self.now = self.most = 0

    def load(self, tx: Tx, claims: Sequence[Claim]) -> Mapping[int, Any]:
        return {claim.id: claim.subject_id for claim in claims if claim.subject_id != "gone"}

    async def run(self, turn: Turn) -> Report:
        self.started.append(turn.subject)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            report: Report = await self._script(turn)
        except asyncio.CancelledError:
            self.interrupted.append(turn.subject)
            raise
        finally:
            self.now -= 1
        return report

    def record_turn(self, tx: Tx, turn: Turn, report: Report) -> Decision | None:
        for fact in report.facts:
            fact(tx)
        try:
            locked = queue.lock(tx, turn.claim)
        except LeaseLost:
            return None
        decision = decide(
            report.outcome,
            step=turn.claim.step,
            attempts=turn.claim.attempts,
            policy=RetryPolicy(3),
            cancel_requested=bool(locked["cancel_requested"]),
            jitter=0.5,
        )
        cancelling = bool(locked["cancel_requested"])
        queue.acknowledge(tx, turn.claim, decision, wake_seq=locked["wake_seq"], cancel_requested=cancelling)
        return decision


async def done(turn: Turn) -> Report:
    return Report(Done())


def waits_for(event: asyncio.Event) -> Script:
    async def script(turn: Turn) -> Report:
        await event.wait()
        return Report(Done())

    return script


def make_worker(
    db: Database, handler: Scripted, name: str = "w1", *, bell: Doorbell | None = None, **limits: Any
) -> Worker:
    slots = dict.fromkeys((Step.SUBMIT, Step.RESOLVE, Step.POLL, Step.STORE), 4)
    values = {
        "slots": slots,
        "per_lane": {},
        "bounds": admission.Bounds(100),
        "lease": 10.0,
        "turn_timeout": 60.0,
        "drain_timeout": 5.0,
    }
    identity = Identity(name, "here", os.getpid(), "test")
    handlers = {JobKind.GENERATION: handler}
    return Worker(db, bell or Doorbell(None), handlers, Limits(**(values | limits)), identity, Clock())


@asynccontextmanager
async def running(worker: Worker) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(worker.run())
    try:
        yield task
    finally:
        worker.stop()
        await task


async def until(good: Callable[[], Any], seconds: float = 10.0) -> None:
    """Look again and again until it is good."""
    deadline = monotonic() + seconds
    while True:
        seen = good()
        if await seen if asyncio.iscoroutine(seen) else seen:
            return
        assert monotonic() < deadline, f"still not so after {seconds} s"
        await asyncio.sleep(0.005)


def has(db: Database, subject: str, **columns: Any) -> Callable[[], Any]:
    async def look() -> bool:
        row = await job(db, subject)
        return all(row[name] == value for name, value in columns.items())

    return look


# --- taking ----------------------------------------------------------------------------------------------------------


async def test_what_is_due_is_taken_run_and_recorded(db: Database) -> None:
    await enqueue(db, "g1", "g2", "gone")
    async with running(make_worker(db, Scripted(done))):
        await until(has(db, "g1", status="done"))
        await until(has(db, "g2", status="done"))
        await until(has(db, "gone", status="cancelled"))


async def test_no_more_turns_run_than_there_are_slots_per_step_and_per_lane(db: Database) -> None:
    go = asyncio.Event()
    handler = Scripted(waits_for(go))
    await enqueue(db, *[f"a{n}" for n in range(9)], lane="a")
    await enqueue(db, "b0", lane="b")
    async with running(make_worker(db, handler, slots={Step.POLL: 5}, per_lane={Step.POLL: 3})):
        await until(lambda: handler.now == 4)
        assert sorted(handler.started) == ["a0", "a1", "a2", "b0"]
        go.set()
        await until(lambda: len(handler.started) == 10)
    assert handler.most <= 5


async def test_a_full_lane_with_more_to_do_does_not_make_the_worker_spin(db: Database) -> None:
    go = asyncio.Event()
    handler = Scripted(waits_for(go))
    await enqueue(db, "a0", "a1", "a2", lane="a")
    async with running(make_worker(db, handler, per_lane={Step.POLL: 1})):
        await until(lambda: handler.now == 1)
        before = db.commits
        await asyncio.to_thread(threading.Event().wait, 0.3)
        assert db.commits - before <= 3
        go.set()
        await until(lambda: len(handler.started) == 3)


async def test_the_queue_is_drained_on_request(db: Database) -> None:
    async def polled_once(turn: Turn) -> Report:
        return Report(NotYet(0.0) if turn.claim.polls == 0 else Done())

    await enqueue(db, "g1", "g2")
    await enqueue(db, "tomorrow", delay=86_400)
    assert await asyncio.wait_for(make_worker(db, Scripted(polled_once)).drain_queue(), 10) == 4
    assert (await job(db, "tomorrow"))["status"] == "pending"


async def test_a_turn_that_takes_too_long_is_a_failed_one(db: Database) -> None:
    await enqueue(db, "g1")
    async with running(make_worker(db, Scripted(waits_for(asyncio.Event())), turn_timeout=0.05)):
        await until(has(db, "g1", attempts=1, status="pending"))


async def test_a_turn_that_crashes_is_taken_again_after_its_lease(db: Database, place: Place) -> None:
    async def crash_once(turn: Turn) -> Report:
        if turn.claim.claims_unrecorded == 1:
            raise ValueError("a bug")
        return Report(Done())

    await enqueue(db, "g1")
    async with running(make_worker(db, handler := Scripted(crash_once), lease=0.5)):
        await until(has(db, "g1", status="done"))
    assert handler.started == ["g1", "g1"]


async def test_a_turn_that_crashes_is_taken_again_however_busy_its_process_is(db: Database) -> None:
    """Its lease is not renewed with those of the others, and in the end the job is dead instead of a place lost."""
    go = asyncio.Event()
    crashed: list[tuple[float, int]] = []

    async def script(turn: Turn) -> Report:
        if turn.subject == "busy":
            await go.wait()
            return Report(Done())
        crashed.append((monotonic(), turn.claim.claims_unrecorded))
        raise ValueError("a bug")

    await enqueue(db, "busy", "bug")
    async with running(make_worker(db, handler := Scripted(script), lease=0.3)):
        await until(has(db, "bug", status="dead"))
        assert handler.now == 1, "the other turn was kept all the time"
        go.set()
        await until(has(db, "busy", status="done", fence=1))
    assert [count for _, count in crashed] == list(range(1, POISON_CLAIMS + 1))
    waits = [later - earlier for (earlier, _), (later, _) in pairwise(crashed)]
    assert min(waits) > 0.2
    assert max(waits) < 0.3 + 1.0


async def test_a_job_that_ends_its_workers_is_dead_as_poison(db: Database) -> None:
    await enqueue(db, "g1")
    await db.write(lambda tx: tx.run("UPDATE job SET claims_unrecorded = 8"))
    async with running(make_worker(db, handler := Scripted(done))):
        await until(has(db, "g1", status="dead"))
    assert handler.started == []


# --- leases ----------------------------------------------------------------------------------------------------------


async def test_a_turn_longer_than_its_lease_is_kept_by_renewal(db: Database, place: Place) -> None:
    go = asyncio.Event()
    await enqueue(db, "g1")
    async with running(make_worker(db, handler := Scripted(waits_for(go)), lease=0.6)):
        await until(lambda: handler.now == 1)
        first = (await job(db, "g1"))["locked_until"]

        async def renewed_past_its_end() -> bool:
            return bool((await job(db, "g1"))["locked_until"] > first + 600)

        await until(renewed_past_its_end)
        go.set()
        await until(has(db, "g1", status="done", fence=1))


@pytest.mark.parametrize("paying", [False, True])
async def test_a_turn_whose_lease_was_taken_is_interrupted_unless_it_may_have_paid(db: Database, paying: bool) -> None:
    go = asyncio.Event()
    noted: list[int] = []

    async def script(turn: Turn) -> Report:
        turn.paying = paying
        await go.wait()
        return Report(Done(), facts=[lambda tx: noted.append(1)])

    await enqueue(db, "g1")
    async with running(make_worker(db, handler := Scripted(script), lease=0.6)):
        await until(lambda: handler.now == 1)
        await db.write(
            lambda tx: tx.run("UPDATE job SET locked_by = 'another', fence = fence + 1, locked_until = 9e15")
        )
        if paying:
            await asyncio.to_thread(threading.Event().wait, 0.5)
            assert handler.interrupted == []
            go.set()
            await until(lambda: noted)
        else:
            await until(lambda: handler.interrupted == ["g1"])
    assert (await job(db, "g1"))["locked_by"] == "another", "nothing of the decision was kept"


async def test_work_of_a_killed_process_is_taken_over_within_its_lease(db: Database, place: Place) -> None:
    await enqueue(db, "g1")
    victim = run_script(VICTIM, place.url)
    try:
        await until(has(db, "g1", locked_by="victim"))
        victim.send_signal(signal.SIGKILL)
        died = monotonic()
        async with running(make_worker(db, handler := Scripted(done), lease=0.5)):
            await until(has(db, "g1", status="done"))
        assert monotonic() - died < 0.5 + 1.0
        assert handler.started == ["g1"]
    finally:
        victim.kill()
        victim.communicate()


VICTIM = """
import asyncio, sys
from pipeline.db import Database
from tests.pipeline.test_worker import Scripted, make_worker, waits_for

async def main():
    handler = Scripted(waits_for(asyncio.Event()))
    await make_worker(Database(sys.argv[1]), handler, "victim", lease=0.5).run()

asyncio.run(main())
"""

# --- money -----------------------------------------------------------------------------------------------------------


async def test_facts_are_repeated_until_they_are_written(db: Database) -> None:
    tries: list[int] = []

    def fact(tx: Tx) -> None:
        tries.append(1)
        if len(tries) <= 2:
            raise DatabaseUnavailable("the disk is full")
        tx.insert("lane", {"name": "paid", "unknown_streak": 0})

    async def script(turn: Turn) -> Report:
        return Report(Done(), facts=[fact])

    await enqueue(db, "g1")
    async with running(make_worker(db, Scripted(script))):
        await until(has(db, "g1", status="done"))
    assert len(tries) == 3
    assert await db.read(lambda tx: tx.value("SELECT name FROM lane")) == "paid"


class Broken(Scripted):
    """A handler with a bug in its record."""

    def record_turn(self, tx: Tx, turn: Turn, report: Report) -> Decision | None:
        super().record_turn(tx, turn, report)
        raise sqlite3.ProgrammingError("a bug")


async def test_facts_do_not_fall_with_a_record_that_has_a_bug(db: Database) -> None:
    async def script(turn: Turn) -> Report:
        return Report(Done(), facts=[lambda tx: tx.insert("lane", {"name": "paid", "unknown_streak": 0})])

    async def paid() -> bool:
        return await db.read(lambda tx: tx.value("SELECT name FROM lane")) == "paid"

    await enqueue(db, "g1")
    async with running(make_worker(db, Broken(script))):
        await until(paid)
    assert (await job(db, "g1"))["claims_unrecorded"] == 1


# --- the end ---------------------------------------------------------------------------------------------------------


async def test_a_stop_hands_back_within_a_second(db: Database) -> None:
    await enqueue(db, "p1", "p2")
    await enqueue(db, "s1", step=Step.STORE)
    handler = Scripted(waits_for(asyncio.Event()))
    worker = make_worker(db, handler)
    task = asyncio.create_task(worker.run())
    await until(lambda: handler.now == 3)
    started = monotonic()
    worker.stop()
    await task
    assert monotonic() - started < 1.5
    for subject in ("p1", "p2", "s1"):
        row = await job(db, subject)
        assert (row["status"], row["claims_unrecorded"], row["attempts"]) == ("pending", 0, 0)
    assert await db.read(lambda tx: tx.value("SELECT count(*) FROM worker")) == 0


async def test_a_stop_awaits_what_may_have_paid(db: Database) -> None:
    go = asyncio.Event()

    async def script(turn: Turn) -> Report:
        turn.paying = True
        await go.wait()
        return Report(Done())

    await enqueue(db, "g1", step=Step.SUBMIT)
    await enqueue(db, "g2")
    handler = Scripted(
        lambda turn: script(turn) if turn.claim.step is Step.SUBMIT else waits_for(asyncio.Event())(turn)
    )
    worker = make_worker(db, handler)
    task = asyncio.create_task(worker.run())
    await until(lambda: handler.now == 2)
    worker.stop()
    await until(has(db, "g2", status="pending"))
    assert not task.done()
    go.set()
    await task
    assert (await job(db, "g1"))["status"] == "done"


async def test_a_stop_gives_up_on_a_paid_call_after_its_bound(db: Database) -> None:
    async def script(turn: Turn) -> Report:
        turn.paying = True
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return Report(Done(Step.RESOLVE))
        raise AssertionError

    await enqueue(db, "g1", step=Step.SUBMIT)
    handler = Scripted(script)
    worker = make_worker(db, handler, drain_timeout=0.1)
    task = asyncio.create_task(worker.run())
    await until(lambda: handler.now == 1)
    worker.stop()
    await asyncio.wait_for(task, 3)
    row = await job(db, "g1")
    assert (row["status"], row["step"]) == ("pending", "resolve"), "what it knew then was recorded"


async def test_a_hand_back_does_not_overtake_the_record_of_its_turn(sqlite_place: Place) -> None:
    """The writer is busy when the turn ends and the stop comes: both wait, and the record goes first."""
    db = sqlite_place.open()
    entered, leave, go = threading.Event(), threading.Event(), asyncio.Event()
    await enqueue(db, "g1")
    worker = make_worker(db, handler := Scripted(waits_for(go)))
    task = asyncio.create_task(worker.run())
    await until(lambda: handler.now == 1)
    busy = asyncio.create_task(db.write(lambda _: (entered.set(), leave.wait(10))))
    await asyncio.to_thread(entered.wait, 10)
    go.set()
    await until(lambda: handler.now == 0)
    worker.stop()
    asyncio.get_running_loop().call_later(1.2, leave.set)
    await task
    await busy
    await until(has(db, "g1", status="done"))


# --- wake-ups --------------------------------------------------------------------------------------------------------


async def test_a_ring_in_another_process_wakes_at_once(db: Database, place: Place, tmp_path: Path) -> None:
    bell = Doorbell(tmp_path, "w1")
    bell.open()
    try:
        async with running(make_worker(db, handler := Scripted(done), bell=bell)):
            ringer = run_script(RINGER, place.url, str(tmp_path))
            output, _ = await asyncio.to_thread(ringer.communicate, timeout=20)
            assert ringer.returncode == 0, output
            await until(lambda: handler.started == ["rung"], 1.0)
    finally:
        bell.close()
    assert list(tmp_path.iterdir()) == []


RINGER = """
import asyncio, sys
from pathlib import Path
from pipeline.db import Database
from pipeline.wake import Doorbell
from tests.pipeline.queue_help import enqueue, job

async def main():
    db, bell = Database(sys.argv[1]), Doorbell(Path(sys.argv[2]), "ringer")
    await enqueue(db, "rung")
    bell.ring()
    async with asyncio.timeout(2):
        while (await job(db, "rung"))["status"] != "done":
            await asyncio.sleep(0.005)
    db.close()

asyncio.run(main())
"""


async def test_what_another_process_writes_without_a_ring_is_noticed(sqlite_place: Place) -> None:
    db, other = sqlite_place.open(), sqlite_place.open()
    bell = Doorbell(None, changed=db.change_probe())
    bell.open()
    async with running(make_worker(db, handler := Scripted(done), bell=bell)):
        await enqueue(other, "unrung")
        await until(lambda: handler.started == ["unrung"], 2.0)
    bell.close()


async def test_a_ring_before_the_wait_counts_and_a_deaf_or_dead_listener_harms_nobody(tmp_path: Path) -> None:
    dead = Doorbell(tmp_path, "dead")
    dead.open()
    (tmp_path / "dead.sock").rename(tmp_path / "left-over.sock")
    dead.close()
    (tmp_path / "notes.txt").write_text("not a socket")
    bell = Doorbell(tmp_path, "w1")
    bell.open()
    for _ in range(2000):
        bell.ring()
    started = monotonic()
    await bell.wait(5)
    assert monotonic() - started < 1
    await bell.wait(0.01)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt", "w1.sock"]
    bell.close()


async def test_a_probe_that_fails_counts_as_news(tmp_path: Path) -> None:
    def fails() -> bool:
        raise sqlite3.OperationalError("disk I/O error")

    bell = Doorbell(None, changed=fails)
    bell.open()
    started = monotonic()
    await bell.wait(5)
    assert monotonic() - started < 2
    bell.close()
