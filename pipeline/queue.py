"""The queue: the only writer of `job`. Every function is short, synchronous and runs inside somebody's transaction.

A claim takes a job under a lease (`locked_by`, `locked_until`) and raises its fence. What follows from a turn is
written only by whoever still holds both: `lock` says whether that is so, `acknowledge` writes the decision.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.db import Row, Tx
from pipeline.lifecycle import (
    Advance,
    Cancel,
    Complete,
    DeadLetter,
    Decision,
    Fail,
    Hold,
    JobKind,
    JobStatus,
    Requeue,
    Retry,
    Snooze,
    Step,
)

FAR_FUTURE = 253_402_300_799_000
"""The end of the year 9999 in milliseconds: when a parked job would be due."""


class LeaseLost(Exception):
    """The lease ended or somebody else took the job: nothing of the decision is kept."""


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to be. `waiting` jobs go through admission; the others are due after `delay` seconds."""

    kind: JobKind
    subject_id: str
    tenant_id: str
    lane: str
    step: Step
    sort_at: int = 0
    waiting: bool = False
    delay: float = 0.0


@dataclass(frozen=True, slots=True)
class Claim:
    """A job that this process holds. `late_ms` is how long after its time it was taken; `rescued` means from a dead
    lease."""

    id: int
    kind: JobKind
    subject_id: str
    tenant_id: str
    lane: str
    step: Step
    attempts: int
    polls: int
    claims_unrecorded: int
    fence: int
    wake_seq: int
    worker: str
    late_ms: int
    rescued: bool


def enqueue(tx: Tx, job: NewJob) -> int | None:
    """Add a job; None if its subject has one already."""
    row = tx.insert(
        "job",
        {
            "kind": job.kind,
            "subject_id": job.subject_id,
            "tenant_id": job.tenant_id,
            "lane": job.lane,
            "status": JobStatus.WAITING if job.waiting else JobStatus.PENDING,
            "step": job.step,
            "sort_at": job.sort_at,
            "scheduled_for": tx.now + int(job.delay * 1000),
            "attempts": 0,
            "polls": 0,
            "claims_unrecorded": 0,
            "fence": 0,
            "wake_seq": 0,
            "cancel_requested": 0,
        },
        on_conflict="DO NOTHING",
        returning="id",
    )
    return row["id"] if row else None


_LANES = """
WITH RECURSIVE lanes(lane) AS (
  SELECT min(lane) FROM job WHERE status = 'pending' AND step = :step
  UNION ALL
  SELECT (SELECT min(j.lane) FROM job j WHERE j.status = 'pending' AND j.step = :step AND j.lane > lanes.lane)
  FROM lanes WHERE lanes.lane IS NOT NULL
)
"""

_DUE_OF_LANE = """
SELECT j.id, j.lane, j.scheduled_for FROM job j
  WHERE j.status = 'pending' AND j.step = :step AND j.lane = lanes.lane AND j.scheduled_for <= :now
  ORDER BY j.scheduled_for, j.id LIMIT :per_lane"""

_DUE_SQLITE = f"""{_LANES}
SELECT job.id, job.lane, job.scheduled_for FROM lanes JOIN job ON job.id IN (SELECT id FROM ({_DUE_OF_LANE}))
ORDER BY job.scheduled_for, job.id"""

_DUE_POSTGRES = f"""{_LANES}
SELECT job.id, job.lane, job.scheduled_for FROM lanes CROSS JOIN LATERAL ({_DUE_OF_LANE}
  FOR UPDATE SKIP LOCKED) job
ORDER BY job.scheduled_for, job.id"""
"""PostgreSQL would try every job with every lane, were it asked as SQLite is, which has no LATERAL."""

_EXPIRED = """
SELECT id, lane, locked_until AS scheduled_for FROM job
WHERE status = 'processing' AND step = :step AND locked_until <= :now ORDER BY locked_until, id LIMIT :rescues"""

RESCUES = 1_000
"""Expired leases that one claim looks at: enough that those of a lane without a free place hide no others."""

