"""`GET /api/queue/status`: what waits, what runs, what is stuck and why; for the operator also how the last hour went.

Every question is answered by an index or by the rollups of `pipeline.statistics`, never by what is finished: a million
of those change nothing.
"""

from __future__ import annotations

import json
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from pipeline import admission, queue, statistics
from pipeline.admission import EVERYTHING, Bounds
from pipeline.admission.shares import is_user, paused_users, whose
from pipeline.api.auth import require, service_of
from pipeline.api.pauses import pause_view
from pipeline.credentials import Scope
from pipeline.db import Row, Tx
from pipeline.lifecycle import JobKind
from pipeline.schemas import iso

ALIVE_MS = 90_000
MOST_USERS = 100
RUNNING = frozenset({"submit", "resolve", "poll", "store"})
UNCLEAR = frozenset({"held", "resolve"})


async def queue_status(request: Request) -> Response:
    """The operator sees the service; a key of a tenant its own counts, without rollups, lanes and workers."""
    caller = await require(request, Scope.ADMIN)
    service = service_of(request)
    if caller.operator:
        return JSONResponse(await service.db.read(lambda tx: whole(tx, service.bounds)))
    return JSONResponse(await service.db.read(lambda tx: own(tx, caller.tenant)))


def own(tx: Tx, tenant: str) -> dict[str, Any]:
    """The part of one tenant."""
    groups = queue.stats(tx, tenant)
    return _counts(tx, groups, tenant)


def whole(tx: Tx, bounds: Bounds) -> dict[str, Any]:
    """The service as a whole."""
    groups = queue.stats(tx)
    return _counts(tx, groups, None) | {
        "lanes": [_lane_view(tx, row, bounds) for row in admission.lanes(tx) if not is_user(row["name"])],
        "workers": [_worker_view(row) for row in workers(tx)],
        "lastHour": statistics.last_hour(tx),
    }


def _counts(tx: Tx, groups: list[Row], tenant: str | None) -> dict[str, Any]:
    return {
        "object": "queue",
        "at": iso(tx.now),
        "generations": _counted(groups, JobKind.GENERATION),
        "deliveries": _counted(groups, JobKind.DELIVERY),
        "oldestWaitingSeconds": oldest_waiting(tx, groups, tenant),
        "held": held(groups),
        "waitingForSpend": admission.unfunded(tx, tenant),
        **pause_view(tx.one("SELECT * FROM lane WHERE name = :name", {"name": EVERYTHING}), tx.now),
        "pausedUsers": [_user_view(row, tx.now) for row in paused_users(tx, tenant, limit=MOST_USERS)],
    }


def _user_view(row: Row, now: int) -> dict[str, Any]:
    tenant, user = whose(row["name"])
    return {"user": user, "tenant": tenant, **pause_view(row, now)}


def _counted(groups: list[Row], kind: JobKind) -> dict[str, Any]:
    mine = [group for group in groups if group["kind"] == kind]
    by_status = dict.fromkeys(("waiting", "pending", "processing", "dead"), 0)
    by_step: dict[str, int] = {}
    for group in mine:
        by_status[group["status"]] += group["jobs"]
        if group["status"] in {"pending", "processing"}:
            by_step[group["step"]] = by_step.get(group["step"], 0) + group["jobs"]
    return {"byStatus": by_status, "byStep": by_step}


def held(groups: list[Row]) -> int:
    """Generations whose paid call has an unknown outcome."""
    return sum(g["jobs"] for g in groups if g["step"] in UNCLEAR and g["status"] in {"pending", "processing"})


def oldest_waiting(tx: Tx, groups: list[Row], tenant: str | None = None) -> float | None:
    """Seconds since the generation that waits longest for admission was asked for, or set going again."""
    lanes = [group["lane"] for group in groups if group["status"] == "waiting"]
    first = [subject for lane in lanes for subject in queue.first_in_line(tx, lane, tenant)]
    among = "= ANY(:ids)" if tx.postgres else "IN (SELECT value FROM json_each(:ids))"
    since = first and tx.value(
        f"SELECT min(coalesce(redriven_at, created_at)) FROM generation WHERE id {among}",
        {"ids": first if tx.postgres else json.dumps(first)},
    )
    return round((tx.now - since) / 1000, 1) if since else None


def workers(tx: Tx) -> list[Row]:
    """The workers that were seen of late, oldest first."""
    return tx.all("SELECT * FROM worker WHERE seen_at > :since ORDER BY started_at", {"since": tx.now - ALIVE_MS})


def _worker_view(row: Row) -> dict[str, Any]:
    return {
        "id": row["id"],
        "host": row["host"],
        "pid": row["pid"],
        "version": row["version"],
        "startedAt": iso(row["started_at"]),
        "seenAt": iso(row["seen_at"]),
    }


def _lane_view(tx: Tx, row: Row, bounds: Bounds) -> dict[str, Any]:
    name, probing = row["name"], bool(row["probing"])
    rate = bounds.per_minute.get(name)
    return {
        "name": name,
        "inFlight": admission.in_flight(tx, name, bounds.unclear_seconds),
        "maxInFlight": bounds.of(row),
        "requestsLastMinute": None if rate is None else admission.calls(tx, name),
        "requestsPerMinute": rate,
        **pause_view(row, tx.now),
        **({"pausedReason": row["paused_reason"]} if probing else {}),
        "probing": probing,
    }
