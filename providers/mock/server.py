"""The mock provider's HTTP server: its dialects, its files, its ledger and its faults, in one Starlette app.

/v1/...                         the native dialect, see `providers.mock.dialects.native`
/{provider}/...                 the dialect of a real provider, for its adapter and its official client
GET  /files/{id}.mp4            a video, by signed link, with Range
GET  /ledger?prompt=&limit=     what was accepted and charged, in whichever dialect
GET, PUT, DELETE /faults        rules for faults, see `providers.mock.faults`
GET  /healthz                   {"service": "dailies-mock", "speed", "dialects"}
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from pathlib import Path

import httpx
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from providers.mock.bell import Bell
from providers.mock.body import read_json
from providers.mock.dialect import Dialect
from providers.mock.dialects import DIALECTS, native
from providers.mock.faults import read_rules
from providers.mock.ledger import account
from providers.mock.order import Refusal
from providers.mock.studio import Broken, Studio

_LIMIT = re.compile(r"[0-9]{1,6}")


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
    studio = Studio(state_path, speed, clock, chance or random.SystemRandom())
    desk = _Desk(studio)
    routes: list[BaseRoute] = [
        Route("/files/{id}.mp4", desk.file, methods=["GET"]),
        Route("/ledger", desk.ledger, methods=["GET"]),
        Route("/faults", desk.rules, methods=["GET", "PUT", "DELETE"]),
        Route("/healthz", desk.health, methods=["GET"]),
        *native.DIALECT.routes(studio),
    ]
    routes += [
        Mount(f"/{name}", _app(dialect, list(dialect.routes(studio))))
        for name, dialect in DIALECTS.items()
        if dialect is not native.DIALECT
    ]

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        studio.open()
        with contextlib.closing(studio):
            async with _bells(studio, client):
                yield

    return _app(native.DIALECT, routes, lifespan)


def _app(
    dialect: Dialect,
    routes: list[BaseRoute],
    lifespan: Callable[[Starlette], contextlib.AbstractAsyncContextManager[None]] | None = None,
) -> Starlette:
    """An app whose refusals are in a dialect's envelope."""

    async def refuse(request: Request, error: Exception) -> Response:
        assert isinstance(error, Refusal)
        return dialect.refuse(request, error)

    async def refuse_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return dialect.refuse(
            request, Refusal(error.status_code, "http_error", error.detail, dict(error.headers or {}))
        )

    async def break_off(_: Request, error: Exception) -> Response:
        assert isinstance(error, Broken)
        return error.response

    handlers = {Refusal: refuse, HTTPException: refuse_http, Broken: break_off}
    return Starlette(routes=routes, lifespan=lifespan, exception_handlers=handlers)


@contextlib.asynccontextmanager
async def _bells(studio: Studio, client: httpx.AsyncClient | None) -> AsyncIterator[None]:
    if client is None:
        yield
        return
    bell = Bell(studio, DIALECTS, client)
    studio.changed = bell.changed.set
    studio.ring_early = lambda work: bell.ring(work, "early")
    task = asyncio.create_task(bell.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


class _Desk:
    """What is not any provider's: files, the ledger, the faults."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio

    async def file(self, request: Request) -> Response:
        return await self._studio.files.serve(request)

    async def ledger(self, request: Request) -> Response:
        text, limit = request.query_params.get("prompt", ""), request.query_params.get("limit", "1000")
        now, state = self._studio.clock(), self._studio.state
        if not _LIMIT.fullmatch(limit):
            raise Refusal(400, "invalid_request", "limit is a number of at most six digits")
        works = state.search(text, int(limit))
        return JSONResponse(account(works, state.totals(text, now), now))

    async def rules(self, request: Request) -> Response:
        if request.method != "GET":
            body = await read_json(request) if request.method == "PUT" else []
            try:
                self._studio.state.replace_rules(read_rules(body))
            except ValueError as error:
                raise Refusal(400, "invalid_request", str(error)) from error
        return JSONResponse([asdict(rule) for rule in self._studio.state.rules])

    async def health(self, _: Request) -> Response:
        return JSONResponse({"service": "dailies-mock", "speed": self._studio.speed, "dialects": list(DIALECTS)})