_TAKE = """
UPDATE job SET status = 'processing', fence = fence + 1, claims_unrecorded = claims_unrecorded + 1,
  locked_by = :worker, locked_until = :until
WHERE id {among} AND step = :step
  AND ((status = 'pending' AND scheduled_for <= :now) OR (status = 'processing' AND locked_until <= :now))
RETURNING id, kind, subject_id, tenant_id, lane, step, attempts, polls, claims_unrecorded, fence, wake_seq"""


def claim(
    tx: Tx,
    *,
    worker: str,
    step: Step,
    limit: int,
    lease: float,
    busy: Mapping[str, int] | None = None,
    per_lane: int = 0,
) -> list[Claim]:
    """Take up to `limit` due jobs of a step, expired leases first, then lanes in turn.

    `busy` counts the turns that this process already runs per lane, of which `per_lane` are allowed (0: no bound), so
    that one slow receiver or provider cannot fill the slots.
    """
    lanes = dict(busy or {})
    bound = per_lane or limit
    asked = {"step": step, "now": tx.now, "per_lane": min(limit, bound)}
    rescued = tx.all(_EXPIRED + tx.skip_locked, {"step": step, "now": tx.now, "rescues": RESCUES})
    expired = {row["id"] for row in rescued}
    due = rescued + tx.all(_DUE_POSTGRES if tx.postgres else _DUE_SQLITE, asked)
    chosen = _in_turn(due, lanes, bound)[:limit]
    got = _take(tx, [row["id"] for row in chosen], step=step, worker=worker, lease=lease)
    return [
        _as_claim(
            got[row["id"]],
            worker=worker,
            late_ms=max(0, tx.now - row["scheduled_for"]),
            rescued=row["id"] in expired,
        )
        for row in chosen
        if row["id"] in got
    ]


def _take(tx: Tx, ids: list[int], *, step: Step, worker: str, lease: float) -> dict[int, Row]:
    """Take those that are still to be had, all in one statement; by id."""
    if not ids:
        return {}
    among = "= ANY(:ids)" if tx.postgres else "IN (SELECT value FROM json_each(:ids))"
    values = {
        "ids": ids if tx.postgres else json.dumps(ids),
        "step": step,
        "worker": worker,
        "until": tx.now + int(lease * 1000),
        "now": tx.now,
    }
    return {row["id"]: row for row in tx.all(_TAKE.format(among=among), values)}


def _in_turn(due: Sequence[Row], busy: dict[str, int], bound: int) -> list[Row]:
    """One job of each lane, then a second of each, and so on; a lane stops at its bound."""
    ranked = []
    for order, row in enumerate(due):
        rank = busy.get(row["lane"], 0)
        if rank < bound:
            busy[row["lane"]] = rank + 1
            ranked.append((rank, order, row))
    return [row for _, _, row in sorted(ranked, key=lambda item: item[:2])]


def _as_claim(row: Row, *, worker: str, late_ms: int, rescued: bool) -> Claim:
    values = dict(row)
    values["kind"], values["step"] = JobKind(row["kind"]), Step(row["step"])
    return Claim(**values, worker=worker, late_ms=late_ms, rescued=rescued)


def next_due(tx: Tx, steps: Sequence[Step]) -> int | None:
    """When the next job of these steps comes due, in the database's milliseconds; leases that end count too.

    What is due already is left out: whoever just claimed and did not get it has no place for it, and the end of one of
    its turns is what to wait for.
    """
    times = []
    for step in steps:
        pending = _LANES + (
            "SELECT min((SELECT min(j.scheduled_for) FROM job j WHERE j.status = 'pending' AND j.step = :step"
            " AND j.lane = lanes.lane AND j.scheduled_for > :now)) FROM lanes WHERE lanes.lane IS NOT NULL"
        )
        leased = (
            "SELECT min(locked_until) FROM job WHERE status = 'processing' AND step = :step AND locked_until > :now"
        )
        times += [tx.value(sql, {"step": step, "now": tx.now}) for sql in (pending, leased)]
    return min((time for time in times if time is not None), default=None)


