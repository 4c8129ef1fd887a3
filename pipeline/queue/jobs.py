"""What a job is: one to be, and one that this process holds."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.db import Tx
from pipeline.lifecycle import JobKind, JobStatus, Step

FAR_FUTURE = 253_402_300_799_000
"""The end of the year 9999 in milliseconds: when a parked job would be due."""


class LeaseLost(Exception):
    """The lease ended or somebody else took the job: nothing of the decision is kept."""


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to be. `waiting` jobs go through admission; the others are due after `delay` seconds. With `fallback`
    another provider could be asked instead."""

    kind: JobKind
    subject_id: str
    tenant_id: str
    lane: str
    step: Step
    sort_at: int = 0
    waiting: bool = False
    delay: float = 0.0
    fallback: bool = False
    user_id: str | None = None


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
            "fallback": int(job.fallback),
            "user_id": job.user_id or "",
        },
        on_conflict="DO NOTHING",
        returning="id",
    )
    return row["id"] if row else None
