"""Managing endpoints: made, looked at, changed, switched off and on, deleted. Those of the settings, too, as far as the
settings do not decide."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from pipeline import admission
from pipeline.db import Row, Tx
from pipeline.ids import new_id
from pipeline.keys import Box
from pipeline.outbox import secrets
from pipeline.outbox.endpoints import BY_HAND, OWN, UNSET, lane_of, start_afresh
from pipeline.outbox.secrets import Secret
from pipeline.outbox.signatory import Signatory

MAX_ENDPOINTS = 20
"""Endpoints of one tenant: every event is sent to each that wants it."""


class TooManyEndpoints(Exception):
    """The tenant has MAX_ENDPOINTS already."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an endpoint is to be. `events` is a filter; None in the bounds leaves them to the settings."""

    url: str
    events: Sequence[str]
    description: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    ordered: bool = False
    max_in_flight: int | None = None
    rate_per_minute: int | None = None


@dataclass(frozen=True, slots=True)
class Shown:
    """An endpoint as it stands `now`: its live secrets, its lane if it has one, and the last attempt to reach it."""

    row: Row
    now: int
    secrets: Sequence[Row] = ()
    lane: Row | None = None
    last: Row | None = None


def create(
    tx: Tx, signatory: Signatory, wanted: Wanted, keys: Sequence[Secret], *, tenant: str, random: Callable[[int], bytes]
) -> Row:
    """Make an endpoint of a tenant, which signs with `keys`. Raises TooManyEndpoints."""
    held = tx.all(
        f"SELECT id FROM webhook_endpoint WHERE tenant_id = :tenant AND deleted_at IS NULL{tx.for_update}",
        {"tenant": tenant},
    )
    if len(held) >= MAX_ENDPOINTS:
        raise TooManyEndpoints(tenant)
    endpoint_id = new_id("ep", tx.now, random)
    row: Row = {
        "id": endpoint_id,
        "tenant_id": tenant,
        "url": wanted.url,
        "events": event_list(wanted.events),
        "secret_ref": OWN,
        "created_at": tx.now,
        "description": wanted.description,
        "headers": signatory.sealed(endpoint_id, wanted.headers),
        "ordered": int(wanted.ordered),
        "max_in_flight": wanted.max_in_flight,
        "rate_per_minute": wanted.rate_per_minute,
        "updated_at": tx.now,
    }
    tx.insert("webhook_endpoint", row)
    secrets.add(tx, signatory.box, row, keys, random)
    _tell(tx, row, "created")
    return row


def _tell(tx: Tx, endpoint: Row, act: str) -> None:
    tx.emit("webhook.endpoint", endpoint=endpoint["id"], tenant=endpoint["tenant_id"], act=act)


def hold(tx: Tx, tenant: str | None, endpoint_id: str) -> Row | None:
    """The row of an endpoint that is not deleted, held until the transaction ends; bound to a tenant unless None."""
    return _find(tx, tenant, endpoint_id, tx.for_update)


def find(tx: Tx, tenant: str | None, endpoint_id: str) -> Shown | None:
    """An endpoint as it stands; bound to a tenant unless None."""
    row = _find(tx, tenant, endpoint_id)
    return None if row is None else _shown(tx, [row])[0]


def _find(tx: Tx, tenant: str | None, endpoint_id: str, held: str = "") -> Row | None:
    owned, values = ("", {}) if tenant is None else (" AND tenant_id = :tenant", {"tenant": tenant})
    return tx.one(
        f"SELECT * FROM webhook_endpoint WHERE id = :id AND deleted_at IS NULL{owned}{held}",
        {"id": endpoint_id} | values,
    )


def page(tx: Tx, tenant: str | None, *, limit: int, after: str | None = None) -> list[Shown]:
    """Up to `limit` endpoints behind the id `after`, newest first; all tenants' unless one is named."""
    given = {"tenant_id = :tenant": ("tenant", tenant), "id < :after": ("after", after)}
    found = {condition: pair for condition, pair in given.items() if pair[1] is not None}
    where = "".join(f" AND {condition}" for condition in found)
    values: dict[str, object] = dict(found.values())
    rows = tx.all(
        f"SELECT * FROM webhook_endpoint WHERE deleted_at IS NULL{where} ORDER BY id DESC LIMIT :limit",
        values | {"limit": limit},
    )
    return _shown(tx, rows)


