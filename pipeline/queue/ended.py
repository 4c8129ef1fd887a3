"""Jobs that have ended."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.db import Tx
from pipeline.lifecycle import JobKind

_OLD = "finished_at < :before AND finished_at IS NOT NULL AND status <> 'dead'"


def prune(tx: Tx, *, before: int, limit: int, dry: bool = False) -> int:
    """Delete jobs that are done or cancelled since before a time, or count them all; dead ones stay until they are
    redriven or their subject goes."""
    if dry:
        return int(tx.value(f"SELECT count(*) FROM job WHERE {_OLD}", {"before": before}))
    return tx.run(
        f"DELETE FROM job WHERE id IN (SELECT id FROM job WHERE {_OLD} ORDER BY finished_at LIMIT :limit)",
        {"before": before, "limit": limit},
    )


def forget(tx: Tx, kind: JobKind, subject_ids: Sequence[str]) -> None:
    """Delete the jobs of subjects that go."""
    tx.run(f"DELETE FROM job WHERE kind = :kind AND subject_id {tx.among}", {"kind": kind, "ids": tx.of(subject_ids)})
