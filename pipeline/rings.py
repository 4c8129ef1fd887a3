"""What providers rang: the only writer of `callback`. A ring is kept once, so that a repeat of it wakes nobody."""

from __future__ import annotations

from pipeline.db import Row, Tx
from pipeline.ids import border
from providers.base import Callback


def keep(tx: Tx, ring_id: str, submission: Row, ring: Callback) -> bool:
    """Write a ring about a submission; False if it was kept before."""
    row = {
        "id": ring_id,
        "provider": submission["provider"],
        "event_id": ring.event_id,
        "token": submission["token"],
        "operation_id": ring.operation_id,
        "generation_id": submission["generation_id"],
        "received_at": tx.now,
    }
    return tx.insert("callback", row, on_conflict="DO NOTHING", returning="id") is not None


def prune(tx: Tx, *, before: int, limit: int, dry: bool = False) -> int:
    """Delete rings from before a time, or count them all."""
    values = {"border": border("cbk", before), "limit": limit}
    if dry:
        return int(tx.value("SELECT count(*) FROM callback WHERE id < :border", values))
    old = "SELECT id FROM callback WHERE id < :border ORDER BY id LIMIT :limit"
    return tx.run(f"DELETE FROM callback WHERE id IN ({old})", values)