def _shown(tx: Tx, rows: Sequence[Row]) -> list[Shown]:
    live = secrets.live(tx, [row["id"] for row in rows if row["secret_ref"] == OWN])
    lanes = tx.all(f"SELECT * FROM lane WHERE name {tx.among}", {"ids": tx.of([lane_of(row) for row in rows])})
    by_name = {lane["name"]: lane for lane in lanes}
    return [
        Shown(
            row,
            tx.now,
            [key for key in live if key["endpoint_id"] == row["id"]],
            by_name.get(lane_of(row)),
            _last(tx, row),
        )
        for row in rows
    ]


def _last(tx: Tx, row: Row) -> Row | None:
    """The last attempt of its own tenant's: those of others, who fall back on it, are not for its readers."""
    return tx.one(
        "SELECT * FROM webhook_attempt WHERE lane = :lane AND tenant_id = :tenant ORDER BY at DESC, id DESC LIMIT 1",
        {"lane": lane_of(row), "tenant": row["tenant_id"]},
    )


def update(tx: Tx, endpoint: Row, changes: Mapping[str, object], *, act: str = "changed") -> None:
    """Change columns of an endpoint that the caller holds; `act` is what the log says of it. What was held against one
    URL says nothing of another."""
    tx.update("webhook_endpoint", {**changes, "updated_at": tx.now}, "id = :id", {"id": endpoint["id"]})
    if changes.get("url", endpoint["url"]) != endpoint["url"]:
        start_afresh(tx, endpoint["id"])
    _tell(tx, endpoint, act)


def rotate(
    tx: Tx, box: Box, endpoint: Row, keys: Sequence[Secret], *, overlap_ms: int, random: Callable[[int], bytes]
) -> None:
    """Put new secrets in the place of the current ones; see `secrets.rotate`. Raises TooManySecrets."""
    secrets.rotate(tx, box, endpoint, keys, overlap_ms=overlap_ms, random=random)
    update(tx, endpoint, {}, act="rotated")


def disable(tx: Tx, endpoint: Row, reason: str | None) -> None:
    """Switch an endpoint off by hand; what is off because WEBHOOK_URL is unset stays so."""
    if endpoint["disabled_reason"] == UNSET:
        return
    said = BY_HAND if reason is None else f"{BY_HAND}: {reason}"
    since = endpoint["disabled_at"] or tx.now
    update(tx, endpoint, {"disabled_at": since, "disabled_reason": said}, act="disabled")


def enable(tx: Tx, endpoint: Row) -> None:
    """Switch an endpoint on again, with a clean record: its lane is open, its failures are forgotten, and what failed
    there is tried again now."""
    update(tx, endpoint, {"disabled_at": None, "disabled_reason": None}, act="enabled")
    start_afresh(tx, endpoint["id"])


def delete(tx: Tx, endpoint: Row) -> None:
    """Send nothing more there: its secrets and headers are gone at once, what is still to be delivered is cancelled at
    its next turn. The row stays for as long as deliveries name it."""
    secrets.forget(tx, endpoint["id"])
    update(tx, endpoint, {"deleted_at": tx.now, "headers": None, "description": None}, act="deleted")
    admission.resume(tx, lane_of(endpoint))


def forget_deleted(tx: Tx) -> int:
    """Delete the rows of deleted endpoints that no delivery names any more; how many."""
    return tx.run(
        "DELETE FROM webhook_endpoint WHERE deleted_at IS NOT NULL AND NOT EXISTS"
        " (SELECT 1 FROM webhook_delivery d WHERE d.endpoint_id = webhook_endpoint.id)"
    )


def event_list(events: Sequence[str]) -> str:
    """A filter as it is kept."""
    return json.dumps(list(events))
