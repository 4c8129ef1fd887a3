"""What follows from a turn, written under the fence."""

from __future__ import annotations

from pipeline.db import Row, Tx
from pipeline.lifecycle import (
    Advance,
    Cancel,
    Complete,
    DeadLetter,
    Decision,
    Fail,
    Fallback,
    Hold,
    JobStatus,
    Requeue,
    Retry,
    Snooze,
    Step,
)
from pipeline.queue.jobs import FAR_FUTURE, Claim, LeaseLost

_HELD = " WHERE id = :id AND fence = :fence AND locked_by = :worker AND locked_until > :now AND status = 'processing'"


def lock(tx: Tx, claim: Claim) -> Row:
    """Hold the job's row under the fence; returns `wake_seq` and `cancel_requested` as they are now. Raises
    LeaseLost."""
    row = tx.one(f"SELECT wake_seq, cancel_requested FROM job{_HELD}{tx.for_update}", _fenced(tx, claim))
    if row is None:
        raise LeaseLost(f"job {claim.id}: fence {claim.fence} of {claim.worker} is no longer the holder")
    return row


def _fenced(tx: Tx, claim: Claim) -> dict[str, object]:
    return {"id": claim.id, "fence": claim.fence, "worker": claim.worker, "now": tx.now}


def acknowledge(tx: Tx, claim: Claim, decision: Decision, *, wake_seq: int, cancel_requested: bool = False) -> None:
    """Write what follows from a turn, under the fence, and give the job back. Raises LeaseLost.

    What is to come later becomes due at once if `wake_seq` (as `lock` read it) moved during the turn; a retry only if
    it was a cancel that woke it, since news do not mend a failure.
    """
    values = _consequences(tx, claim, decision)
    waking = isinstance(decision, Snooze | Advance | Hold) or (isinstance(decision, Retry) and cancel_requested)
    if wake_seq != claim.wake_seq and waking:
        values["scheduled_for"] = tx.now
        if values.get("step") is Step.HELD:
            values["step"] = Step.RESOLVE
    released: dict[str, object] = {"locked_by": None, "locked_until": None, "claims_unrecorded": 0}
    if tx.update("job", values | released, _HELD.removeprefix(" WHERE "), _fenced(tx, claim)) != 1:
        raise LeaseLost(f"job {claim.id}: fence {claim.fence} of {claim.worker} is no longer the holder")


def _consequences(tx: Tx, claim: Claim, decision: Decision) -> dict[str, object]:
    match decision:
        case Snooze(delay):
            return _due(tx, delay) | {"polls": claim.polls + 1, "attempts": 0}
        case Retry(delay):
            return _due(tx, delay) | {"attempts": claim.attempts + 1}
        case Advance(step, delay):
            return _due(tx, delay) | {"step": step, "attempts": 0}
        case Hold(None):
            return {"status": JobStatus.PENDING, "scheduled_for": FAR_FUTURE, "step": Step.HELD, "attempts": 0}
        case Hold(delay) if delay is not None:
            return _due(tx, delay) | {"step": Step.RESOLVE, "attempts": 0, "polls": 0}
        case Requeue(stays=stays):
            attempts = claim.attempts if claim.step is Step.SUBMIT else 0
            moved = {"status": JobStatus.WAITING, "step": Step.SUBMIT, "attempts": attempts, "polls": 0}
            return _due(tx, 0.0) | moved | ({"fallback": 0} if stays else {})
        case Fallback(lane=lane, more=more):
            moved = {"status": JobStatus.WAITING, "step": Step.SUBMIT, "attempts": 0, "polls": 0}
            return _due(tx, 0.0) | moved | {"lane": lane, "fallback": int(more)}
        case Complete() | Fail():
            return {"status": JobStatus.DONE, "finished_at": tx.now}
        case DeadLetter(late=late) | Cancel(late) if late is not None:
            looking = {"step": Step.LATE, "attempts": 0, "polls": 0, "cancel_requested": 0}
            return _due(tx, late) | looking | {"was_dead": int(isinstance(decision, DeadLetter))}
        case DeadLetter():
            return {"status": JobStatus.DEAD, "finished_at": tx.now, "attempts": claim.attempts + 1}
        case Cancel():
            return {"status": JobStatus.CANCELLED, "finished_at": tx.now}
    raise AssertionError(f"the queue does not know {decision}")


def _due(tx: Tx, delay: float) -> dict[str, object]:
    return {"status": JobStatus.PENDING, "scheduled_for": tx.now + int(delay * 1000)}


def release(tx: Tx, claim: Claim) -> bool:
    """Hand a job back as if it had not been taken: a graceful stop counts in no counter."""
    values = {
        "status": JobStatus.PENDING,
        "scheduled_for": tx.now,
        "locked_by": None,
        "locked_until": None,
        "claims_unrecorded": claim.claims_unrecorded - 1,
    }
    return tx.update("job", values, _HELD.removeprefix(" WHERE "), _fenced(tx, claim)) == 1


def drop(tx: Tx, claim: Claim) -> None:
    """End a job whose subject is gone: there is nothing left to do or to tell."""
    tx.update(
        "job",
        {"status": JobStatus.CANCELLED, "finished_at": tx.now, "locked_by": None, "locked_until": None},
        "id = :id",
        {"id": claim.id},
    )
