"""Is it well, and what is waiting: `/healthz`, `/readyz`, `/api/queue/status`."""

from __future__ import annotations

import logging
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from pipeline import __version__, admission, generations, queue
from pipeline.api.auth import require, service_of
from pipeline.credentials import Scope
from pipeline.db import Row, Tx
from pipeline.db.migrate import head
from pipeline.lifecycle import JobKind
from pipeline.schemas import iso
from pipeline.telemetry import emit

ALIVE_MS = 90_000
HOUR_MS = 3_600_000


async def healthz(request: Request) -> Response:
    """This process answers. Nothing else is looked at."""
    return JSONResponse({"status": "ok", "version": __version__})


async def readyz(request: Request) -> Response:
    """The database answers, its schema fits, and a worker is alive; 503 with what is missing."""
    service = service_of(request)
    checks: dict[str, str] = {}
    try:
        found = await service.db.read(_revision)
        alive = await service.db.read(lambda tx: len(_workers(tx)))
        checks["database"] = "ok" if found == head() else f"schema {found}, needed {head()}: run `dailies migrate`"
        checks["worker"] = "ok" if alive else "none has been seen in the last 90 s: start `dailies worker`"
    except Exception as error:  # whatever the driver raises means: not ready; its words may name hosts and users
        emit("request.failed", level=logging.WARNING, path="/readyz", error=str(error))
        checks["database"] = f"does not answer ({type(error).__name__}); the reason is in the log"
    ready = all(value == "ok" for value in checks.values())
    return JSONResponse({"status": "ready" if ready else "not ready", "checks": checks}, 200 if ready else 503)


def _revision(tx: Tx) -> str | None:
    found = tx.value("SELECT version_num FROM alembic_version")
    return None if found is None else str(found)


def _workers(tx: Tx) -> list[Row]:
    return tx.all("SELECT * FROM worker WHERE seen_at > :since ORDER BY started_at", {"since": tx.now - ALIVE_MS})


async def queue_status(request: Request) -> Response:
    """What waits, what runs, what is stuck and why."""
    await require(request, Scope.ADMIN)
    service = service_of(request)
    return JSONResponse(await service.db.read(lambda tx: _snapshot(tx, service.max_in_flight)))


def _snapshot(tx: Tx, max_in_flight: int) -> dict[str, Any]:
    groups = queue.stats(tx)
    return {
        "object": "queue",
        "at": iso(tx.now),
        "generations": _counted(groups, JobKind.GENERATION) | {"lastHour": generations.counts(tx, tx.now - HOUR_MS)},
        "deliveries": _counted(groups, JobKind.DELIVERY),
        "oldestWaitingSeconds": _oldest(tx),
        "held": sum(g["jobs"] for g in groups if g["step"] in {"held", "resolve"} and g["status"] != "dead"),
        "lanes": [_lane_view(tx, row, max_in_flight) for row in admission.lanes(tx)],
        "workers": [
            {
                "id": row["id"],
                "host": row["host"],
                "pid": row["pid"],
                "version": row["version"],
                "startedAt": iso(row["started_at"]),
                "seenAt": iso(row["seen_at"]),
            }
            for row in _workers(tx)
        ],
    }


def _counted(groups: list[Row], kind: JobKind) -> dict[str, Any]:
    mine = [group for group in groups if group["kind"] == kind]
    by_status = dict.fromkeys(("waiting", "pending", "processing", "dead"), 0)
    by_step: dict[str, int] = {}
    for group in mine:
        by_status[group["status"]] += group["jobs"]
        if group["status"] in {"pending", "processing"}:
            by_step[group["step"]] = by_step.get(group["step"], 0) + group["jobs"]
    return {"byStatus": by_status, "byStep": by_step}


def _oldest(tx: Tx) -> float | None:
    created = tx.value(
        "SELECT min(g.created_at) FROM job j JOIN generation g ON g.id = j.subject_id"
        " WHERE j.status = 'waiting' AND j.kind = 'generation'"
    )
    return None if created is None else round((tx.now - created) / 1000, 1)


def _lane_view(tx: Tx, row: Row, max_in_flight: int) -> dict[str, Any]:
    paused = (row["paused_until"] or 0) > tx.now
    return {
        "name": row["name"],
        "inFlight": admission.in_flight(tx, row["name"]),
        "maxInFlight": max_in_flight if row["max_in_flight"] is None else row["max_in_flight"],
        "pausedUntil": iso(row["paused_until"]) if paused else None,
        "pausedReason": row["paused_reason"] if paused else None,
    }
