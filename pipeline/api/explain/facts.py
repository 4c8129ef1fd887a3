"""What is known of a generation just now, read in one transaction, from which its explanation is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline import admission, ledger, outbox, timeline
from pipeline.admission import Standing
from pipeline.api.queue_status import ALIVE_MS
from pipeline.api.service import Service
from pipeline.db import Row, Tx
from pipeline.generations.unclear import attempts, unclear_of
from pipeline.lifecycle import JobKind, JobStatus
from pipeline.schemas import timeline_view


@dataclass(frozen=True, slots=True)
class Workers:
    """Who could take a turn: how many were seen of late, and when the last one was (milliseconds), None if never."""

    alive: int
    seen_at: int | None


@dataclass(frozen=True, slots=True)
class Facts:
    """A generation with all that says why it stands where it stands.

    Attributes:
        now: the database's milliseconds.
        job: its row in the queue, None once that was pruned.
        standing: why it waits, if it waits.
        holder: the worker whose turn it is just now.
        unclear: its paid call of unknown outcome, with what its generation and job say; and what was tried.
        trouble: the last line of its timeline in this run that tells of a failure or a refusal.
    """

    now: int
    row: Row
    job: Row | None
    standing: Standing | None
    workers: Workers
    holder: Row | None
    submissions: Sequence[Row]
    unclear: Row | None
    tried: Sequence[Row]
    trouble: Mapping[str, str] | None
    deliveries: Sequence[Row]


def gather(tx: Tx, row: Row, service: Service) -> Facts:
    """Everything about one generation. Short statements by index, whatever else the queue holds."""
    job = tx.one(
        "SELECT * FROM job WHERE kind = :kind AND subject_id = :id", {"kind": JobKind.GENERATION, "id": row["id"]}
    )
    waits = job is not None and job["status"] == JobStatus.WAITING
    open_call = unclear_of(tx, row["id"])
    return Facts(
        now=tx.now,
        row=row,
        job=job,
        standing=admission.standing(tx, job, service.bounds, service.purse) if waits and job is not None else None,
        workers=_workers(tx),
        holder=_holder(tx, job),
        submissions=ledger.history(tx, row["id"]),
        unclear=open_call,
        tried=attempts(tx, [row["id"]]).get(row["id"], []) if open_call is not None else [],
        trouble=_trouble(tx, row),
        deliveries=outbox.deliveries(tx, row["id"]),
    )


def _workers(tx: Tx) -> Workers:
    row = tx.one(
        "SELECT count(CASE WHEN seen_at > :since THEN 1 END) AS alive, max(seen_at) AS seen FROM worker",
        {"since": tx.now - ALIVE_MS},
    )
    assert row is not None
    return Workers(int(row["alive"]), row["seen"])


def _holder(tx: Tx, job: Row | None) -> Row | None:
    if job is None or job["locked_by"] is None:
        return None
    return tx.one("SELECT * FROM worker WHERE id = :id", {"id": job["locked_by"]})


def _trouble(tx: Tx, row: Row) -> Mapping[str, str] | None:
    lines = [timeline_view(line) for line in timeline.read(tx, row["id"])]
    told = [line for line in lines if line["run"] == row["run"] and line["detail"].get("reason")]
    if not told:
        return None
    line, detail = told[-1], told[-1]["detail"]
    return {"at": line["at"], "event": line["event"], "message": str(detail["reason"])}
