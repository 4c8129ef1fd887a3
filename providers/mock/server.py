"""The mock provider's HTTP server: its native dialect, its ledger and its faults, in one Starlette app.

    POST /v1/videos                 202 {"id", "status", ...}; Idempotency-Key: the same generation, charged once
    GET  /v1/videos/{id}            {"status", "progress", "output", "error", "cost_micros", ...}
    GET  /v1/videos?reference=      {"videos": [...]}
    POST /v1/videos/{id}/cancel     the generation as it then stands; refunded if it was still queued
    GET  /files/{id}.mp4            the video, by signed link, with Range
    GET  /ledger?prompt=&limit=     what was accepted and charged
    GET, PUT, DELETE /faults        rules for faults, see `providers.mock.faults`
    GET  /healthz                   {"service": "dailies-mock", "speed"}

Errors are {"error": {"code", "message"}}. Everything under /v1 wants `Authorization: Bearer` and takes any key.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import asdict
from pathlib import Path

import httpx
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from providers.mock import plan
from providers.mock.bell import Bell
from providers.mock.cut import CutConnection
from providers.mock.faults import Faults, read_rules
from providers.mock.files import Files
from providers.mock.ledger import account
from providers.mock.order import Order, Refusal, read_order
from providers.mock.state import State
from providers.mock.work import TERMINAL, Work

MAX_BODY = 32 << 20


def create_mock(
    state_path: Path | None = None,
    *,
    speed: float = 1.0,
    client: httpx.AsyncClient | None = None,
    clock: Callable[[], float] = time.time,
    chance: random.Random | None = None,
) -> Starlette:
    """The app; serve it with `providers.mock.serve.MockServer`, which can cut connections.

    Args:
        state_path: an SQLite file that outlives the process, or None for memory.
        speed: how many times faster than a real provider (30 s for a video) it is.
        client: rings callbacks; without one they are not rung.
        clock: Unix seconds.
        chance: makes ids, seeds and the links' key; the system's generator unless given.
    """
    mock = _Mock(state_path, speed, client, clock, chance or random.SystemRandom())
    videos = [
        Route("/v1/videos", mock.submit, methods=["POST"]),
        Route("/v1/videos", mock.lookup, methods=["GET"]),
        Route("/v1/videos/{id}", mock.poll, methods=["GET"]),
        Route("/v1/videos/{id}/cancel", mock.cancel, methods=["POST"]),
        Route("/files/{id}.mp4", mock.file, methods=["GET"]),
    ]
    desk = [
        Route("/ledger", mock.ledger, methods=["GET"]),
        Route("/faults", mock.rules, methods=["GET", "PUT", "DELETE"]),
        Route("/healthz", mock.health, methods=["GET"]),
    ]
    handlers = {Refusal: _refuse, HTTPException: _refuse_http}
    return Starlette(routes=videos + desk, lifespan=mock.lifespan, exception_handlers=handlers)


class _Mock:
    def __init__(
        self,
        path: Path | None,
        speed: float,
        client: httpx.AsyncClient | None,
        clock: Callable[[], float],
        chance: random.Random,
    ) -> None:
        self._path, self._speed, self._client, self._clock, self._chance = path, speed, client, clock, chance
        self._bell: Bell | None = None

    @contextlib.asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        with contextlib.closing(State(self._path)) as self._state:
            self._faults = Faults(self._state)
            secret = self._state.secret(self._chance.randbytes(32))
            self._files = Files(self._state, self._faults, secret, self._clock)
            async with self._bells():
                yield

    @contextlib.asynccontextmanager
    async def _bells(self) -> AsyncIterator[None]:
        if self._client is None:
            yield
            return
        self._bell = Bell(self._state, self._faults, self._client, self._clock)
        task = asyncio.create_task(self._bell.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def submit(self, request: Request) -> Response:
        _authenticate(request)
        order, key = read_order(await _json(request)), request.headers.get("idempotency-key")
        scope = "prompt:" + hashlib.sha256(order.prompt.encode()).hexdigest()
        if self._refuse_before(order.prompt, scope) is not None:
            return CutConnection()
        work = self._known(order, key) or self._accept(order, key, scope)
        if self._faults.fires("callback:early", order.prompt, scope) and self._bell and work.callback_url:
            await self._bell.ring(work, "early", work.status(self._clock()))
        await asyncio.sleep(self._faults.seconds("slow-submit", order.prompt) or 0)
        if self._faults.fires("500-submit", order.prompt, scope):
            raise Refusal(500, "internal", "something went wrong")
        if self._faults.fires("drop-submit", order.prompt, scope):
            return CutConnection()
        return JSONResponse(plan.shown(work, self._clock()), 202)

    def _refuse_before(self, prompt: str, scope: str) -> str | None:
        """Raise the refusal that a fault asks for before anything is accepted, or name the one that cuts."""
        if self._faults.fires("429", prompt, scope):
            wait = {"retry-after": str(round(5 / self._speed))}
            raise Refusal(429, "rate_limited", "too many requests", wait)
        if self._faults.fires("503-submit", prompt, scope):
            raise Refusal(503, "unavailable", "the service is not available")
        if self._faults.fires("fail:invalid", prompt, scope):
            raise Refusal(400, "invalid_request", "the request is not valid")
        return "cut" if self._faults.fires("cut-submit", prompt, scope) else None

    def _known(self, order: Order, key: str | None) -> Work | None:
        work = self._state.by_key(key) if key else None
        if work is not None and work.body_hash != order.body_hash:
            raise Refusal(422, "idempotency_mismatch", "this Idempotency-Key was used with another body")
        return work

    def _accept(self, order: Order, key: str | None, scope: str) -> Work:
        seed = self._chance.getrandbits(32) if order.seed is None else order.seed
        ending = next((end for fault, end in _ENDINGS.items() if self._faults.fires(fault, order.prompt, scope)), None)
        seconds = self._faults.seconds("slow", order.prompt) or plan.seconds_for(seed, self._speed)
        stuck = self._faults.fires("stuck", order.prompt, scope)
        work = plan.accept(
            order,
            work_id=f"vid_{self._chance.getrandbits(96):024x}",
            key=key,
            seed=seed,
            now=self._clock(),
            seconds=None if stuck else seconds,
            ending=ending or "succeeded",
        )
        self._state.add(work)
        self._ring_later()
        return work

    def _ring_later(self) -> None:
        if self._bell:
            self._bell.changed.set()

    async def poll(self, request: Request) -> Response:
        work = self._find(request)
        if self._faults.fires("503-poll", work.prompt, work.id):
            raise Refusal(503, "unavailable", "the service is not available")
        if self._faults.fires("garbage-json", work.prompt, work.id):
            return Response('{"id": "' + work.id, media_type="application/json")
        now = self._clock()
        status = work.status(now)
        if status == "succeeded":
            url, expires_at = self._files.link(str(request.base_url), work)
            output = {"url": url, "mime_type": "video/mp4", "expires_at": expires_at}
            return JSONResponse(plan.shown(work, now, output))
        answer = plan.shown(work, now)
        if status == "running" and self._faults.fires("unknown-status", work.prompt, work.id):
            answer["status"] = "warming_up"
        return JSONResponse(answer)

    async def lookup(self, request: Request) -> Response:
        _authenticate(request)
        now, reference = self._clock(), request.query_params.get("reference")
        if not reference:
            raise Refusal(400, "invalid_request", "reference is missing")
        return JSONResponse({"videos": [plan.shown(work, now) for work in self._state.by_reference(reference)]})

    async def cancel(self, request: Request) -> Response:
        work, now = self._find(request), self._clock()
        if work.status(now) not in TERMINAL:
            self._state.cancel(work.id, now, refund=work.status(now) == "queued")
            self._ring_later()
        return JSONResponse(plan.shown(self._find(request), now))

    async def file(self, request: Request) -> Response:
        return await self._files.serve(request)

    async def ledger(self, request: Request) -> Response:
        text, limit = request.query_params.get("prompt", ""), request.query_params.get("limit", "1000")
        now = self._clock()
        works = self._state.search(text, int(limit) if limit.isdecimal() else 1000)
        return JSONResponse(account(works, self._state.totals(text, now), now))

    async def rules(self, request: Request) -> Response:
        if request.method != "GET":
            body = await _json(request) if request.method == "PUT" else []
            try:
                self._state.replace_rules(read_rules(body))
            except ValueError as error:
                raise Refusal(400, "invalid_request", str(error)) from error
        return JSONResponse([asdict(rule) for rule in self._state.rules])

    async def health(self, _: Request) -> Response:
        return JSONResponse({"service": "dailies-mock", "speed": self._speed})

    def _find(self, request: Request) -> Work:
        _authenticate(request)
        work = self._state.by_id(request.path_params["id"])
        if work is None:
            raise Refusal(404, "not_found", "there is no such video")
        return work


_ENDINGS = {"fail:moderation": "moderation", "fail:transient": "internal"}


def _authenticate(request: Request) -> None:
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise Refusal(401, "unauthorized", "an Authorization header with a Bearer key is missing")


async def _json(request: Request) -> object:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise Refusal(413, "too_large", f"the body is larger than {MAX_BODY} bytes", {"connection": "close"})
    try:
        parsed: object = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, "invalid_request", "the body is not JSON") from error
    return parsed


def _envelope(status: int, code: str, message: str, headers: Mapping[str, str] | None) -> Response:
    return JSONResponse({"error": {"code": code, "message": message}}, status, headers)


async def _refuse(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return _envelope(error.status, error.code, error.message, error.headers)


async def _refuse_http(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _envelope(error.status_code, "http_error", error.detail, error.headers)
