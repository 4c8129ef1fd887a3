"""Jobs that have ended: deleted after their time."""

from __future__ import annotations

from pipeline.db import Tx
from pipeline.lifecycle import JobKind


def prune(tx: Tx, *, kind: JobKind, before: int, limit: int) -> int:
    """Delete finished jobs of a kind that ended before a time; dead ones stay until they are redriven or deleted.

    The kind is compared as an expression, or SQLite would go through all jobs of the kind by another index.
    """
    return tx.run(
        "DELETE FROM job WHERE id IN (SELECT id FROM job WHERE finished_at < :before AND finished_at IS NOT NULL"
        " AND kind || '' = :kind AND status <> 'dead' ORDER BY finished_at LIMIT :limit)",
        {"before": before, "kind": kind, "limit": limit},
    )
