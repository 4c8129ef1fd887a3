"""What is waiting, under way and dead, counted."""

from __future__ import annotations

from pipeline.db import Row, Tx


def stats(tx: Tx) -> list[Row]:
    """Counts of live and dead jobs by kind, status and step, with the oldest time of each group."""
    return [
        row
        for status in ("waiting", "pending", "processing", "dead")
        for row in tx.all(
            f"SELECT kind, '{status}' AS status, step, lane, count(*) AS jobs, min(sort_at) AS oldest_sort,"
            f" min(scheduled_for) AS oldest_due FROM job WHERE status = '{status}' GROUP BY kind, step, lane"
        )
    ]
