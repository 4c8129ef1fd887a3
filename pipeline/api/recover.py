"""`POST /api/webhooks/recover` sends all again that failed since a time; `/api/webhooks/recoveries` tell how far."""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from pipeline.api.auth import Caller, require, service_of
from pipeline.api.body import read_json
from pipeline.api.problems import Problem
from pipeline.api.query import decode_cursor, limit_of, once, page
from pipeline.credentials import Scope
from pipeline.db import Row
from pipeline.outbox import recovering
from pipeline.outbox.recovering import Wish
from pipeline.schemas import iso
from pipeline.schemas.recoveries import Recover

PATH = "/api/webhooks/recoveries"
_CURSOR = re.compile(r"rcv_[0-9A-Za-z]{1,60}")


async def recover(request: Request) -> Response:
    """202 with the recovery, which a worker carries out."""
    caller = await require(request, Scope.ADMIN)
    service = service_of(request)
    asked = await read_json(request, Recover, service.max_body_bytes)
    now = await service.db.read(lambda tx: tx.now)
    wish = Wish(
        since=_ms(asked.since),
        until=now if asked.until is None else min(now, _ms(asked.until)),
        tenant=_bound(caller),
        endpoint=asked.endpoint,
        types=None if asked.types is None else [each.value for each in asked.types],
    )
    total = await service.db.read(lambda tx: recovering.count(tx, wish))
    row = await service.db.write(lambda tx: recovering.begin(tx, wish, total=total, random=service.random))
    service.wake()
    return JSONResponse(_view(row), 202, {"Location": f"{PATH}/{row['id']}"})


async def many(request: Request) -> Response:
    """`GET /api/webhooks/recoveries`: newest first."""
    caller = await require(request, Scope.READ)
    service, given = service_of(request), once(request, {"limit", "after"})
    limit, after = limit_of(given), given.get("after")
    place = None if after is None else decode_cursor(after, _CURSOR)
    rows = await service.db.read(lambda tx: recovering.recoveries(tx, _bound(caller), limit=limit + 1, after=place))
    return page(request, [_view(row) for row in rows[:limit]], rows[limit - 1]["id"] if len(rows) > limit else None)


async def one(request: Request) -> Response:
    """`GET /api/webhooks/recoveries/{id}`: how far it is."""
    caller = await require(request, Scope.READ)
    service, recovery_id = service_of(request), request.path_params["id"]
    row = await service.db.read(lambda tx: recovering.recovery(tx, _bound(caller), recovery_id))
    if row is None:
        raise Problem(404, "not_found", f"there is no recovery {recovery_id!r}")
    return JSONResponse(_view(row))


def _bound(caller: Caller) -> str | None:
    """The tenant that a caller is bound to; the operator sees all."""
    return None if caller.operator else caller.tenant


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def _view(row: Row) -> dict[str, Any]:
    asked = json.loads(row["asked"])
    return {
        "id": row["id"],
        "object": "recovery",
        "state": row["state"],
        "total": row["total"],
        "sent": row["done"],
        "skipped": row["skipped"],
        "asked": {
            "since": iso(asked["since"]),
            "until": iso(asked["until"]),
            "endpoint": asked["endpoint"],
            "types": asked["types"],
        },
        "createdAt": iso(row["created_at"]),
        "finishedAt": iso(row["finished_at"]),
    }
