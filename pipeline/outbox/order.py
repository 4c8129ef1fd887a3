"""Order: to an endpoint that asks for it, a later event of a generation waits for earlier ones, but not for ever."""

from __future__ import annotations

from pipeline import queue
from pipeline.db import Row, Tx
from pipeline.lifecycle import JobKind

BOUND_MS = 60_000
"""So long after its own first time an event goes in any case."""

_EARLIER = """
SELECT 1 FROM webhook_event e JOIN webhook_delivery d ON d.event_id = e.id
WHERE e.generation_id = :generation AND e.sequence < :sequence
  AND d.endpoint_id = :endpoint AND d.redelivery = 0 AND d.finished_at IS NULL LIMIT 1"""

_NEXT = """
SELECT d.id, d.attempts, d.created_at FROM webhook_event e JOIN webhook_delivery d ON d.event_id = e.id
WHERE e.generation_id = :generation AND e.sequence > :sequence
  AND d.endpoint_id = :endpoint AND d.redelivery = 0 AND d.finished_at IS NULL ORDER BY e.sequence LIMIT 1"""


def wait(tx: Tx, delivery: Row, event: Row, *, first: float) -> float:
    """Seconds to wait for earlier events at most; 0 if there are none, or it has waited long enough.

    `first` is how many seconds after it was made a delivery is first due. One that a person sends again waits for none.
    """
    left = delivery["created_at"] + int(first * 1000) + BOUND_MS - tx.now
    if delivery["redelivery"] or delivery["attempts"] or left <= 0:
        return 0.0
    return left / 1000 if tx.one(_EARLIER, _place(delivery, event)) else 0.0


def ended(tx: Tx, delivery: Row, event: Row, *, first: float) -> None:
    """Let the next one go, which waited for this; one that failed before keeps its own time."""
    row = tx.one(_NEXT, _place(delivery, event))
    if row is not None and not row["attempts"] and row["created_at"] + int(first * 1000) <= tx.now:
        queue.wake(tx, JobKind.DELIVERY, row["id"])


def _place(delivery: Row, event: Row) -> Row:
    return {
        "generation": event["generation_id"],
        "sequence": event["sequence"],
        "endpoint": delivery["endpoint_id"],
    }
