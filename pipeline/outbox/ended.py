"""Deliveries that have ended: deleted after their time."""

from __future__ import annotations

from pipeline.db import Tx


def prune(tx: Tx, *, before: int, limit: int) -> int:
    """Delete deliveries that ended well before a time, with their attempts. Events stay with their generation."""
    old = tx.all(
        "SELECT id FROM webhook_delivery WHERE finished_at IS NOT NULL AND finished_at < :before"
        " AND state <> 'dead' ORDER BY finished_at LIMIT :limit",
        {"before": before, "limit": limit},
    )
    for row in old:
        tx.run("DELETE FROM webhook_attempt WHERE delivery_id = :id", row)
        tx.run("DELETE FROM webhook_delivery WHERE id = :id", row)
    return len(old)
