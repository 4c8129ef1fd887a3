"""What a person, or late news, decide about a job, whoever holds it: a turn that does loses its lease; only its facts
are kept."""

from __future__ import annotations

from pipeline.db import Row, Tx
from pipeline.lifecycle import JobKind, JobStatus, Step

_RELEASED: dict[str, object] = {
    "locked_by": None,
    "locked_until": None,
    "attempts": 0,
    "polls": 0,
    "claims_unrecorded": 0,
}
_LIVE = "kind = :kind AND subject_id = :subject_id AND finished_at IS NULL"


def held_turn(tx: Tx, kind: JobKind, subject_id: str) -> Row | None:
    """Hold the job's row, if it has not ended: its `step`, and `leased_until` where a turn holds it just now."""
    return tx.one(
        "SELECT step, CASE WHEN status = 'processing' AND locked_until > :now THEN locked_until END AS leased_until"
        f" FROM job WHERE {_LIVE}{tx.for_update}",
        {"kind": kind, "subject_id": subject_id, "now": tx.now},
    )


def send_to(tx: Tx, kind: JobKind, subject_id: str, step: Step) -> None:
    """The job's next turn is of this step: at once, or after admission, with its old place in line, where it is
    `submit`."""
    status = JobStatus.WAITING if step is Step.SUBMIT else JobStatus.PENDING
    values = _RELEASED | {"status": status, "step": step, "scheduled_for": tx.now}
    tx.update("job", values, _LIVE, {"kind": kind, "subject_id": subject_id})


def leave_line(tx: Tx, kind: JobKind, subject_id: str, step: Step) -> bool:
    """A job that waits for admission needs none any more: its next turn is of this step, at once. False if it does not
    wait."""
    values = _RELEASED | {"status": JobStatus.PENDING, "step": step, "scheduled_for": tx.now}
    waiting = f"{_LIVE} AND status = 'waiting'"
    return tx.update("job", values, waiting, {"kind": kind, "subject_id": subject_id}) == 1


def follow(tx: Tx, kind: JobKind, subject_id: str, lane: str, *, fallback: bool) -> None:
    """The job goes on in the lane where its work was taken."""
    values = {"lane": lane, "fallback": int(fallback)}
    tx.update("job", values, _LIVE, {"kind": kind, "subject_id": subject_id})


def end(tx: Tx, kind: JobKind, subject_id: str, status: JobStatus) -> None:
    """There is nothing more to do: `done` or `cancelled`."""
    values = _RELEASED | {"status": status, "finished_at": tx.now}
    tx.update("job", values, _LIVE, {"kind": kind, "subject_id": subject_id})
