"""Where events go: the endpoints of a tenant, and the URL that a request names for itself."""

from __future__ import annotations

import json
from collections.abc import Sequence
from urllib.parse import urlsplit

from pipeline import admission, queue
from pipeline.db import Row, Tx
from pipeline.lifecycle import JobKind
from webhooks.events import DEFAULT, is_wanted

DEFAULT_ENDPOINT = "ep_default"
PER_REQUEST = "request"
FROM_SETTINGS, OWN = "settings", "own"
"""Where an endpoint's secrets are: WEBHOOK_SECRET, or `webhook_secret`."""
BY_HAND = "switched off by hand"
"""How the reason begins of what a person has switched off: no start and no redelivery opens that."""
UNSET = "WEBHOOK_URL is not set"
OPENED = ", ".join(
    f"{column} = CASE WHEN webhook_endpoint.disabled_reason LIKE '{BY_HAND}%' THEN webhook_endpoint.{column} END"
    for column in ("disabled_at", "disabled_reason")
)
"""What a start makes of an endpoint of the settings: it is open, unless a person has switched it off."""
CLOSE = f"""UPDATE webhook_endpoint SET disabled_at = :now, disabled_reason = :unset
WHERE id = :id AND (disabled_reason IS NULL OR disabled_reason NOT LIKE '{BY_HAND}%')"""
"""What a start without its setting makes of one. What a person has said outlives that: the next start opens nothing."""
SETTINGS = {
    (DEFAULT_ENDPOINT, "url"): "WEBHOOK_URL",
    (DEFAULT_ENDPOINT, "events"): "WEBHOOK_EVENTS",
    ("ep_operator", "url"): "OPERATOR_WEBHOOK_URL",
    ("ep_operator", "events"): "OPERATOR_WEBHOOK_URL",
}
"""What of an endpoint a setting decides, and which."""


def places(tx: Tx, generation: Row, event_type: str) -> list[Row]:
    """The endpoints of the tenant that want this type, and the request's own URL.

    A tenant without an endpoint of its own has that of WEBHOOK_URL. One that answered 410 still gets its deliveries:
    they end dead at once, listed, and can be sent again.
    """
    endpoints = tx.all(
        "SELECT * FROM webhook_endpoint WHERE deleted_at IS NULL AND (disabled_at IS NULL OR disabled_reason <> :unset)"
        " AND (tenant_id = :tenant OR (id = :default AND NOT EXISTS"
        " (SELECT 1 FROM webhook_endpoint own WHERE own.tenant_id = :tenant AND own.deleted_at IS NULL)))",
        {"tenant": generation["tenant_id"], "unset": UNSET, "default": DEFAULT_ENDPOINT},
    )
    wanted = [row for row in endpoints if is_wanted(event_type, json.loads(row["events"]))]
    if generation["webhook_url"]:
        own = json.loads(generation["webhook_events"]) if generation["webhook_events"] else DEFAULT
        if is_wanted(event_type, own):
            wanted.append({"id": PER_REQUEST, "url": generation["webhook_url"], "secret_ref": FROM_SETTINGS})
    return wanted


def setting_of(endpoint: Row, member: str) -> str | None:
    """The setting that decides a member (`url`, `events`, `secret`) of an endpoint; None where nobody but its owner
    does."""
    if member == "secret":
        return "WEBHOOK_SECRET" if endpoint["secret_ref"] == FROM_SETTINGS else None
    return SETTINGS.get((endpoint["id"], member))


def lane_of(place: Row) -> str:
    """Deliveries share a lane with what goes to the same place, so that a slow receiver keeps only itself waiting."""
    if place["id"] == PER_REQUEST:
        return f"endpoint:{urlsplit(place['url']).netloc.rpartition('@')[2].lower()}"
    return f"endpoint:{place['id']}"


def start_afresh(tx: Tx, endpoint_id: str) -> None:
    """Hold nothing against an endpoint any more: its lane is open, and what failed there is tried again now."""
    admission.resume(tx, lane_of({"id": endpoint_id}))
    tx.update("webhook_endpoint", {"failing_since": None}, "id = :id", {"id": endpoint_id})
    failed = tx.all(
        "SELECT id FROM webhook_delivery WHERE endpoint_id = :id AND state = 'pending' AND error_code IS NOT NULL",
        {"id": endpoint_id},
    )
    due = queue.hurry(tx, JobKind.DELIVERY, [row["id"] for row in failed])
    tx.update("webhook_delivery", {"next_at": tx.now}, f"id {tx.among}", {"ids": tx.of(due)})


def enable(tx: Tx, endpoint_id: str, tenant: str | None) -> None:
    """Open an endpoint that a 410 had switched off, no person. `tenant` must own it, unless it is None: the operator's
    word."""
    owned, values = ("", {}) if tenant is None else (" AND tenant_id = :tenant", {"tenant": tenant})
    tx.run(
        "UPDATE webhook_endpoint SET disabled_at = NULL, disabled_reason = NULL WHERE id = :id"
        f" AND disabled_reason <> :unset AND disabled_reason NOT LIKE :by_hand{owned}",
        {"id": endpoint_id, "unset": UNSET, "by_hand": f"{BY_HAND}%"} | values,
    )


def set_default_endpoint(tx: Tx, *, url: str | None, events: Sequence[str], tenant: str) -> None:
    """Make WEBHOOK_URL the tenant's default endpoint, or switch that off when it is unset.

    Called at every start, which therefore opens an endpoint that a 410 had switched off, but none that a person had.
    Of another URL than before nothing bad is known yet.
    """
    if url is None:
        tx.run(CLOSE, {"now": tx.now, "unset": UNSET, "id": DEFAULT_ENDPOINT})
        return
    before = tx.value("SELECT url FROM webhook_endpoint WHERE id = :id", {"id": DEFAULT_ENDPOINT})
    tx.run(
        "INSERT INTO webhook_endpoint (id, tenant_id, url, events, secret_ref, created_at)"
        " VALUES (:id, :tenant, :url, :events, :secret_ref, :now)"
        f" ON CONFLICT (id) DO UPDATE SET events = excluded.events, url = excluded.url, {OPENED}",
        {
            "id": DEFAULT_ENDPOINT,
            "tenant": tenant,
            "url": url,
            "events": json.dumps(list(events)),
            "secret_ref": FROM_SETTINGS,
            "now": tx.now,
        },
    )
    if before not in (None, url):
        start_afresh(tx, DEFAULT_ENDPOINT)
