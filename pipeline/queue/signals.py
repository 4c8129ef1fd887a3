"""Signals from outside a turn: news, and the wish for an end. They touch neither fence nor lease."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.db import Tx
from pipeline.lifecycle import JobKind


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


def hurry(tx: Tx, kind: JobKind, subject_ids: Sequence[str]) -> list[str]:
    """Make those due now that wait for a time; their subjects. One that somebody holds just now is left out, so that
    many can be hurried under a lock of one's own without a deadlock."""
    found = tx.all(
        f"SELECT subject_id FROM job WHERE kind = :kind AND subject_id {tx.among} AND status = 'pending'"
        f" AND scheduled_for > :now{tx.skip_locked}",
        {"kind": kind, "ids": tx.of(subject_ids), "now": tx.now},
    )
    waiting = [row["subject_id"] for row in found]
    tx.run(
        f"UPDATE job SET wake_seq = wake_seq + 1, scheduled_for = :now WHERE kind = :kind AND subject_id {tx.among}",
        {"kind": kind, "ids": tx.of(waiting), "now": tx.now},
    )
    return waiting


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


def look_again(tx: Tx, generation_id: str) -> None:
    """Wake a generation's job for news of a paid call; one that has ended takes a look at what came late.

    Of a dead letter it is remembered that it was one (see `was_dead`).
    """
    tx.run(
        "UPDATE job SET status = 'pending', step = 'late', scheduled_for = :now, finished_at = NULL, attempts = 0,"
        " polls = 0, claims_unrecorded = 0, cancel_requested = 0,"
        " was_dead = CASE WHEN status = 'dead' THEN 1 ELSE 0 END"
        " WHERE kind = 'generation' AND subject_id = :id AND finished_at IS NOT NULL",
        {"id": generation_id, "now": tx.now},
    )
    wake(tx, JobKind.GENERATION, generation_id)
