"""Runner: the turns that this process is in the middle of. Each is run, recorded and logged; then its place is free."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping

from pipeline.db import CommitUnknown, Database, DatabaseError, NothingWritten, Tx
from pipeline.lifecycle import POISON_CLAIMS, Decision, Failed, Fault, Hold, JobKind, Snooze, Step
from pipeline.queue import Claim, LeaseLost
from pipeline.telemetry import emit
from pipeline.turn import Handler, Report, Together, Turn
from pipeline.worker.limits import Limits
from pipeline.worker.together import Gathered

REPEAT_SECONDS = 0.5


class Runner:
    """Runs turns, each as a task of its own.

    Args:
        ended: called when a turn's place has become free, with what was decided; None if nothing was recorded.

    Attributes:
        running: the turns under way, by job id.
        stopping: whether the process is about to end; turns that are cut then are no news.
    """

    def __init__(
        self,
        db: Database,
        ended: Callable[[Turn, Decision | None], None],
        handlers: Mapping[JobKind, Handler],
        limits: Limits,
    ) -> None:
        self._db = db
        self._ended = ended
        self._handlers = handlers
        self._limits = limits
        self._gathered = {
            kind: Gathered(db, handler, limits.batch)
            for kind, handler in handlers.items()
            if isinstance(handler, Together)
        }
        self.running: dict[int, Turn] = {}
        self.stopping = False

    def start(self, turn: Turn) -> None:
        """Begin a turn."""
        self.running[turn.claim.id] = turn
        turn.task = asyncio.create_task(self._take(turn), name=f"turn-{turn.claim.id}")

    def free(self) -> dict[Step, int]:
        """Places left per step; steps without a place are absent."""
        used = Counter(turn.claim.step for turn in self.running.values())
        free = {step: slots - used[step] for step, slots in self._limits.slots.items()}
        return {step: places for step, places in free.items() if places > 0}

    @staticmethod
    def interrupt(turn: Turn) -> None:
        """End a turn that is no longer ours, unless its answer is worth money."""
        if turn.task is not None and not turn.paying:
            turn.task.cancel()

    async def _take(self, turn: Turn) -> None:
        """Run one turn and record it; whatever happens, the place becomes free."""
        started, decision = time.perf_counter(), None
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
            if not self.stopping:
                emit("turn.lost", level=logging.WARNING, job=turn.claim.id, step=turn.claim.step, cancelled=True)
        except DatabaseError as error:
            emit("turn.crashed", level=logging.WARNING, job=turn.claim.id, step=turn.claim.step, error=str(error))
        except Exception as error:
            _tell_error(turn, error)
        finally:
            if self.running.get(turn.claim.id) is turn:
                del self.running[turn.claim.id]
            self._ended(turn, decision)

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
        turn.recording = True
        handler = self._handlers[turn.claim.kind]
        gathered = self._gathered.get(turn.claim.kind)
        if gathered is not None and gathered.takes(turn, report):
            decision = await gathered.record((turn, report))
            if decision is not None:
                return decision
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
        emit(
            "turn.done",
            level=_LEVELS.get(type(decision), logging.INFO),
            **{claim.kind.value: claim.subject_id},
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


_LEVELS: dict[type, int] = {Snooze: logging.DEBUG, Hold: logging.WARNING}
"""A turn that is nothing new, and one after which nobody knows what became of a paid call."""


def _poisoned(claim: Claim) -> Report:
    """So many turns ended without a record that the job itself must be what ends them."""
    emit("job.poisoned", level=logging.ERROR, subject=claim.subject_id, step=claim.step, claims=claim.claims_unrecorded)
    message = f"{claim.claims_unrecorded - 1} turns of the {claim.step} step ended without a record"
    return Report(Failed(Fault("poison", message, retryable=True), exhausted=True))


def _tell_error(turn: Turn, error: Exception) -> None:
    """What a turn finds gone after its lease has ended is no crash: another took it over."""
    claim = turn.claim
    if turn.lease.ended():
        emit("turn.lost", level=logging.WARNING, exc_info=error, job=claim.id, step=claim.step, error=repr(error))
    else:
        emit("turn.crashed", level=logging.ERROR, exc_info=error, job=claim.id, step=claim.step, error=repr(error))


def _write_facts(tx: Tx, report: Report) -> None:
    for fact in report.facts:
        fact(tx)
