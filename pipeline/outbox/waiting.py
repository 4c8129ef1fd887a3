"""Why a delivery has not arrived yet: what a pending one waits for, in words."""

from __future__ import annotations

from pipeline.db import Row, Tx
from pipeline.lifecycle import JobKind
from pipeline.outbox.endpoints import UNSET
from pipeline.schemas import iso

LATE_MS = 60_000
"""So long after its time a delivery is late, and the workers are to be looked at."""

_CONTEXT = """
SELECT e.body, p.disabled_at, p.disabled_reason, l.paused_until, l.paused_reason, j.locked_until
FROM webhook_delivery d JOIN webhook_event e ON e.id = d.event_id
LEFT JOIN webhook_endpoint p ON p.id = d.endpoint_id
LEFT JOIN job j ON j.kind = :kind AND j.subject_id = d.id
LEFT JOIN lane l ON l.name = j.lane
WHERE d.id = :id"""


def context(tx: Tx, delivery_id: str) -> Row:
    """What stands around a delivery: its `body`, and the rest for `waiting_for` (with `now`)."""
    row = tx.one(_CONTEXT, {"id": delivery_id, "kind": JobKind.DELIVERY})
    return ({} if row is None else dict(row)) | {"now": tx.now}


def waiting_for(delivery: Row, around: Row) -> str | None:
    """What a pending delivery waits for; None for one that has ended. Pure."""
    if delivery["state"] != "pending":
        return None
    now = around["now"]
    if around.get("disabled_at") is not None and around["disabled_reason"] == UNSET:
        return "WEBHOOK_URL to be set"
    if (around.get("locked_until") or 0) > now:
        return "the answer to an attempt that is under way"
    paused = around.get("paused_until")
    if paused is not None and paused > now:
        return f"its endpoint to be tried again at {iso(paused)}: {around['paused_reason'] or 'it is paused'}"
    due = delivery["next_at"]
    if due is not None and due > now:
        return "the time of its next attempt"
    if due is not None and due < now - LATE_MS:
        return "a worker: it is late; see whether one runs (`dailies status`) and what else goes to this endpoint"
    return "its turn"
