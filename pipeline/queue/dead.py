"""Dead letters: what ended exhausted, poisoned or past its deadline, listed, grouped, and set going again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.db import Row, Tx
from pipeline.lifecycle import JobKind, JobStatus
from pipeline.queue.jobs import Claim, NewJob, enqueue


@dataclass(frozen=True, slots=True)
class DeadFilter:
    """What dead letters are narrowed to. `tenant` None means all; `subjects` are ids of generations and deliveries."""

    tenant: str | None = None
    kind: JobKind | None = None
    lane: str | None = None
    error_code: str | None = None
    subjects: Sequence[str] | None = None


_CODE = "coalesce(g.error_code, d.error_code, 'unknown')"
_OWN = (
    "d.endpoint_id = 'request' OR EXISTS"
    " (SELECT 1 FROM webhook_endpoint w WHERE w.id = d.endpoint_id AND w.tenant_id = :tenant)"
)
_FROM = (
    " FROM job j LEFT JOIN generation g ON j.kind = 'generation' AND g.id = j.subject_id"
    " LEFT JOIN webhook_delivery d ON j.kind = 'delivery' AND d.id = j.subject_id"
    " LEFT JOIN webhook_event e ON e.id = d.event_id WHERE j.status = 'dead'"
)

Place = tuple[int, int]
"""Where a page ended: the time of death in milliseconds, and the job's id."""


def dead(tx: Tx, narrowed: DeadFilter, *, limit: int, after: Place | None = None) -> list[Row]:
    """Up to `limit` dead letters behind the place `after`, those that died last first.

    Rows: `job_id kind subject_id tenant_id lane step attempts finished_at error_code message generation_id client_id
    event_type`.
    """
    where, values = _narrow(tx, narrowed)
    if after is not None:
        where += " AND (j.finished_at, j.id) < (:at, :job)"
        values |= {"at": after[0], "job": after[1]}
    return tx.all(
        "SELECT j.id AS job_id, j.kind, j.subject_id, j.tenant_id, j.lane, j.step, j.attempts, j.finished_at,"
        f" {_CODE} AS error_code, {_message(narrowed)} AS message, coalesce(g.id, e.generation_id) AS generation_id,"
        f" g.client_id, e.type AS event_type{_FROM}{where} ORDER BY j.finished_at DESC, j.id DESC LIMIT :limit",
        values | {"limit": limit},
    )


def dead_groups(tx: Tx, narrowed: DeadFilter, *, limit: int) -> list[Row]:
    """Dead letters by kind, lane and error, the most first: `jobs`, `oldest`, `newest` and one `message` of each."""
    where, values = _narrow(tx, narrowed)
    return tx.all(
        f"SELECT j.kind, j.lane, {_CODE} AS error_code, count(*) AS jobs, min(j.finished_at) AS oldest,"
        f" max(j.finished_at) AS newest, max({_message(narrowed)}) AS message{_FROM}{where}"
        f" GROUP BY j.kind, j.lane, {_CODE} ORDER BY count(*) DESC, max(j.finished_at) DESC LIMIT :limit",
        values | {"limit": limit},
    )


def _message(narrowed: DeadFilter) -> str:
    """What went wrong, in words; of a place that is not the tenant's own only the code, since words may hold its
    path."""
    told = "d.last_error" if narrowed.tenant is None else f"CASE WHEN {_OWN} THEN d.last_error ELSE d.error_code END"
    return f"coalesce(g.error_message, {told})"


def _narrow(tx: Tx, narrowed: DeadFilter) -> tuple[str, dict[str, object]]:
    given = {
        "j.tenant_id = :tenant": ("tenant", narrowed.tenant),
        "j.kind = :kind": ("kind", narrowed.kind),
        "j.lane = :lane": ("lane", narrowed.lane),
        f"{_CODE} = :code": ("code", narrowed.error_code),
        f"j.subject_id {tx.among}": ("ids", None if narrowed.subjects is None else tx.of(narrowed.subjects)),
    }
    found = {condition: pair for condition, pair in given.items() if pair[1] is not None}
    return "".join(f" AND {condition}" for condition in found), dict(found.values())


def was_dead(tx: Tx, claim: Claim) -> bool:
    """Whether a job that looks for what came late was a dead letter before, and is one again after it."""
    return bool(tx.value("SELECT was_dead FROM job WHERE id = :id", {"id": claim.id}))


def hold(tx: Tx, kind: JobKind, subject_id: str) -> JobStatus | None:
    """Hold the job's row until the transaction ends, as every record of a turn does; None if there is none any more."""
    status = tx.value(
        f"SELECT status FROM job WHERE kind = :kind AND subject_id = :subject_id{tx.for_update}",
        {"kind": kind, "subject_id": subject_id},
    )
    return None if status is None else JobStatus(status)


def redrive(tx: Tx, job: NewJob) -> bool:
    """Set a job going again that has ended, with every counter at its start; False if it has not ended.

    One that only looks for what may come late has ended, too: a turn of it loses its lease. Its fence is kept, so that
    it goes on rising and no turn of before can record anything. A job that was deleted after its time is made anew.
    """
    opened = tx.update(
        "job",
        {
            "lane": job.lane,
            "status": JobStatus.WAITING if job.waiting else JobStatus.PENDING,
            "step": job.step,
            "sort_at": job.sort_at,
            "fallback": int(job.fallback),
            "scheduled_for": tx.now + int(job.delay * 1000),
            "attempts": 0,
            "polls": 0,
            "claims_unrecorded": 0,
            "cancel_requested": 0,
            "unfunded": 0,
            "was_dead": 0,
            "locked_by": None,
            "locked_until": None,
            "finished_at": None,
        },
        "kind = :kind AND subject_id = :subject_id AND (finished_at IS NOT NULL OR step = 'late')",
        {"kind": job.kind, "subject_id": job.subject_id},
    )
    return opened == 1 or enqueue(tx, job) is not None
