"""The mock's own dialect, which has all that can be wished for: idempotency, lookup, unsigned callbacks.

    POST /v1/videos                 202 {"id", "status", ...}; Idempotency-Key: the same generation, charged once
    GET  /v1/videos/{id}            {"status", "progress", "output", "error", "cost_micros", ...}
    GET  /v1/videos?reference=      {"videos": [...]}
    POST /v1/videos/{id}/cancel     the generation as it then stands; refunded if it was still queued

Errors are {"error": {"code", "message"}}. Everything wants `Authorization: Bearer` and takes any key. Alone among the
dialects it has no prefix.
"""

from __future__ import annotations

import json

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from providers.mock import plan
from providers.mock.body import read_json, require_bearer
from providers.mock.dialect import Dialect, Ring
from providers.mock.native_order import read_order
from providers.mock.order import Refusal
from providers.mock.studio import Studio
from providers.mock.work import Work

NAME = "native"


class _Native:
    def __init__(self, studio: Studio) -> None:
        self._studio = studio

    async def submit(self, request: Request) -> Response:
        require_bearer(request)
        order, key = read_order(await read_json(request)), request.headers.get("idempotency-key")
        work = await self._studio.take(order, key=key)
        return JSONResponse(plan.shown(work, self._studio.clock()), 202)

    async def poll(self, request: Request) -> Response:
        work = self._find(request)
        status, now = self._studio.look(work), self._studio.clock()
        if status != "succeeded":
            return JSONResponse(plan.shown(work, now) | {"status": status})
        url, expires_at = self._studio.files.link(str(request.base_url), work)
        output = {"url": url, "mime_type": "video/mp4", "expires_at": expires_at}
        return JSONResponse(plan.shown(work, now, output))

    async def lookup(self, request: Request) -> Response:
        require_bearer(request)
        now, reference = self._studio.clock(), request.query_params.get("reference")
        if not reference:
            raise Refusal(400, "invalid_request", "reference is missing")
        found = self._studio.state.by_reference(reference)
        return JSONResponse({"videos": [plan.shown(work, now) for work in found]})

    async def cancel(self, request: Request) -> Response:
        work, now = self._find(request), self._studio.clock()
        work = self._studio.cancel(work, refund=work.status(now) == "queued")
        return JSONResponse(plan.shown(work, self._studio.clock()))

    def _find(self, request: Request) -> Work:
        require_bearer(request)
        return self._studio.find(request.path_params["id"], NAME)


def _routes(studio: Studio) -> list[Route]:
    native = _Native(studio)
    return [
        Route("/v1/videos", native.submit, methods=["POST"]),
        Route("/v1/videos", native.lookup, methods=["GET"]),
        Route("/v1/videos/{id}", native.poll, methods=["GET"]),
        Route("/v1/videos/{id}/cancel", native.cancel, methods=["POST"]),
    ]


def _refuse(_: Request, refusal: Refusal) -> Response:
    body = {"error": {"code": refusal.code, "message": refusal.message}}
    return JSONResponse(body, refusal.status, refusal.headers)


def _ring(studio: Studio, work: Work, event: str) -> Ring:
    body = {"event_id": f"{work.id}.{event}", "id": work.id, "status": work.status(studio.clock())}
    return Ring(json.dumps(body).encode(), {"content-type": "application/json"})


DIALECT = Dialect(NAME, _routes, _refuse, _ring)
