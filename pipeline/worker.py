"""Worker: claim -> run -> decide -> record, over and over. It knows nothing of what is in a turn.

A process holds a bounded number of turns per step; between turns nothing is held. All leases of a process are renewed
in one statement, where no upload can delay it; a process that cannot renew stops its turns by its own monotonic clock,
except those that may have sent a paid call: their answer is worth money.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from pipeline import admission, queue
from pipeline.clock import Clock
from pipeline.db import CommitUnknown, Database, DatabaseError, NothingWritten, Tx
from pipeline.lifecycle import POISON_CLAIMS, Decision, Failed, Fault, JobKind, Snooze, Step
from pipeline.queue import Claim, LeaseLost
from pipeline.telemetry import emit
from pipeline.turn import Handler, Lease, Report, Turn
from pipeline.wake import Doorbell

IDLE_SECONDS = 5.0
"""The slowest look at the database, should every wake-up fail."""
ERROR_SECONDS = 1.0
RENEWALS_PER_LEASE = 3
HEARTBEAT_SECONDS = 30.0
HAND_BACK_SECONDS = 0.5
REPEAT_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Identity:
    """A worker process, never the same twice."""

    id: str
    host: str
    pid: int
    version: str


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a process takes on, and how long things may take (seconds)."""

    slots: Mapping[Step, int]
    per_lane: Mapping[Step, int]
    max_in_flight: int
    lease: float
    turn_timeout: float
    drain_timeout: float


@dataclass(slots=True)
class _Round:
    """What one look at the queue found."""

    turns: list[Turn] = field(default_factory=list)
    orphans: list[Claim] = field(default_factory=list)
    due: int | None = None
    now: int = 0


