"""Attempts: what is kept of each, and what is no attempt at all because our own proxy stood in the way."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pipeline.db import Row, Tx
from pipeline.ids import new_id
from pipeline.lifecycle import RetryPolicy
from webhooks.sender import Reason, SendResult
from webhooks.wire import Connection

HIDDEN = "(hidden)"
SHOWN = frozenset(
    (
        "host",
        "content-length",
        "content-type",
        "user-agent",
        "accept",
        "accept-encoding",
        "traceparent",
        "webhook-id",
        "webhook-timestamp",
        "webhook-signature",
        "webhook-attempt",
    )
)
"""Headers of ours. The others are an endpoint's own, which are credentials more often than not."""
VIA_PROXY = "proxy"
"""Stands for the address that only the egress proxy knows."""

PROXY_WAIT = (5.0, 300.0)
"""Seconds until the next try when our egress proxy failed: half the delivery's age, within these."""
PROXY_GRACE = 86_400.0
"""Seconds beyond its whole schedule for which a delivery waits for the proxy at no cost: nothing waits for ever."""

_REUSED = {Connection.NEW: 0, Connection.REUSED: 1, Connection.REPLACED: 2}
_CONNECTIONS = {number: connection for connection, number in _REUSED.items()}


def proxy_wait(result: SendResult, *, age: float, policy: RetryPolicy) -> float | None:
    """Seconds after which a delivery that is `age` seconds old is tried again at no cost; None: the attempt counts.

    Pure. Only a failure of our own egress proxy costs nothing.
    """
    if result.reason is not Reason.PROXY_FAILED or age > sum(policy.schedule) + PROXY_GRACE:
        return None
    return min(max(age / 2, PROXY_WAIT[0]), PROXY_WAIT[1])


@dataclass(frozen=True, slots=True)
class AttemptOf:
    """Which attempt it was: the `number`-th of a delivery, in its job's lane, to this URL."""

    delivery: Row
    lane: str
    number: int
    url: str


def insert_attempt(tx: Tx, attempt: AttemptOf, result: SendResult, random: Callable[[int], bytes]) -> None:
    """Write one attempt down: what was sent and answered, over what, in what time."""
    wire, delivery = result.wire, attempt.delivery
    tx.insert(
        "webhook_attempt",
        {
            "id": new_id("att", tx.now, random),
            "tenant_id": delivery["tenant_id"],
            "delivery_id": delivery["id"],
            "lane": attempt.lane,
            "attempt": attempt.number,
            "url": attempt.url,
            "address": VIA_PROXY if wire.proxied else result.address,
            "status": result.status,
            "reason": result.reason,
            "detail": result.detail,
            "response": result.response.decode("utf-8", "replace").replace("\x00", "�"),
            "ms": result.ms,
            "at": tx.now,
            "request_headers": _texts((name, _shown(name, value)) for name, value in wire.request_headers),
            "request_bytes": wire.request_bytes,
            "response_headers": _texts(wire.response_headers),
            "dns_ms": wire.dns_ms,
            "connect_ms": wire.connect_ms,
            "tls_ms": wire.tls_ms,
            "first_byte_ms": wire.first_byte_ms,
            "reused": None if wire.connection is None else _REUSED[wire.connection],
        },
    )


def headers_of(text: str | None) -> list[list[str]]:
    """Kept headers, as pairs of name and value; none where none were kept."""
    return list(json.loads(text)) if text else []


def connection_of(reused: int | None) -> str | None:
    """`new`, `reused` or `replaced`, of the column `reused`."""
    return None if reused is None else _CONNECTIONS[reused].value


def _shown(name: str, value: str) -> str:
    return value if name in SHOWN else HIDDEN


def _texts(headers: Iterable[tuple[str, str]]) -> str | None:
    pairs = [[name, value.replace("\x00", "�")] for name, value in headers]
    return json.dumps(pairs, ensure_ascii=False) if pairs else None
