"""`POST /api/queue/pause` and `/resume`: nothing starts, in a lane or at all; what runs goes on, deliveries too."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from pipeline import admission
from pipeline.admission import EVERYTHING, provider_lane
from pipeline.api.auth import require_operator, service_of
from pipeline.api.body import read_optional
from pipeline.api.problems import Problem
from pipeline.api.service import Service
from pipeline.db import Row, Tx
from pipeline.queue import FAR_FUTURE
from pipeline.schemas import iso
from pipeline.schemas.operations import Pause, Resume

BY_HAND = "paused by hand"


async def pause(request: Request) -> Response:
    """200 with the lane as it is then. A longer pause is never cut short: resume it first."""
    await require_operator(request, "pausing")
    service = service_of(request)
    asked = await read_optional(request, Pause, service.max_body_bytes)
    name = await _lane_name(service, asked.lane)

    def unit(tx: Tx) -> Row:
        seconds = (FAR_FUTURE - tx.now) / 1000 if asked.seconds is None else asked.seconds
        admission.pause(tx, name, seconds=seconds, reason=asked.reason or BY_HAND)
        return admission.hold_lane(tx, name)

    row = await service.db.write(unit)
    return JSONResponse(_view(row, row["paused_until"]))


async def resume(request: Request) -> Response:
    """200 with the lane, which is open then, whether it was paused by hand or by itself."""
    await require_operator(request, "resuming")
    service = service_of(request)
    asked = await read_optional(request, Resume, service.max_body_bytes)
    name = await _lane_name(service, asked.lane)

    def unit(tx: Tx) -> Row:
        admission.resume(tx, name)
        return admission.hold_lane(tx, name)

    row = await service.db.write(unit)
    service.wake()
    return JSONResponse(_view(row, None))


async def _lane_name(service: Service, asked: str | None) -> str:
    """The lane of a provider that is configured or has been, by either name, or `*` for all. Raises Problem 422."""
    if asked is None or asked == EVERYTHING:
        return EVERYTHING
    known = {provider_lane(name) for name in service.providers}
    known |= {row["name"] for row in await service.db.read(admission.lanes)} - {EVERYTHING}
    name = asked if asked in known else provider_lane(asked)
    if name not in known:
        error = {"pointer": "/lane", "detail": "is not a lane of this service", "allowed": sorted(known)}
        raise Problem(422, "invalid_request", "1 member(s) of the body cannot be taken", errors=[error])
    return name


def _view(row: Row, until: int | None) -> dict[str, Any]:
    return {
        "object": "lane",
        "name": row["name"],
        "paused": until is not None,
        "pausedUntil": iso(until) if until is not None and until < FAR_FUTURE else None,
        "pausedReason": row["paused_reason"],
    }
