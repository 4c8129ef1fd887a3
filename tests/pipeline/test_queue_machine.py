"""Whatever happens in whatever order: one holder, one possibly-paid call, nothing lost.

A machine of hypothesis plays workers (some of them zombies that go on after their lease), a provider that answers late
or never, clients that cancel, and the clock. It works on real rows by the queue's and the ledger's own functions, and
keeps a model of what must be true. `MACHINE_EXAMPLES` sets the number of examples for a long run.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from pipeline import admission, ledger, queue
from pipeline.db import Database, Row, Tx
from pipeline.lifecycle import (
    Advance,
    Cancel,
    Complete,
    DeadLetter,
    Decision,
    Fail,
    Fallback,
    Fault,
    Hold,
    JobStatus,
    Requeue,
    Retry,
    Snooze,
    Step,
)
from pipeline.queue import Claim, LeaseLost, decisions
from providers.base import ErrorCode, Operation, ProviderError, Recovery
from tests.pipeline.engines import Place, PostgresServer, SqlitePlaces, Time
from tests.pipeline.queue_help import GENERATION, LEASE, new_job

EXAMPLES = int(os.environ.get("MACHINE_EXAMPLES", "0"))
LANES = ("provider:a", "provider:b")
CAP = 2
FAULT = Fault("provider_error", "it broke")
LOST = ProviderError(ErrorCode.TRANSIENT, "no answer")
TAKEN = (Step.SUBMIT, Step.RESOLVE, Step.POLL, Step.STORE)
FINAL = {JobStatus.DONE, JobStatus.DEAD, JobStatus.CANCELLED}
DECISIONS = st.sampled_from(
    [
        Complete(),
        Advance(Step.POLL),
        Advance(Step.STORE, 3.0),
        Snooze(0.0),
        Snooze(5.0),
        Retry(2.0, FAULT),
        Hold(1.0, FAULT),
        Hold(None, FAULT),
        Requeue(0.0, FAULT),
        Requeue(0.0, FAULT, stays=True),
        Fallback(0.0, FAULT, "provider:b", more=False),
        Fail(FAULT),
        DeadLetter(FAULT),
        Cancel(),
    ]
)


@dataclass(frozen=True)
class Call:
    """A paid call that was let go: its token, and the generation that it is for."""

    token: str
    subject: str


class QueueMachine(RuleBasedStateMachine):
    """`db`, `time` and `loop` are given by the subclass of each engine."""

    db: Database
    time: Time
    loop: asyncio.AbstractEventLoop

    claims: Bundle[Claim] = Bundle("claims")
    calls: Bundle[Call] = Bundle("calls")
    subjects: Bundle[str] = Bundle("subjects")

    def write(self, unit: Callable[[Tx], Any]) -> Any:
        return self.loop.run_until_complete(self.db.write(unit))

    def job(self, subject: str) -> Row:
        row = self.db.read_now(lambda tx: tx.one("SELECT * FROM job WHERE subject_id = :id", {"id": subject}))
        assert row is not None
        return row

    @initialize()
    def empty(self) -> None:
        self.write(lambda tx: [tx.run(f"DELETE FROM {table}") for table in ("job", "submission", "lane")])
        self.count = 0
        self.fences: dict[int, int] = {}
        self.holder: dict[int, tuple[str, int]] = {}
        self.ended: dict[str, Row] = {}
        self.enqueued: set[str] = set()
        self.paid: dict[str, str] = {}

    # --- what clients do ---------------------------------------------------------------------------------------------

    @rule(target=subjects, lane=st.sampled_from(LANES), priority=st.integers(1, 10))
    def enqueue(self, lane: str, priority: int) -> str:
        self.count += 1
        subject = f"g{self.count}"

        def unit(tx: Tx) -> object:
            place = admission.sort_at(tx.now, priority)
            return queue.enqueue(tx, new_job(subject, lane=lane, step=Step.SUBMIT, waiting=True, sort_at=place))

        assert self.write(unit) is not None
        assert self.write(unit) is None, "once per subject"
        self.enqueued.add(subject)
        return subject

    @rule(subject=subjects)
    def cancel(self, subject: str) -> None:
        """As the API does: at once when nothing is under way, else by asking."""

        def unit(tx: Tx) -> bool:
            if queue.cancel_unstarted(tx, GENERATION, subject):
                return True
            queue.request_cancel(tx, GENERATION, subject)
            return False

        before = self.job(subject)
        opened = self.db.read_now(lambda tx: ledger.open_submission(tx, subject))
        if self.write(unit):
            assert opened is None, "a call that may cost something is not forgotten"
            assert before["status"] in {JobStatus.WAITING, JobStatus.PENDING}
            assert before["step"] == Step.SUBMIT

    @rule(subject=subjects)
    def wake(self, subject: str) -> None:
        before = self.job(subject)
        self.write(lambda tx: queue.wake(tx, GENERATION, subject))
        after = self.job(subject)
        untouched = ("status", "fence", "locked_by", "locked_until", "attempts", "claims_unrecorded")
        assert [after[name] for name in untouched] == [before[name] for name in untouched]
        assert after["wake_seq"] == before["wake_seq"] + 1

    # --- what workers do ---------------------------------------------------------------------------------------------

    @rule(limit=st.integers(1, 3))
    def admit(self, limit: int) -> None:
        before = {lane: self.in_flight(lane) for lane in LANES}
        self.write(lambda tx: admission.admit(tx, limit=limit, bounds=admission.Bounds(CAP)))
        for lane in LANES:
            assert self.in_flight(lane) <= max(CAP, before[lane])

    def in_flight(self, lane: str) -> int:
        return self.db.read_now(lambda tx: admission.in_flight(tx, lane))

    @rule(target=claims, worker=st.sampled_from(["w1", "w2"]), limit=st.integers(1, 3), per_lane=st.integers(0, 2))
    def claim(self, worker: str, limit: int, per_lane: int) -> Any:
        def unit(tx: Tx) -> list[Claim]:
            return [
                each
                for step in TAKEN
                for each in queue.claim(tx, worker=worker, step=step, limit=limit, lease=LEASE, per_lane=per_lane)
            ]

        taken = self.write(unit)
        assert len({each.id for each in taken}) == len(taken)
        for each in taken:
            assert each.fence > self.fences.get(each.id, 0), "the fence rises with every claim"
            self.fences[each.id] = each.fence
            self.holder[each.id] = (each.worker, each.fence)
            assert each.subject_id not in self.ended
        return multiple(*taken)

    @rule(seconds=st.sampled_from([1.0, 4.0, LEASE + 1, 100.0]))
    def time_passes(self, seconds: float) -> None:
        self.time.passes(seconds)

    @rule(worker=st.sampled_from(["w1", "w2"]))
    def renew(self, worker: str) -> None:
        ran = {row["id"]: row for row in self.processing() if row["id"] % 3}
        mine = {number for number, row in ran.items() if row["locked_by"] == worker and self.live(row)}
        left = {row["id"]: row for row in self.processing() if row["id"] not in mine}
        held = self.write(lambda tx: queue.extend(tx, worker, ran, LEASE))
        assert held == mine
        assert {row["id"]: row for row in self.processing() if row["id"] not in mine} == left

    def processing(self) -> list[Row]:
        return self.db.read_now(lambda tx: tx.all("SELECT * FROM job WHERE status = 'processing'"))

    def live(self, row: Row) -> bool:
        return bool(row["locked_until"] > self.db.read_now(lambda tx: tx.now))

    def holds(self, claim: Claim) -> bool:
        """By the model: nobody claimed it since, it was not given back, and its lease has not ended."""
        row = self.job(claim.subject_id)
        return self.holder.get(claim.id) == (claim.worker, claim.fence) and self.live(row)

    @rule(claim=claims, decision=DECISIONS)
    def record(self, claim: Claim, decision: Decision) -> None:
        """A turn ends, perhaps long after its lease did: it may be a zombie's."""
        before, holds = self.job(claim.subject_id), self.holds(claim)

        def unit(tx: Tx) -> Decision:
            locked = queue.lock(tx, claim)
            kept = Cancel() if locked["cancel_requested"] and isinstance(decision, Requeue | Fallback) else decision
            cancelling = bool(locked["cancel_requested"])
            queue.acknowledge(tx, claim, kept, wake_seq=locked["wake_seq"], cancel_requested=cancelling)
            return kept

        try:
            self.write(unit)
        except LeaseLost:
            assert not holds
            assert self.job(claim.subject_id) == before, "nothing of a zombie's decision is kept"
            return
        assert holds
        del self.holder[claim.id]
        after = self.job(claim.subject_id)
        assert after["fence"] == before["fence"]
        if after["status"] in FINAL:
            self.ended[claim.subject_id] = after
        elif before["wake_seq"] != claim.wake_seq and (
            isinstance(decision, Snooze | Advance | Hold)
            or (isinstance(decision, Retry) and before["cancel_requested"])
        ):
            assert after["scheduled_for"] <= self.db.read_now(lambda tx: tx.now), "a wake during a turn is never lost"

    @rule(claim=claims)
    def release(self, claim: Claim) -> None:
        before, holds = self.job(claim.subject_id), self.holds(claim)
        assert self.write(lambda tx: queue.release(tx, claim)) == holds
        after = self.job(claim.subject_id)
        if holds:
            del self.holder[claim.id]
            assert after["claims_unrecorded"] == before["claims_unrecorded"] - 1
            assert after["attempts"] == before["attempts"]
        else:
            assert after == before

    # --- money -------------------------------------------------------------------------------------------------------

    @rule(target=calls, claim=claims)
    def intend(self, claim: Claim) -> Any:
        """T1: under the fence, and only where no call is open."""
        self.count += 1
        token = f"t{self.count:06}"
        row = {"id": claim.subject_id, "tenant_id": "default", "user_id": None, "run": 1, "provider": "mock"}
        row |= {"model": None}
        opened = self.db.read_now(lambda tx: ledger.open_submission(tx, claim.subject_id))

        def unit(tx: Tx) -> bool:
            queue.lock(tx, claim)
            return ledger.intend(tx, row, token=token, estimate_micros=1, recovery=Recovery())

        holds = self.holds(claim)
        try:
            intended = self.write(unit)
        except LeaseLost:
            assert not holds
            return multiple()
        assert holds
        assert intended == (opened is None)
        return Call(token, claim.subject_id) if intended else multiple()

    @rule(call=consumes(calls), take=st.booleans())
    def answer(self, call: Call, take: bool) -> None:
        """The provider's answer comes, however late, whoever holds the job by then."""
        if take:
            self.paid[call.token] = f"op-{call.token}"
            for _ in range(2):
                self.write(lambda tx: ledger.accept(tx, call.token, Operation(self.paid[call.token])))
        else:
            self.write(lambda tx: ledger.reject(tx, call.token, LOST))

    @rule(call=calls, answered=st.booleans())
    def mark_unknown(self, call: Call, answered: bool) -> None:
        self.write(lambda tx: ledger.mark_unknown(tx, call.token, LOST, answered=answered))

    @rule(call=calls)
    def abandon(self, call: Call) -> None:
        self.write(lambda tx: ledger.abandon(tx, call.token, LOST))

    @precondition(lambda self: self.paid)
    @rule(data=st.data(), good=st.booleans())
    def settle(self, data: st.DataObject, good: bool) -> None:
        token = data.draw(st.sampled_from(sorted(self.paid)))
        if good:
            self.write(lambda tx: ledger.succeed(tx, token, None))
        else:
            self.write(lambda tx: ledger.fail(tx, token, LOST))

    # --- what must be true, always -----------------------------------------------------------------------------------

    @invariant()
    def one_possibly_paid_call(self) -> None:
        if not hasattr(self, "paid"):
            return
        rows = self.db.read_now(lambda tx: tx.all("SELECT * FROM submission"))
        opened = [row["generation_id"] for row in rows if row["outcome"] in {"intended", "accepted", "unknown"}]
        assert len(opened) == len(set(opened)), "two possibly-paid calls are open for one generation"
        known = {row["token"]: row["operation_id"] for row in rows if row["operation_id"] is not None}
        assert known == self.paid, "what the provider took is never forgotten"

    @invariant()
    def every_job_is_somewhere(self) -> None:
        """Nothing is lost: each job has ended, waits, is due at some time, or has a lease that ends."""
        if not hasattr(self, "paid"):
            return
        rows = self.db.read_now(lambda tx: tx.all("SELECT * FROM job"))
        assert {row["subject_id"] for row in rows} == self.enqueued
        for row in rows:
            status = JobStatus(row["status"])
            assert Step(row["step"]) in (*TAKEN, Step.HELD)
            assert (status in FINAL) == (row["finished_at"] is not None)
            assert (status is JobStatus.PROCESSING) == (row["locked_by"] is not None)
            assert (status is JobStatus.PROCESSING) == (row["locked_until"] is not None)
            assert (status is JobStatus.PROCESSING) == (row["id"] in self.holder)
            if status in {JobStatus.WAITING, JobStatus.PENDING} and row["step"] != Step.HELD:
                assert row["scheduled_for"] < queue.FAR_FUTURE
            if row["subject_id"] in self.ended:
                fixed = {name: value for name, value in row.items() if name not in {"wake_seq", "cancel_requested"}}
                assert fixed.items() <= self.ended[row["subject_id"]].items(), "what has ended stays as it is"

    def teardown(self) -> None:
        """In the end everything that is neither parked nor finished can be taken and finished."""
        if not hasattr(self, "paid"):
            return
        parked = "SELECT count(*) FROM job WHERE finished_at IS NULL AND step <> 'held'"
        for _ in range(4 * len(self.enqueued) + 4):
            if not self.db.read_now(lambda tx: tx.value(parked)):
                return
            self.time.passes(1000)
            self.write(lambda tx: admission.admit(tx, limit=10, bounds=admission.Bounds(CAP)))
            self.write(self._finish_all)
        raise AssertionError("some work can never be taken")

    @staticmethod
    def _finish_all(tx: Tx) -> None:
        for step in TAKEN:
            for claim in queue.claim(tx, worker="last", step=step, limit=10, lease=LEASE):
                queue.acknowledge(tx, claim, Complete(), wake_seq=claim.wake_seq)


