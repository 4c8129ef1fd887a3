"""Deliveries as people look at them."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.db import Row, Tx
from webhooks.sender import Reason

_DELIVERY = (
    "SELECT d.*, e.type, e.generation_id, coalesce(d.url, p.url) AS target,"
    " (SELECT a.status FROM webhook_attempt a WHERE a.delivery_id = d.id ORDER BY a.id DESC LIMIT 1) AS last_status"
    " FROM webhook_delivery d"
    " JOIN webhook_event e ON e.id = d.event_id"
    " LEFT JOIN webhook_endpoint p ON p.id = d.endpoint_id AND p.tenant_id = d.tenant_id"
)
"""An endpoint shows its URL to its own tenant only: WEBHOOK_URL, to which the others fall back, may hold a secret."""


@dataclass(frozen=True, slots=True)
class DeliveryFilter:
    """What a list of deliveries is narrowed to. `tenant` None means all; `since` in milliseconds since 1970."""

    tenant: str | None = None
    endpoint: str | None = None
    state: str | None = None
    event_type: str | None = None
    generation_id: str | None = None
    since: int | None = None


_SILENT = {"response": None, "address": None, "request_headers": None, "response_headers": None}


def discreet(delivery: Row) -> Row:
    """A delivery without what its last error says of a place that is not the reader's own. Pure."""
    if delivery["last_error"] is None:
        return delivery
    words = _words((delivery["error_code"] or "failed").removeprefix("webhook_"), delivery["last_status"])
    return delivery | {"last_error": words}


def discreet_attempt(attempt: Row) -> Row:
    """An attempt without what a place that is not the reader's own got and answered: a redirect or an echo holds its
    path and its credentials. Pure."""
    return attempt | _SILENT | {"detail": _words(attempt["reason"], attempt["status"])}


def _words(reason: str, status: int | None) -> str:
    """Such as `answered 503` or `connect timeout`."""
    return f"answered {status}" if reason == Reason.ANSWERED and status is not None else reason.replace("_", " ")


def delivery(tx: Tx, tenant: str | None, delivery_id: str) -> Row | None:
    """One delivery with its event's `type`, `generation_id` and the `target` URL, which is None for an endpoint that is
    not the tenant's own; bound to a tenant unless None."""
    where, values = " WHERE d.id = :id", {"id": delivery_id}
    if tenant is not None:
        where, values = f"{where} AND d.tenant_id = :tenant", values | {"tenant": tenant}
    return tx.one(_DELIVERY + where, values)


def delivery_page(tx: Tx, narrowed: DeliveryFilter, *, limit: int, after: str | None = None) -> list[Row]:
    """Up to `limit` deliveries behind the id `after`, newest first."""
    few = narrowed.generation_id is not None and not tx.postgres
    given = {
        f"{_PLAIN * few}d.tenant_id = :tenant": ("tenant", narrowed.tenant),
        "d.endpoint_id = :endpoint": ("endpoint", narrowed.endpoint),
        "d.state = :state": ("state", narrowed.state),
        "e.type = :type": ("type", narrowed.event_type),
        "e.generation_id = :generation": ("generation", narrowed.generation_id),
        "d.created_at >= :since": ("since", narrowed.since),
        "d.id < :after": ("after", after),
    }
    found = {condition: pair for condition, pair in given.items() if pair[1] is not None}
    where = " WHERE " + " AND ".join(found) if found else ""
    values: dict[str, object] = dict(found.values())
    return tx.all(f"{_DELIVERY}{where} ORDER BY {_PLAIN * few}d.id DESC LIMIT :limit", values | {"limit": limit})


_PLAIN = "+"
"""SQLite would go through all deliveries of the tenant, whose index is in order, for the few of one generation, were it
not told to leave that index alone (five seconds at a million)."""


def deliveries(tx: Tx, generation_id: str) -> list[Row]:
    """The deliveries of a generation's events, oldest first, with their type."""
    return tx.all(f"{_DELIVERY} WHERE e.generation_id = :id ORDER BY d.id", {"id": generation_id})


def attempts(tx: Tx, delivery_id: str) -> list[Row]:
    """Every attempt of a delivery, oldest first."""
    return tx.all("SELECT * FROM webhook_attempt WHERE delivery_id = :id ORDER BY id", {"id": delivery_id})
