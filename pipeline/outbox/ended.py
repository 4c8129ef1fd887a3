"""What was told long ago, or of a generation that goes."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline import queue
from pipeline.db import Tx
from pipeline.ids import border
from pipeline.lifecycle import JobKind
from pipeline.outbox.recovering import forget_recoveries

_OLD = (
    "id < :border AND NOT EXISTS (SELECT 1 FROM webhook_delivery d WHERE d.event_id = webhook_event.id"
    " AND (d.finished_at IS NULL OR d.finished_at >= :before)) AND NOT EXISTS (SELECT 1 FROM generation g"
    " WHERE g.id = webhook_event.generation_id AND g.finished_at IS NULL)"
)


def prune(tx: Tx, *, before: int, limit: int, dry: bool = False) -> int:
    """Delete events from before a time with their deliveries and attempts, or count them all.

    What is still to be delivered stays, and what was delivered since that time. Recoveries that ended before it go
    along, uncounted.
    """
    values = {"border": border("evt", before), "before": before, "limit": limit}
    if dry:
        return int(tx.value(f"SELECT count(*) FROM webhook_event WHERE {_OLD}", values))
    old = tx.all(f"SELECT id FROM webhook_event WHERE {_OLD} ORDER BY id LIMIT :limit", values)
    _forget_events(tx, [row["id"] for row in old])
    forget_recoveries(tx, before)
    return len(old)


def forget(tx: Tx, generation_id: str) -> None:
    """Delete everything that was told of a generation."""
    events = tx.all("SELECT id FROM webhook_event WHERE generation_id = :id", {"id": generation_id})
    _forget_events(tx, [row["id"] for row in events])


def forget_bodies(tx: Tx, generation_id: str) -> None:
    """Blank what the events of a generation said and what was answered, once nothing of it is to be delivered.

    What still is to go out keeps its body until then: see `forget_told`.
    """
    tx.run(
        f"UPDATE webhook_event SET body = '' WHERE generation_id = :id AND {_TOLD}",
        {"id": generation_id},
    )
    tx.run(
        "UPDATE webhook_attempt SET response = NULL, response_headers = NULL WHERE delivery_id IN"
        " (SELECT d.id FROM webhook_delivery d JOIN webhook_event e ON e.id = d.event_id WHERE e.generation_id = :id)",
        {"id": generation_id},
    )


def forget_told(tx: Tx, generation_id: str, event_id: str) -> None:
    """The same for one event whose last delivery has just ended, if its generation was deleted meanwhile."""
    values = {"event": event_id, "id": generation_id}
    told = (
        f"id = :event AND {_TOLD} AND EXISTS (SELECT 1 FROM generation g WHERE g.id = :id AND g.deleted_at IS NOT NULL)"
    )
    tx.run(f"UPDATE webhook_event SET body = '' WHERE {told}", values)
    tx.run(
        "UPDATE webhook_attempt SET response = NULL, response_headers = NULL WHERE delivery_id IN"
        " (SELECT d.id FROM webhook_delivery d WHERE d.event_id = :event)"
        f" AND EXISTS (SELECT 1 FROM webhook_event WHERE {told})",
        values,
    )


_TOLD = "NOT EXISTS (SELECT 1 FROM webhook_delivery d WHERE d.event_id = webhook_event.id AND d.finished_at IS NULL)"


def _forget_events(tx: Tx, events: Sequence[str]) -> None:
    if not events:
        return
    sent = tx.all(f"SELECT id FROM webhook_delivery WHERE event_id {tx.among}", {"ids": tx.of(events)})
    gone = [row["id"] for row in sent]
    tx.run(f"DELETE FROM webhook_attempt WHERE delivery_id {tx.among}", {"ids": tx.of(gone)})
    queue.forget(tx, JobKind.DELIVERY, gone)
    tx.run(f"DELETE FROM webhook_delivery WHERE id {tx.among}", {"ids": tx.of(gone)})
    tx.run(f"DELETE FROM webhook_event WHERE id {tx.among}", {"ids": tx.of(events)})
