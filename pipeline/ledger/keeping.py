"""How long the ledger is kept, and what it forgets."""

from __future__ import annotations

from pipeline.db import Tx
from pipeline.ids import border
from pipeline.spending.caps import DAY_MS

_OLD = (
    "id < :border AND closed_at < :before AND NOT EXISTS"
    " (SELECT 1 FROM generation g WHERE g.id = submission.generation_id)"
)


def prune(tx: Tx, *, before: int, limit: int, dry: bool = False) -> int:
    """Delete submissions that were closed before a time, or count them all; never those of a generation that is still
    known, by which a redrive sees what was paid, never open ones, and never those of today, which count against its
    caps.
    """
    before = min(before, tx.now - tx.now % DAY_MS)
    values = {"border": border("sub", before), "before": before, "limit": limit}
    if dry:
        return int(tx.value(f"SELECT count(*) FROM submission WHERE {_OLD}", values))
    old = f"SELECT id FROM submission WHERE {_OLD} ORDER BY id LIMIT :limit"
    return tx.run(f"DELETE FROM submission WHERE id IN ({old})", values)


def blank(tx: Tx, generation_id: str) -> None:
    """Forget what a provider said about a generation; what was paid, when and under which operation stays."""
    tx.run(
        "UPDATE submission SET error_message = NULL,"
        " operation = CASE WHEN operation IS NULL THEN NULL ELSE '{}' END WHERE generation_id = :id",
        {"id": generation_id},
    )
