"""`POST /api/queue/pause` and `/resume`: nothing starts, in a lane, for a user or at all; what runs goes on, deliveries
too."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from pipeline import admission
from pipeline.api.auth import require, service_of
from pipeline.api.body import read_optional
from pipeline.api.pauses import lane_of, lane_view, named
from pipeline.credentials import Scope
from pipeline.db import Tx
from pipeline.queue import FAR_FUTURE
from pipeline.schemas.operations import Pause, Resume

BY_HAND = "paused by hand"


async def pause(request: Request) -> Response:
    """200 with the lane as it is then. A longer pause is never cut short: resume it first."""
    caller = await require(request, Scope.ADMIN)
    service = service_of(request)
    asked = await read_optional(request, Pause, service.max_body_bytes)
    meant = named(caller, asked.lane, asked.tenant, "pausing")

    def unit(tx: Tx) -> dict[str, Any]:
        name = lane_of(tx, service, meant)
        seconds = (FAR_FUTURE - tx.now) / 1000 if asked.seconds is None else asked.seconds
        admission.pause(tx, name, seconds=seconds, reason=asked.reason or BY_HAND)
        return lane_view(admission.hold_lane(tx, name), tx.now)

    return JSONResponse(await service.db.write(unit))


async def resume(request: Request) -> Response:
    """200 with the lane, which is open then, whether it was paused by hand or by itself."""
    caller = await require(request, Scope.ADMIN)
    service = service_of(request)
    asked = await read_optional(request, Resume, service.max_body_bytes)
    meant = named(caller, asked.lane, asked.tenant, "resuming")

    def unit(tx: Tx) -> dict[str, Any]:
        name = lane_of(tx, service, meant)
        admission.resume(tx, name)
        return lane_view(admission.hold_lane(tx, name), tx.now)

    shown = await service.db.write(unit)
    service.wake()
    return JSONResponse(shown)
