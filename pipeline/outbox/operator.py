"""The operator's own endpoint: told of what becomes of everybody's, through the same outbox. Its own troubles are told
in the log only."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from pipeline.db import Tx
from pipeline.ids import new_id
from pipeline.outbox.addressing import address
from pipeline.outbox.endpoints import CLOSE, FROM_SETTINGS, OPENED, UNSET
from webhooks.events import OperatorEvent, build_notice

OPERATOR_ENDPOINT = "ep_operator"
OPERATOR_TENANT = "*"
"""No tenant can be called so: these events are nobody's but the operator's."""


def set_operator_endpoint(tx: Tx, *, url: str | None) -> None:
    """Make OPERATOR_WEBHOOK_URL an endpoint, or switch it off when it is unset. Called at every start."""
    if url is None:
        tx.run(CLOSE, {"now": tx.now, "unset": UNSET, "id": OPERATOR_ENDPOINT})
        return
    row = {
        "id": OPERATOR_ENDPOINT,
        "tenant_id": OPERATOR_TENANT,
        "url": url,
        "events": json.dumps(list(OperatorEvent)),
        "secret_ref": FROM_SETTINGS,
        "created_at": tx.now,
    }
    again = f"(id) DO UPDATE SET events = excluded.events, url = excluded.url, failing_since = NULL, {OPENED}"
    tx.insert("webhook_endpoint", row, on_conflict=again)


def tell_operator(tx: Tx, event: OperatorEvent, data: Mapping[str, Any], *, random: Callable[[int], bytes]) -> None:
    """Record a notice and its delivery, if there is anybody to be told, in the caller's transaction."""
    place = tx.one("SELECT * FROM webhook_endpoint WHERE id = :id AND disabled_at IS NULL", {"id": OPERATOR_ENDPOINT})
    if place is None:
        return
    event_id = new_id("evt", tx.now, random)
    row = {
        "id": event_id,
        "tenant_id": OPERATOR_TENANT,
        "generation_id": "",
        "run": 1,
        "sequence": 0,
        "type": event.value,
        "terminal": 0,
        "body": build_notice(type=event, occurred_at=tx.now / 1000, data=data).decode(),
        "created_at": tx.now,
    }
    tx.insert("webhook_event", row)
    address(tx, tenant=OPERATOR_TENANT, event_id=event_id, place=place, delay=0.0, random=random)