class Worker:
    """Runs the jobs of the given handlers until it is stopped."""

    def __init__(
        self,
        db: Database,
        doorbell: Doorbell,
        handlers: Mapping[JobKind, Handler],
        limits: Limits,
        identity: Identity,
        clock: Clock,
        maintain: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._db = db
        self._doorbell = doorbell
        self._handlers = handlers
        self._limits = limits
        self._clock = clock
        self.identity = identity
        self._running: dict[int, Turn] = {}
        self._stopping = False
        self._renewed = clock.monotonic()
        self._maintain = maintain

    # --- the loop ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Work until `stop` is called, then drain."""
        helpers = [asyncio.create_task(work) for work in (self._renew_leases(), self._heartbeat(), self._keep_house())]
        try:
            while not self._stopping:
                await self._doorbell.wait(await self._guarded_round())
        finally:
            await self._drain()
            for task in helpers:
                task.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)

    async def drain_queue(self) -> int:
        """Take what is due, and what comes due by it, until nothing is left to do now; how many turns that took."""
        helper = asyncio.create_task(self._renew_leases())
        done = 0
        try:
            while not self._stopping:
                found = await self._look()
                done += len(found.turns)
                soon = found.due is not None and found.due <= found.now
                if not found.turns and not self._running and not soon:
                    break
                await self._doorbell.wait(0.05 if soon and not self._running else IDLE_SECONDS)
        finally:
            await self._drain()
            helper.cancel()
            await asyncio.gather(helper, return_exceptions=True)
        return done

    def stop(self) -> None:
        """Take nothing more; `run` returns once its turns have ended or were handed back."""
        self._stopping = True
        self._doorbell.nudge()

    async def _guarded_round(self) -> float:
        """One look at the queue; returns how long to wait for the next."""
        try:
            found = await self._look()
        except DatabaseError as error:
            emit("worker.failed", level=logging.WARNING, error=str(error))
            return ERROR_SECONDS
        except Exception as error:
            emit("worker.failed", level=logging.ERROR, error=repr(error))
            return ERROR_SECONDS
        if found.turns:
            return 0.0 if self._free() else IDLE_SECONDS
        if found.due is None:
            return IDLE_SECONDS
        return min(IDLE_SECONDS, max(0.001, (found.due - found.now) / 1000))

    def _free(self) -> dict[Step, int]:
        """Places left per step; steps without a place are absent."""
        used = Counter(turn.claim.step for turn in self._running.values())
        free = {step: slots - used[step] for step, slots in self._limits.slots.items()}
        return {step: places for step, places in free.items() if places > 0}

    async def _look(self) -> _Round:
        """Admit, claim and start what there is a place for."""
        free = self._free()
        if not free:
            return _Round()
        busy = Counter((turn.claim.step, turn.claim.lane) for turn in self._running.values())
        asked = self._clock.monotonic()
        found = await self._db.write(lambda tx: self._claim(tx, free, busy, asked))
        self._clock.sync(found.now)
        for turn in found.turns:
            self._running[turn.claim.id] = turn
            turn.task = asyncio.create_task(self._take(turn), name=f"turn-{turn.claim.id}")
        return found

    def _claim(self, tx: Tx, free: Mapping[Step, int], busy: Mapping[tuple[Step, str], int], asked: float) -> _Round:
        found = _Round(now=tx.now)
        if Step.SUBMIT in free:
            admission.admit(tx, limit=free[Step.SUBMIT], max_in_flight=self._limits.max_in_flight)
        claims = []
        for step, places in free.items():
            lanes = {lane: count for (of, lane), count in busy.items() if of is step}
            per_lane = self._limits.per_lane.get(step, 0)
            claims += queue.claim(
                tx,
                worker=self.identity.id,
                step=step,
                limit=places,
                lease=self._limits.lease,
                busy=lanes,
                per_lane=per_lane,
            )
        for kind, handler in self._handlers.items():
            mine = [claim for claim in claims if claim.kind is kind]
            subjects = handler.load(tx, mine) if mine else {}
            for claim in mine:
                if claim.id in subjects:
                    lease = Lease(asked + self._limits.lease, self._limits.lease / 10, self._clock.monotonic)
                    found.turns.append(Turn(claim, subjects[claim.id], lease))
                else:
                    queue.drop(tx, claim)
        if not claims:
            times = (queue.next_due(tx, list(free)), admission.next_opening(tx))
            found.due = min((time for time in times if time is not None), default=None)
        return found

    # --- one turn ----------------------------------------------------------------------------------------------------

    async def _take(self, turn: Turn) -> None:
        """Run one turn and record it; whatever happens, the place becomes free."""
        started = time.perf_counter()
        try:
            report = await self._run(turn)
            ran = time.perf_counter()
            decision = await self._record(turn, report)
            self._log(turn, report, decision, started, ran)
        except LeaseLost:
            emit(
                "turn.lost",
                level=logging.WARNING,
                job=turn.claim.id,
                step=turn.claim.step,
                subject=turn.claim.subject_id,
            )
        except asyncio.CancelledError:
            if not self._stopping:
                emit("turn.lost", level=logging.WARNING, job=turn.claim.id, step=turn.claim.step, cancelled=True)
        except DatabaseError as error:
            emit("turn.crashed", level=logging.WARNING, job=turn.claim.id, step=turn.claim.step, error=str(error))
        except Exception as error:
            logging.getLogger("dailies").exception(
                "turn.crashed", extra={"fields": {"job": turn.claim.id, "step": turn.claim.step, "error": repr(error)}}
            )
        finally:
            self._running.pop(turn.claim.id, None)
            self._doorbell.nudge()

    async def _run(self, turn: Turn) -> Report:
        if turn.claim.claims_unrecorded > POISON_CLAIMS:
            return _poisoned(turn.claim)
        handler = self._handlers[turn.claim.kind]
        if turn.claim.step in {Step.SUBMIT, Step.RESOLVE}:
            return await handler.run(turn)
        try:
            async with asyncio.timeout(self._limits.turn_timeout):
                return await handler.run(turn)
        except TimeoutError:
            message = f"the turn took longer than {self._limits.turn_timeout:g} s (TURN_TIMEOUT)"
            return Report(Failed(Fault("turn_timeout", message, retryable=True), retryable=True))

    async def _record(self, turn: Turn, report: Report) -> Decision | None:
        """Write the report. Facts about money do not fall with a record that fails: they are written alone."""
        handler = self._handlers[turn.claim.kind]
        try:
            return await self._write(turn, report, lambda tx: handler.record_turn(tx, turn, report))
        except DatabaseError:
            raise
        except Exception:
            await self._write(turn, report, lambda tx: _write_facts(tx, report))
            raise

    async def _write(self, turn: Turn, report: Report, unit: Callable[[Tx], Decision | None]) -> Decision | None:
        """Facts are repeated until they are written or this process ends, all else while the lease holds."""
        while True:
            try:
                return await self._db.write(unit, key=turn.claim.id)
            except DatabaseError as error:
                if report.facts:
                    self._cry(turn, report, error)
                elif isinstance(error, CommitUnknown):
                    return None
                elif not isinstance(error, NothingWritten) or not turn.lease.valid():
                    raise
            await asyncio.sleep(REPEAT_SECONDS)

    @staticmethod
    def _cry(turn: Turn, report: Report, error: DatabaseError) -> None:
        claim = turn.claim
        emit(
            "money.unrecorded",
            level=logging.ERROR,
            job=claim.id,
            subject=claim.subject_id,
            error=str(error),
            **report.fields,
        )

    def _log(self, turn: Turn, report: Report, decision: Decision | None, started: float, ran: float) -> None:
        claim = turn.claim
        if decision is None:
            emit("turn.lost", level=logging.WARNING, job=claim.id, step=claim.step, subject=claim.subject_id)
            return
        quiet = isinstance(decision, Snooze)
        emit(
            "turn.done",
            level=logging.DEBUG if quiet else logging.INFO,
            **{"generation" if claim.kind is JobKind.GENERATION else "delivery": claim.subject_id},
            step=claim.step,
            lane=claim.lane,
            outcome=type(report.outcome).__name__,
            decision=type(decision).__name__,
            attempt=claim.attempts + 1,
            rescued=claim.rescued or None,
            late_ms=claim.late_ms,
            run_ms=round((ran - started) * 1000),
            record_ms=round((time.perf_counter() - ran) * 1000),
            error=getattr(getattr(decision, "fault", None), "message", None),
            **report.fields,
        )

    # --- leases ------------------------------------------------------------------------------------------------------

    async def _renew_leases(self) -> None:
        while True:
            await asyncio.sleep(self._limits.lease / RENEWALS_PER_LEASE)
            self._drop_expired()
            if self._running:
                try:
                    await self._renew()
                except Exception as error:
                    emit("worker.failed", level=logging.WARNING, error=f"renewal: {error!r}")

    async def _renew(self) -> None:
        asked = self._clock.monotonic()
        known = dict(self._running)
        async with asyncio.timeout(self._limits.lease):
            held = await self._db.write(lambda tx: queue.extend(tx, self.identity.id, self._limits.lease), first=True)
        for job_id, turn in known.items():
            if job_id in held:
                turn.lease.until = asked + self._limits.lease
            elif self._running.get(job_id) is turn:
                self._interrupt(turn)

    def _drop_expired(self) -> None:
        for turn in list(self._running.values()):
            if turn.lease.ended():
                emit("worker.lease_lost", level=logging.WARNING, job=turn.claim.id, step=turn.claim.step)
                self._interrupt(turn)

    @staticmethod
    def _interrupt(turn: Turn) -> None:
        if turn.task is not None and not turn.paying:
            turn.task.cancel()

    async def _heartbeat(self) -> None:
        while True:
            try:
                await self._db.write(self._sign_in)
            except Exception as error:
                emit("worker.failed", level=logging.WARNING, error=f"heartbeat: {error!r}")
            await asyncio.sleep(HEARTBEAT_SECONDS)

    async def _keep_house(self) -> None:
        while self._maintain is not None:
            try:
                await self._maintain()
            except Exception as error:
                emit("worker.failed", level=logging.ERROR, error=f"maintenance: {error!r}")
            await asyncio.sleep(HEARTBEAT_SECONDS)

    def _sign_in(self, tx: Tx) -> None:
        me = self.identity
        tx.run(
            "INSERT INTO worker (id, host, pid, version, started_at, seen_at)"
            " VALUES (:id, :host, :pid, :version, :now, :now)"
            " ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at",
            {"id": me.id, "host": me.host, "pid": me.pid, "version": me.version, "now": tx.now},
        )

    # --- the end -----------------------------------------------------------------------------------------------------

    async def _drain(self) -> None:
        """Stores stop at once, since they repeat free of charge; polls and deliveries get a moment; a paid call gets
        its bound."""
        turns = [turn for turn in self._running.values() if turn.task is not None]
        emit("service.stopping", worker=self.identity.id, turns=len(turns))
        for turn in turns:
            if turn.claim.step is Step.STORE:
                self._interrupt(turn)
        await self._await_turns(turns, HAND_BACK_SECONDS)
        unpaid = [turn for turn in turns if not turn.paying]
        for turn in unpaid:
            self._interrupt(turn)
        await self._await_turns(unpaid, HAND_BACK_SECONDS)
        await self._hand_back([turn.claim for turn in unpaid])
        paying = [turn for turn in turns if turn not in unpaid]
        await self._await_turns(paying, self._limits.drain_timeout)
        for turn in paying:
            if turn.task is not None:
                turn.task.cancel()
        await self._await_turns(paying, HAND_BACK_SECONDS * 4)
        await self._try_write(lambda tx: tx.run("DELETE FROM worker WHERE id = :id", {"id": self.identity.id}))
        emit("service.stopped", worker=self.identity.id)

    @staticmethod
    async def _await_turns(turns: list[Turn], seconds: float) -> None:
        tasks = [turn.task for turn in turns if turn.task is not None and not turn.task.done()]
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)

    async def _hand_back(self, claims: list[Claim]) -> None:
        """Under the key of its job, so that a record which is on its way goes first."""
        await asyncio.gather(*(self._try_write(partial(queue.release, claim=claim), key=claim.id) for claim in claims))

    async def _try_write(self, unit: Callable[[Tx], object], *, key: int = 0) -> None:
        """What a stop would like to write; where it cannot, the end of the leases says the same."""
        try:
            async with asyncio.timeout(HAND_BACK_SECONDS):
                await self._db.write(unit, key=key)
        except (DatabaseError, TimeoutError) as error:
            emit("worker.failed", level=logging.WARNING, error=f"stopping: {error!r}")


def _poisoned(claim: Claim) -> Report:
    """So many turns ended without a record that the job itself must be what ends them."""
    emit("job.poisoned", level=logging.ERROR, subject=claim.subject_id, step=claim.step, claims=claim.claims_unrecorded)
    message = f"{claim.claims_unrecorded - 1} turns of the {claim.step} step ended without a record"
    return Report(Failed(Fault("poison", message, retryable=True), exhausted=True))


def _write_facts(tx: Tx, report: Report) -> None:
    for fact in report.facts:
        fact(tx)
