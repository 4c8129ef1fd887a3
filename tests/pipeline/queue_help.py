"""Short words for tests of the queue."""

from __future__ import annotations

from typing import Any

from pipeline import queue
from pipeline.db import Database, Row, Tx
from pipeline.lifecycle import Decision, JobKind, Step
from pipeline.queue import Claim, NewJob

LEASE = 10.0
GENERATION = JobKind.GENERATION


def new_job(subject: str, **changes: Any) -> NewJob:
    """A generation's job that is due now, at the poll step."""
    values = {"kind": GENERATION, "tenant_id": "default", "lane": "provider:a", "step": Step.POLL}
    return NewJob(subject_id=subject, **(values | changes))


async def enqueue(db: Database, *subjects: str, **changes: Any) -> None:
    def unit(tx: Tx) -> None:
        for subject in subjects:
            assert queue.enqueue(tx, new_job(subject, **changes)) is not None

    await db.write(unit)


async def claim(
    db: Database, worker: str = "w1", *, step: Step = Step.POLL, limit: int = 10, **more: Any
) -> list[Claim]:
    values = {"lease": LEASE} | more
    return await db.write(lambda tx: queue.claim(tx, worker=worker, step=step, limit=limit, **values))


async def claim_one(db: Database, worker: str = "w1", *, step: Step = Step.POLL, **more: Any) -> Claim:
    (found,) = await claim(db, worker, step=step, **more)
    return found


async def finish(db: Database, claim: Claim, decision: Decision, **more: Any) -> None:
    """What a handler does at the end of a turn."""

    def unit(tx: Tx) -> None:
        locked = queue.lock(tx, claim)
        queue.acknowledge(tx, claim, decision, wake_seq=locked["wake_seq"], **more)

    await db.write(unit)


async def job(db: Database, subject: str) -> Row:
    row = await db.read(lambda tx: tx.one("SELECT * FROM job WHERE subject_id = :id", {"id": subject}))
    assert row is not None
    return row


async def now(db: Database) -> int:
    return await db.read(lambda tx: tx.now)


def subjects(claims: list[Claim]) -> list[str]:
    return [claim.subject_id for claim in claims]