def extend(tx: Tx, worker: str, job_ids: Iterable[int], lease: float) -> set[int]:
    """Renew the leases of the turns that a process runs; returns the ids of the jobs that it still holds.

    What is leased to it but not run (a turn that crashed, a claim whose commit was not answered) is left to expire.
    """
    ids = ", ".join(str(int(job_id)) for job_id in sorted(job_ids))
    if not ids:
        return set()
    rows = tx.all(
        "UPDATE job SET locked_until = :until WHERE status = 'processing' AND locked_by = :worker"
        f" AND locked_until > :now AND id IN ({ids}) RETURNING id",
        {"worker": worker, "until": tx.now + int(lease * 1000), "now": tx.now},
    )
    return {row["id"] for row in rows}


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
        case Requeue():
            attempts = claim.attempts if claim.step is Step.SUBMIT else 0
            return _due(tx, 0.0) | {"status": JobStatus.WAITING, "step": Step.SUBMIT, "attempts": attempts}
        case Complete() | Fail():
            return {"status": JobStatus.DONE, "finished_at": tx.now}
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


def wake(tx: Tx, kind: JobKind, subject_id: str) -> None:
    """Make a job due now, or, while a turn of it runs, right after that turn. Touches neither fence nor lease.

    One that is parked is looked into again: whoever wakes it has news of it.
    """
    tx.run(
        "UPDATE job SET wake_seq = wake_seq + 1,"
        " step = CASE WHEN status = 'pending' AND step = 'held' THEN 'resolve' ELSE step END,"
        " scheduled_for = CASE WHEN status = 'pending' AND scheduled_for > :now THEN :now ELSE scheduled_for END"
        " WHERE kind = :kind AND subject_id = :subject_id",
        {"kind": kind, "subject_id": subject_id, "now": tx.now},
    )


def cancel_unstarted(tx: Tx, kind: JobKind, subject_id: str) -> bool:
    """End a job that no turn holds and that has not gone beyond its first step; False if it is not so."""
    return bool(
        tx.run(
            "UPDATE job SET status = 'cancelled', cancel_requested = 1, finished_at = :now WHERE kind = :kind"
            " AND subject_id = :subject_id AND step = 'submit' AND (status = 'waiting' OR status = 'pending')"
            " AND NOT EXISTS (SELECT 1 FROM submission s WHERE s.generation_id = job.subject_id"
            " AND s.outcome IN ('intended', 'accepted', 'unknown'))",
            {"kind": kind, "subject_id": subject_id, "now": tx.now},
        )
    )


def request_cancel(tx: Tx, kind: JobKind, subject_id: str) -> None:
    """Ask for the end of a job: `decide` sees it at the next record, and the next turn comes at once."""
    tx.run(
        "UPDATE job SET cancel_requested = 1 WHERE kind = :kind AND subject_id = :subject_id",
        {"kind": kind, "subject_id": subject_id},
    )
    wake(tx, kind, subject_id)


def prune(tx: Tx, *, kind: JobKind, before: int, limit: int) -> int:
    """Delete finished jobs of a kind that ended before a time; dead ones stay until they are redriven or deleted.

    The kind is compared as an expression, or SQLite would go through all jobs of the kind by another index.
    """
    return tx.run(
        "DELETE FROM job WHERE id IN (SELECT id FROM job WHERE finished_at < :before AND finished_at IS NOT NULL"
        " AND kind || '' = :kind AND status <> 'dead' ORDER BY finished_at LIMIT :limit)",
        {"before": before, "kind": kind, "limit": limit},
    )


def stats(tx: Tx) -> list[Row]:
    """Counts of live and dead jobs by kind, status and step, with the oldest time of each group."""
    return [
        row
        for status in ("waiting", "pending", "processing", "dead")
        for row in tx.all(
            f"SELECT kind, '{status}' AS status, step, lane, count(*) AS jobs, min(sort_at) AS oldest_sort,"
            f" min(scheduled_for) AS oldest_due FROM job WHERE status = '{status}' GROUP BY kind, step, lane"
        )
    ]
