"""Where events go: the endpoints of a tenant, and the URL that a request names for itself."""

from __future__ import annotations

import json
from collections.abc import Sequence
from urllib.parse import urlsplit

from pipeline.db import Row, Tx
from webhooks.events import DEFAULT

DEFAULT_ENDPOINT = "ep_default"
PER_REQUEST = "request"
FROM_SETTINGS = "settings"
UNSET = "WEBHOOK_URL is not set"


def places(tx: Tx, generation: Row, event_type: str) -> list[Row]:
    """The endpoints of the tenant that want this type, and the request's own URL.

    A tenant without an endpoint of its own has that of WEBHOOK_URL. One that answered 410 still gets its deliveries:
    they end dead at once, listed, and can be sent again.
    """
    endpoints = tx.all(
        "SELECT * FROM webhook_endpoint WHERE (disabled_at IS NULL OR disabled_reason <> :unset)"
        " AND (tenant_id = :tenant OR (id = :default AND NOT EXISTS"
        " (SELECT 1 FROM webhook_endpoint own WHERE own.tenant_id = :tenant)))",
        {"tenant": generation["tenant_id"], "unset": UNSET, "default": DEFAULT_ENDPOINT},
    )
    wanted = [row for row in endpoints if event_type in json.loads(row["events"])]
    if generation["webhook_url"]:
        own = json.loads(generation["webhook_events"]) if generation["webhook_events"] else DEFAULT
        if event_type in own:
            wanted.append({"id": PER_REQUEST, "url": generation["webhook_url"], "secret_ref": FROM_SETTINGS})
    return wanted


def lane_of(place: Row) -> str:
    """Deliveries share a lane with what goes to the same place, so that a slow receiver keeps only itself waiting."""
    if place["id"] == PER_REQUEST:
        return f"endpoint:{urlsplit(place['url']).netloc.rpartition('@')[2].lower()}"
    return f"endpoint:{place['id']}"


def enable(tx: Tx, endpoint_id: str, tenant: str | None) -> None:
    """Open an endpoint that a 410 had switched off. `tenant` must own it, unless it is None: the operator's word."""
    owned, values = ("", {}) if tenant is None else (" AND tenant_id = :tenant", {"tenant": tenant})
    tx.run(
        "UPDATE webhook_endpoint SET disabled_at = NULL, disabled_reason = NULL WHERE id = :id"
        f" AND disabled_reason <> :unset{owned}",
        {"id": endpoint_id, "unset": UNSET} | values,
    )


def set_default_endpoint(tx: Tx, *, url: str | None, events: Sequence[str], tenant: str) -> None:
    """Make WEBHOOK_URL the tenant's default endpoint, or switch that off when it is unset.

    Called at every start, which therefore opens an endpoint that a 410 had switched off.
    """
    if url is None:
        tx.run(
            "UPDATE webhook_endpoint SET disabled_at = :now, disabled_reason = :unset WHERE id = :id",
            {"now": tx.now, "unset": UNSET, "id": DEFAULT_ENDPOINT},
        )
        return
    tx.run(
        "INSERT INTO webhook_endpoint (id, tenant_id, url, events, secret_ref, created_at)"
        " VALUES (:id, :tenant, :url, :events, :secret_ref, :now)"
        " ON CONFLICT (id) DO UPDATE SET events = excluded.events, url = excluded.url,"
        " disabled_at = NULL, disabled_reason = NULL",
        {
            "id": DEFAULT_ENDPOINT,
            "tenant": tenant,
            "url": url,
            "events": json.dumps(list(events)),
            "secret_ref": FROM_SETTINGS,
            "now": tx.now,
        },
    )