@contextmanager
def machine_on(place: Place) -> Iterator[type[QueueMachine]]:
    """The machine's class, on this database."""
    loop = asyncio.new_event_loop()
    values = {"db": place.open(), "time": place.time, "loop": loop}
    try:
        yield type("QueueMachineHere", (QueueMachine,), values)
    finally:
        loop.close()


def play(machine: type[QueueMachine], examples: int, *phases: Phase) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES or examples,
            phases=phases or tuple(Phase),
            stateful_step_count=40,
            deadline=None,
            database=None,
            derandomize=not EXAMPLES,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_on_sqlite(sqlite_places: SqlitePlaces) -> None:
    with sqlite_places.new() as place, machine_on(place) as machine:
        play(machine, 60)


def test_on_postgres(postgres_server: PostgresServer) -> None:
    with postgres_server.new() as place, machine_on(place) as machine:
        play(machine, 8)


HELD = " WHERE id = :id AND fence = :fence AND locked_by = :worker AND locked_until > :now AND status = 'processing'"
SABOTEURS = {
    "no fence and no holder": HELD.replace(" AND fence = :fence AND locked_by = :worker AND locked_until > :now", ""),
    "no fence": HELD.replace(" AND fence = :fence", ""),
    "no lease": HELD.replace(" AND locked_until > :now", ""),
}


@pytest.mark.parametrize("name", SABOTEURS)
def test_the_machine_finds_a_missing_guard(
    name: str, sqlite_places: SqlitePlaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A control: with one guard taken away it must fail, else its silence would say nothing."""
    assert decisions._HELD == HELD
    monkeypatch.setattr(decisions, "_HELD", SABOTEURS[name])
    with sqlite_places.new() as place, machine_on(place) as machine, pytest.raises((AssertionError, ExceptionGroup)):
        play(machine, 400, Phase.generate)
