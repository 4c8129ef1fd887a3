"""Read tokens: what a page needs to watch one generation and to play its video, without a key."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from pipeline import generations
from pipeline.api.auth import service_of, tenant_over
from pipeline.api.body import read_json
from pipeline.api.problems import Problem
from pipeline.api.read import not_deleted
from pipeline.credentials import Scope
from pipeline.schemas import TokenCreate, iso


async def create(request: Request) -> Response:
    """`POST /api/generations/{id}/tokens`: 201 with a token for this one generation. A token makes no other token."""
    tenant = await tenant_over(request, Scope.READ)
    service, reference = service_of(request), request.path_params["id"]
    asked = await read_json(request, TokenCreate, service.max_body_bytes)
    row = await service.db.read(lambda tx: generations.find(tx, tenant, reference))
    if row is None:
        raise Problem(404, "not_found", f"there is no generation {reference!r}")
    not_deleted(row)
    expires = int(service.clock.now()) + asked.expires_in
    token = service.links.read_token(row["id"], expires)
    here = f"{service.links.of(row)['self']}"
    body = {
        "object": "token",
        "token": token,
        "expiresAt": iso(expires * 1000),
        "eventsUrl": f"{here}/events?token={token}",
        "videoUrl": f"{here}/content?token={token}",
    }
    return JSONResponse(body, 201, headers={"Cache-Control": "no-store"})
