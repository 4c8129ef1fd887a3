"""Deliveries as people look at them."""

from __future__ import annotations

from pipeline.db import Row, Tx


def deliveries(tx: Tx, generation_id: str) -> list[Row]:
    """The deliveries of a generation's events, oldest first, with their type."""
    return tx.all(
        "SELECT d.*, e.type FROM webhook_delivery d JOIN webhook_event e ON e.id = d.event_id"
        " WHERE e.generation_id = :id ORDER BY d.id",
        {"id": generation_id},
    )


def attempts(tx: Tx, delivery_id: str) -> list[Row]:
    """Every attempt of a delivery, oldest first."""
    return tx.all("SELECT * FROM webhook_attempt WHERE delivery_id = :id ORDER BY id", {"id": delivery_id})
