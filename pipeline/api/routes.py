"""The table of routes, and what surrounds every request: an id, a bound on the body, one wide log line."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.api import callbacks, create, problems, read, status
from pipeline.api.problems import Problem
from pipeline.api.service import Service
from pipeline.db import DatabaseError
from pipeline.ids import new_id
from pipeline.telemetry import emit

Lifespan = Callable[[Starlette], AbstractAsyncContextManager[None]]

QUIET = frozenset({"/healthz", "/readyz"})



async def _generations(request: Request) -> Response:
    """One route for both methods, so that a 405 names them all."""
    return await (create.create(request) if request.method == "POST" else read.many(request))


def create_api(service: Service, lifespan: Lifespan | None = None) -> Starlette:
    """The application."""
    app = Starlette(
        routes=[
            Route("/api/generations", _generations, methods=["GET", "POST"]),
            Route("/api/generations/{id}", read.one),
            Route("/api/generations/{id}/cancel", read.cancel, methods=["POST"]),
            Route("/api/generations/{id}/content", read.content),
            Route("/api/generations/{id}/events", read.events),
            Route("/api/queue/status", status.queue_status),
            Route("/callbacks/{provider}/{token}", callbacks.callback, methods=["POST"]),
            Route("/healthz", status.healthz),
            Route("/readyz", status.readyz),
        ],
        middleware=[Middleware(_Envelope, service=service)],
        exception_handlers=dict.fromkeys((Problem, DatabaseError, HTTPException, Exception), problems.handle),
        lifespan=lifespan,
    )
    app.state.service = service
    return app


class _Envelope:
    """Gives each request an id (that of the caller, if it is decent) and logs one line when it is answered."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = new_id("req", self._service.clock.now_ms(), self._service.random)
        scope.setdefault("state", {})["request_id"] = request_id
        answered: list[int] = []

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                answered.append(message["status"])
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        finally:
            if scope["path"] not in QUIET:
                emit(
                    "request.done",
                    request=request_id,
                    method=scope["method"],
                    path=_shown(scope["path"]),
                    status=answered[0] if answered else None,
                    ms=round((time.perf_counter() - started) * 1000, 1),
                )


def _shown(path: str) -> str:
    """The path as it may be logged: a callback's token is a secret."""
    return path.rpartition("/")[0] + "/..." if path.startswith("/callbacks/") else path
