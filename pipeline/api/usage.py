"""What was paid: `GET /api/usage`, added up, and `GET /api/generations/{id}/submissions`, call by call."""

from __future__ import annotations

import re
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from pipeline import generations, ledger
from pipeline.api.auth import Caller, require, service_of, tenant_over
from pipeline.api.problems import Problem
from pipeline.api.query import bad, once, one_of, page, time_of
from pipeline.api.read import not_deleted
from pipeline.credentials import Scope
from pipeline.db import Row
from pipeline.schemas import iso
from pipeline.spending.caps import DAY_MS, day_of
from pipeline.spending.usage import By, Span
from pipeline.spending.usage import usage as added_up

NAMES = frozenset({"groupBy", "since", "until", "tenant", "limit"})
DAYS = 30
MOST_DAYS = 400
MOST_GROUPS = 1_000
USUAL_GROUPS = 100
_LIMIT = re.compile(r"[1-9][0-9]{0,3}", re.ASCII)


async def usage(request: Request) -> Response:
    """The dearest groups and the sum of all; of the caller's tenant, and for the operator of all or of one."""
    caller = await require(request, Scope.ADMIN)
    service, given = service_of(request), once(request, NAMES)
    by = By(one_of(given, "groupBy", tuple(By)) or By.PROVIDER)
    now, limit = service.clock.now_ms(), _limit(given)
    since = time_of(given, "since")
    until, asked_until = now + DAY_MS, time_of(given, "until")
    span = Span(
        (day_of(now) - DAYS) * DAY_MS if since is None else since,
        until if asked_until is None else asked_until,
        _tenant(caller, given),
    )
    if span.until - span.since > MOST_DAYS * DAY_MS:
        raise bad("since", f"is more than {MOST_DAYS} days before until")
    rows, total = await service.db.read(lambda tx: added_up(tx, span, by, limit=limit + 1))
    return JSONResponse(
        {
            "object": "usage",
            "groupBy": by,
            "since": iso(span.since),
            "until": iso(asked_until),
            "tenant": span.tenant,
            "data": [_row_view(row, by) for row in rows[:limit]],
            "total": _sum_view(total),
            "hasMore": len(rows) > limit,
        }
    )


def _limit(given: dict[str, str]) -> int:
    text = given.get("limit", str(USUAL_GROUPS))
    if not _LIMIT.fullmatch(text) or int(text) > MOST_GROUPS:
        raise bad("limit", f"is a number from 1 to {MOST_GROUPS}")
    return int(text)


def _tenant(caller: Caller, given: dict[str, str]) -> str | None:
    """Whose usage it is; None for all. Raises Problem 403 for another's."""
    asked = given.get("tenant")
    if caller.operator or asked == caller.tenant:
        return asked
    if asked is not None:
        raise Problem(403, "forbidden", f"this key is bound to the tenant {caller.tenant!r}, and sees its usage alone")
    return caller.tenant


def _row_view(row: Row, by: By) -> dict[str, Any]:
    name = row["name"]
    group = str(iso(name * DAY_MS))[:10] if by is By.DAY else name
    return {"group": group, "provider": row["provider"], **_sum_view(row)}


def _sum_view(row: Row) -> dict[str, Any]:
    return {
        "submissions": row["submissions"],
        "succeeded": row["succeeded"],
        "failed": row["failed"],
        "notTaken": row["not_taken"],
        "open": row["open"],
        "unclear": row["unclear"],
        "costMicros": row["cost_micros"],
        "openMicros": row["open_micros"],
        "totalMicros": row["cost_micros"] + row["open_micros"],
    }


async def submissions(request: Request) -> Response:
    """The ledger of one generation, oldest first. Tokens are secrets and are not shown."""
    once(request, ())
    service, reference = service_of(request), request.path_params["id"]
    tenant = await tenant_over(request, Scope.READ)
    row = await service.db.read(lambda tx: generations.find(tx, tenant, reference))
    if row is None:
        raise Problem(404, "not_found", f"there is no generation {reference!r}")
    calls = await service.db.read(lambda tx: ledger.history(tx, not_deleted(row)["id"]))
    return page(request, [_submission_view(each) for each in calls], None)


def _submission_view(row: Row) -> dict[str, Any]:
    error = None if row["error_code"] is None else {"code": row["error_code"], "message": row["error_message"]}
    return {
        "object": "submission",
        "run": row["run"],
        "provider": row["provider"],
        "model": row["model"],
        "outcome": row["outcome"],
        "billed": row["billed"],
        "estimateMicros": row["estimate_micros"],
        "costMicros": row["cost_micros"],
        "operation": row["operation_id"],
        "error": error,
        "intendedAt": iso(row["intended_at"]),
        "answeredAt": iso(row["answered_at"]),
        "closedAt": iso(row["closed_at"]),
    }
