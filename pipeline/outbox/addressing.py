"""Addressing: a delivery of an event to one place, and the job that carries it. Also a second time."""

from __future__ import annotations

from collections.abc import Callable

from pipeline import admission, queue
from pipeline.db import Row, Tx
from pipeline.ids import new_id
from pipeline.lifecycle import JobKind, Step
from pipeline.outbox.endpoints import PER_REQUEST, enable, lane_of

TRIES = 5
"""So many people may press the same button at once."""


class BodyForgotten(Exception):
    """What the event said was deleted with its generation, or the endpoint was: the message says which, for people."""


def address(
    tx: Tx, *, tenant: str, event_id: str, place: Row, delay: float, random: Callable[[int], bytes], redelivery: int = 0
) -> str | None:
    """Write a delivery and its job, first due after `delay` seconds; None if this redelivery exists already."""
    delivery_id = new_id("dlv", tx.now, random)
    row = {
        "id": delivery_id,
        "tenant_id": tenant,
        "event_id": event_id,
        "endpoint_id": place["id"],
        "url": place["url"] if place["id"] == PER_REQUEST else None,
        "secret_ref": place["secret_ref"],
        "redelivery": redelivery,
        "state": "pending",
        "attempts": 0,
        "created_at": tx.now,
        "next_at": tx.now + int(delay * 1000),
    }
    if tx.insert("webhook_delivery", row, on_conflict="DO NOTHING", returning="id") is None:
        return None
    queue.enqueue(tx, _job(delivery_id, tenant, place, delay))
    return delivery_id


def _job(delivery_id: str, tenant: str, place: Row, delay: float) -> queue.NewJob:
    return queue.NewJob(JobKind.DELIVERY, delivery_id, tenant, lane_of(place), Step.DELIVER, delay=delay)


def _place(delivery: Row) -> Row:
    return {"id": delivery["endpoint_id"], "url": delivery["url"], "secret_ref": delivery["secret_ref"]}


def redeliver(tx: Tx, delivery: Row, *, random: Callable[[int], bytes], tenant: str | None) -> str | None:
    """Send the event of a delivery to the same place once more, as a delivery of its own that is due now; its id.

    An endpoint that its failures had switched off or paused is opened again: who sends again says that it is well.
    `tenant` is that of the caller, or None for the operator. None when too many do the same at once. Raises
    BodyForgotten.
    """
    require_body(tx, delivery["id"])
    reopen(tx, _place(delivery), tenant)
    for _ in range(TRIES):
        last = tx.value(
            "SELECT max(redelivery) FROM webhook_delivery WHERE event_id = :event AND endpoint_id = :endpoint",
            {"event": delivery["event_id"], "endpoint": delivery["endpoint_id"]},
        )
        made = address(
            tx,
            tenant=delivery["tenant_id"],
            event_id=delivery["event_id"],
            place=_place(delivery),
            delay=0.0,
            random=random,
            redelivery=last + 1,
        )
        if made is not None:
            return made
    return None


def reopen(tx: Tx, place: Row, tenant: str | None) -> None:
    """A person says that a place is well: it is switched on, if nobody had switched it off, and left alone no longer.
    It must be the tenant's own, unless `tenant` is None: the operator's word."""
    enable(tx, place["id"], tenant)
    sql = "SELECT 1 FROM webhook_endpoint WHERE id = :id AND tenant_id = :tenant"
    if tenant is None or tx.one(sql, {"id": place["id"], "tenant": tenant}) is not None:
        admission.resume(tx, lane_of(place))


def revive(tx: Tx, delivery_id: str, *, tenant: str | None) -> bool:
    """Set a dead delivery going again with a new schedule; False if it is not dead (any more). Raises BodyForgotten."""
    if queue.hold(tx, JobKind.DELIVERY, delivery_id) is None:
        return False
    delivery = tx.one("SELECT * FROM webhook_delivery WHERE id = :id AND state = 'dead'", {"id": delivery_id})
    if delivery is None:
        return False
    require_body(tx, delivery["id"])
    enable(tx, delivery["endpoint_id"], tenant)
    revived = {"state": "pending", "next_at": tx.now, "finished_at": None, "last_error": None, "error_code": None}
    tx.update("webhook_delivery", revived, "id = :id", {"id": delivery_id})
    return queue.redrive(tx, _job(delivery_id, delivery["tenant_id"], _place(delivery), 0.0))


def require_body(tx: Tx, delivery_id: str) -> None:
    """Raise BodyForgotten where a delivery has nothing to send any more, or nowhere to send it to."""
    row = tx.one(
        "SELECT e.body, p.deleted_at FROM webhook_delivery d JOIN webhook_event e ON e.id = d.event_id"
        " LEFT JOIN webhook_endpoint p ON p.id = d.endpoint_id WHERE d.id = :id",
        {"id": delivery_id},
    )
    if row is None or not row["body"]:
        raise BodyForgotten("what this event said was deleted with its generation: there is nothing to send")
    if row["deleted_at"] is not None:
        raise BodyForgotten("the endpoint was deleted: there is nowhere to send it to")
