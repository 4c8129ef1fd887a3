"""Webhook deliveries: a page, one with its attempts, and once more."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from pipeline import outbox
from pipeline.api.auth import Caller, require, service_of
from pipeline.api.problems import Problem
from pipeline.api.query import decode_cursor, limit_of, once, one_of, page, time_of
from pipeline.credentials import Scope
from pipeline.db import Row, Tx
from pipeline.outbox import BodyForgotten, DeliveryFilter
from pipeline.outbox.attempts import connection_of, headers_of
from pipeline.outbox.reads import discreet, discreet_attempt
from pipeline.outbox.waiting import context, waiting_for
from pipeline.schemas import iso
from webhooks.events import EventType

PATH = "/api/webhooks/deliveries"
NAMES = frozenset({"limit", "after", "endpoint", "state", "type", "generation", "since"})
STATES = ("pending", "delivered", "dead", "cancelled")
_CURSOR = re.compile(r"dlv_[0-9A-Za-z]{1,60}")


async def many(request: Request) -> Response:
    """`GET /api/webhooks/deliveries`: newest first, without their attempts."""
    caller = await require(request, Scope.READ)
    service, given = service_of(request), once(request, NAMES)
    narrowed = DeliveryFilter(
        tenant=_bound(caller),
        endpoint=given.get("endpoint"),
        state=one_of(given, "state", STATES),
        event_type=one_of(given, "type", tuple(EventType)),
        generation_id=given.get("generation"),
        since=time_of(given, "since"),
    )
    limit, after = limit_of(given), given.get("after")
    place = None if after is None else decode_cursor(after, _CURSOR)
    rows = await service.db.read(lambda tx: outbox.delivery_page(tx, narrowed, limit=limit + 1, after=place))
    shown = [_view(discreet(row) if is_foreign(caller, row) else row) for row in rows[:limit]]
    return page(request, shown, rows[limit - 1]["id"] if len(rows) > limit else None)


async def one(request: Request) -> Response:
    """`GET /api/webhooks/deliveries/{id}`: with every attempt."""
    caller = await require(request, Scope.READ)
    service, delivery_id = service_of(request), request.path_params["id"]

    def unit(tx: Tx) -> tuple[Row, list[Row], Row]:
        row, tries = _with_attempts(tx, _bound(caller), delivery_id)
        return row, tries, context(tx, delivery_id)

    row, tries, around = await service.db.read(unit)
    return JSONResponse(_full_view(caller, row, around, tries))


async def redeliver(request: Request) -> Response:
    """`POST /api/webhooks/deliveries/{id}/redeliver`: 202 with a delivery of the same event that is due now."""
    caller = await require(request, Scope.SUBMIT)
    service, delivery_id = service_of(request), request.path_params["id"]
    tenant = _bound(caller)

    def unit(tx: Tx) -> tuple[Row | None, Row]:
        row, _ = _with_attempts(tx, tenant, delivery_id)
        made = outbox.redeliver(tx, row, random=service.random, tenant=tenant)
        return (None, {}) if made is None else (outbox.delivery(tx, tenant, made), context(tx, made))

    try:
        row, around = await service.db.write(unit)
    except BodyForgotten as error:
        raise Problem(410, "gone", str(error)) from None
    if row is None:
        detail = "others send the same event again at this moment; ask again"
        raise Problem(409, "request_in_progress", detail, headers={"Retry-After": "1"}, retryable=True)
    service.wake()
    location = {"Location": f"{PATH}/{row['id']}"}
    return JSONResponse(_full_view(caller, row, around, []), 202, location)


def _bound(caller: Caller) -> str | None:
    """The tenant that a caller is bound to; the operator sees all."""
    return None if caller.operator else caller.tenant


def is_foreign(caller: Caller | None, row: Row) -> bool:
    """Whether a delivery went to a place of somebody else, such as WEBHOOK_URL, of which the caller (None: the holder
    of a token) sees only how it went. The operator sees all."""
    return row["target"] is None and not (caller is not None and caller.operator)


def _with_attempts(tx: Tx, tenant: str | None, delivery_id: str) -> tuple[Row, list[Row]]:
    row = outbox.delivery(tx, tenant, delivery_id)
    if row is None:
        raise Problem(404, "not_found", f"there is no delivery {delivery_id!r}")
    return row, outbox.attempts(tx, delivery_id)


def _view(row: Row) -> dict[str, Any]:
    return {
        "id": row["id"],
        "object": "delivery",
        "eventId": row["event_id"],
        "type": row["type"],
        "generation": row["generation_id"],
        "endpoint": row["endpoint_id"],
        "url": row["target"],
        "redelivery": row["redelivery"],
        "state": row["state"],
        "attemptCount": row["attempts"],
        "createdAt": iso(row["created_at"]),
        "nextAttemptAt": iso(row["next_at"]),
        "finishedAt": iso(row["finished_at"]),
        "errorCode": row["error_code"],
        "lastError": row["last_error"],
    }


def _full_view(caller: Caller, row: Row, around: Row, tries: Sequence[Row]) -> dict[str, Any]:
    if is_foreign(caller, row):
        row, around = discreet(row), around | {"paused_reason": None}
        tries = [discreet_attempt(each) for each in tries]
    return _view(row) | {
        "body": around["body"] or None,
        "waitingFor": waiting_for(row, around),
        "attempts": [_attempt_view(each) for each in tries],
    }


def _attempt_view(row: Row) -> dict[str, Any]:
    return {
        "attempt": row["attempt"],
        "at": iso(row["at"]),
        "status": row["status"],
        "reason": row["reason"],
        "detail": row["detail"],
        "milliseconds": row["ms"],
        "response": row["response"],
        "address": row["address"],
        "connection": connection_of(row["reused"]),
        "dnsMilliseconds": row["dns_ms"],
        "connectMilliseconds": row["connect_ms"],
        "tlsMilliseconds": row["tls_ms"],
        "firstByteMilliseconds": row["first_byte_ms"],
        "requestHeaders": _headers(row["request_headers"]),
        "requestBytes": row["request_bytes"],
        "responseHeaders": _headers(row["response_headers"]),
    }


def _headers(text: str | None) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in headers_of(text)]
