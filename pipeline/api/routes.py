"""The table of routes, and what surrounds every request: an id, the gate, one wide log line."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Set
from contextlib import AbstractAsyncContextManager
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.api import (
    callbacks,
    content,
    create,
    dead,
    delete,
    deliveries,
    endpoint_acts,
    endpoints,
    estimate,
    events,
    explain,
    held,
    lanes,
    metrics,
    models,
    problems,
    queue_status,
    read,
    recover,
    redrive,
    reference,
    status,
    stream,
    tokens,
    usage,
    users,
)
from pipeline.api.auth import needs_key
from pipeline.api.cors import cors
from pipeline.api.endpoint_parts import PATH as ENDPOINTS
from pipeline.api.gate import PROBES, refusal
from pipeline.api.problems import Problem
from pipeline.api.ratelimit import Limit
from pipeline.api.service import Service
from pipeline.config import LOOPBACK_HOSTS
from pipeline.db import DatabaseError
from pipeline.ids import new_id
from pipeline.telemetry import emit

Lifespan = Callable[[Starlette], AbstractAsyncContextManager[None]]

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


async def _generations(request: Request) -> Response:
    """One route for both methods, so that a 405 names them all."""
    return await (create.create(request) if request.method == "POST" else read.many(request))


async def _generation(request: Request) -> Response:
    """The same for one."""
    return await (delete.delete(request) if request.method == "DELETE" else read.one(request))


async def _endpoints(request: Request) -> Response:
    """The same for webhook endpoints."""
    return await (endpoints.create(request) if request.method == "POST" else endpoints.many(request))


async def _endpoint(request: Request) -> Response:
    """And for one of them."""
    acts = {"PATCH": endpoints.update, "DELETE": endpoints.delete}
    return await acts.get(request.method, endpoints.one)(request)


ROUTES = (
    Route(read.PATH, _generations, methods=["GET", "POST"]),
    Route("/api/generations/estimate", estimate.estimate, methods=["POST"]),
    Route("/api/generations/{id}", _generation, methods=["GET", "DELETE"]),
    Route("/api/generations/{id}/cancel", read.cancel, methods=["POST"]),
    Route("/api/generations/{id}/content", content.content),
    Route("/api/generations/{id}/events", events.events),
    Route("/api/generations/{id}/explain", explain.explain),
    Route("/api/generations/{id}/tokens", tokens.create, methods=["POST"]),
    Route("/api/generations/{id}/redrive", redrive.redrive, methods=["POST"]),
    Route("/api/generations/{id}/submissions", usage.submissions),
    Route("/api/models", models.models),
    Route("/api/usage", usage.usage),
    Route("/api/generations/{id}/resolve", held.decide, methods=["POST"]),
    Route("/api/held", held.held),
    Route("/api/queue/dead", dead.dead),
    Route("/api/queue/dead/redrive", dead.redrive, methods=["POST"]),
    Route("/api/queue/pause", lanes.pause, methods=["POST"]),
    Route("/api/queue/resume", lanes.resume, methods=["POST"]),
    Route("/api/queue/status", queue_status.queue_status),
    Route(users.PATH, users.many),
    users.route(),
    Route("/api/webhooks/recover", recover.recover, methods=["POST"]),
    Route(recover.PATH, recover.many),
    Route(f"{recover.PATH}/{{id}}", recover.one),
    Route("/api/webhooks/stream", stream.stream),
    Route(deliveries.PATH, deliveries.many),
    Route(f"{deliveries.PATH}/{{id}}", deliveries.one),
    Route(f"{deliveries.PATH}/{{id}}/redeliver", deliveries.redeliver, methods=["POST"]),
    Route(ENDPOINTS, _endpoints, methods=["GET", "POST"]),
    Route(f"{ENDPOINTS}/{{id}}", _endpoint, methods=["GET", "PATCH", "DELETE"]),
    Route(f"{ENDPOINTS}/{{id}}/rotate-secret", endpoint_acts.rotate, methods=["POST"]),
    Route(f"{ENDPOINTS}/{{id}}/test", endpoint_acts.test, methods=["POST"]),
    Route(f"{ENDPOINTS}/{{id}}/enable", endpoint_acts.enable, methods=["POST"]),
    Route(f"{ENDPOINTS}/{{id}}/disable", endpoint_acts.disable, methods=["POST"]),
    Route("/callbacks/{provider}/{token}", callbacks.callback, methods=["POST"]),
    Route("/problems/{code}", problems.explain),
    Route("/openapi.json", reference.openapi),
    Route("/docs", reference.docs),
    Route("/metrics", metrics.metrics),
    Route("/healthz", status.healthz),
    Route("/readyz", status.readyz),
)
"""Every address, and what answers there."""


def create_api(service: Service, lifespan: Lifespan | None = None) -> Starlette:
    """The application."""
    app = Starlette(
        routes=list(ROUTES),
        middleware=[*cors(service.cors_origins), Middleware(_Envelope, service=service)],
        exception_handlers=dict.fromkeys((Problem, DatabaseError, HTTPException), problems.handle),
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False  # it would build the address from a Host header that anyone can write
    app.state.service = service
    return app


class _Envelope:
    """Gives each request an id (that of the caller, if it is decent), asks the gate, and logs one line in the end."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service
        self._hosts = LOOPBACK_HOSTS | {service.links.host}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = self._request_id(scope)
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
        if (scope["method"], scope["path"]) == ("POST", read.PATH):
            self._trace(scope, state)
        answered: list[int] = []

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                answered.append(message["status"])
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode()), *_limit(state)]
            await send(message)

        try:
            await self._answer(scope, receive, send_with_id, answered)
        finally:
            if scope["path"] not in PROBES:
                _log(scope, answered, started)

    def _request_id(self, scope: Scope) -> str:
        given = Headers(scope=scope).get("x-request-id", "")
        if _REQUEST_ID.fullmatch(given):
            return given
        return new_id("req", self._service.clock.now_ms(), self._service.random)

    def _trace(self, scope: Scope, state: dict[str, Any]) -> None:
        """A new generation takes its place in its caller's trace. Several contexts are none (Trace Context 4.3)."""
        given = Headers(scope=scope).getlist("traceparent")
        header = given[0] if len(given) == 1 else None
        state["trace"] = self._service.tracing.begin(header)
        state["parent"] = self._service.tracing.parent(header)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, answered: list[int]) -> None:
        """Every request gets its answer here, an unforeseen error's too; once one has begun, the connection is cut."""
        try:
            problem = refusal(scope, await self._names(scope), self._service.cors_origins)
            if problem is not None:
                raise problem
            await self._app(scope, receive, send)
        except ClientDisconnect:
            return
        except Exception as error:
            if answered:
                raise
            response = await problems.handle(Request(scope), error)
            await response(scope, receive, send)

    async def _names(self, scope: Scope) -> Set[str] | None:
        """The names under which the service answers, or None where a key proves who calls and any name will do."""
        if scope["path"] in PROBES or await needs_key(self._service):
            return None
        return self._hosts


def _limit(state: Mapping[str, Any]) -> list[tuple[bytes, bytes]]:
    """What a key that is limited should know of its limit."""
    limit = state.get("limit")
    headers = limit.headers() if isinstance(limit, Limit) else {}
    return [(name.lower().encode(), value.encode()) for name, value in headers.items()]


def _log(scope: Scope, answered: list[int], started: float) -> None:
    emit(
        "request.done",
        request=scope["state"]["request_id"],
        method=scope["method"],
        path=_shown(scope["path"]),
        route=getattr(scope.get("route"), "path", None),
        status=answered[0] if answered else None,
        problem=scope["state"].get("problem"),
        generation=scope["state"].get("generation"),
        trace=scope["state"].get("trace"),
        parent=scope["state"].get("parent"),
        ms=round((time.perf_counter() - started) * 1000, 1),
    )


def _shown(path: str) -> str:
    """The path as it may be logged: a callback's token is a secret."""
    return path.rpartition("/")[0] + "/..." if path.startswith("/callbacks/") else path
