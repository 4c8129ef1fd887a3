"""What happened to a generation: so far, as JSON; or as it happens, as server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from pipeline import timeline
from pipeline.api import frames
from pipeline.api.auth import Caller, caller_of, service_of
from pipeline.api.broadcast import Broadcaster
from pipeline.api.deliveries import is_foreign
from pipeline.api.problems import Problem
from pipeline.api.read import visible
from pipeline.api.watcher import Watcher
from pipeline.db import Row
from pipeline.outbox import attempts, deliveries
from pipeline.outbox.reads import discreet, discreet_attempt
from pipeline.schemas import iso, timeline_view

STREAM = "text/event-stream"
ABORT = "dailies.abort"
"""The extension of `pipeline.server` that cuts a connection."""


async def events(request: Request) -> Response:
    """`GET /api/generations/{id}/events`: as a stream if that is what `Accept` asks for, else as JSON."""
    wanted = _quality(request.headers.get("accept", ""), STREAM)
    if wanted > _quality(request.headers.get("accept", ""), "application/json"):
        return await _stream(request)
    return await _history(request)


def _quality(accept: str, kind: str) -> float:
    """How much a media type is wanted by its own name (RFC 9110 12.5.1), 0 for not at all."""
    for part in accept.lower().split(","):
        name, *parameters = (word.strip() for word in part.split(";"))
        if name == kind:
            weights = [word[2:] for word in parameters if word.startswith("q=")]
            try:
                return float(weights[0]) if weights else 1.0
            except ValueError:
                return 0.0
    return 0.0


async def _history(request: Request) -> Response:
    """What happened so far (behind `lastEventId`, if it is given), and how its webhooks fared."""
    service = service_of(request)
    row = await visible(request)
    cursor, _ = _seen(request)
    lines = await service.db.read(lambda tx: timeline.read(tx, row["id"], after=cursor))
    sent = await service.db.read(lambda tx: [(d, attempts(tx, d["id"])) for d in deliveries(tx, row["id"])])
    caller = await caller_of(request) if request.query_params.get("token") is None else None
    body = {
        "object": "timeline",
        "id": row["id"],
        "data": [timeline_view(line) for line in lines],
        "deliveries": [_delivery_view(caller, delivery, tries) for delivery, tries in sent],
    }
    return JSONResponse(body, headers={"Vary": "Accept"})


def _delivery_view(caller: Caller | None, delivery: Row, tries: list[Row]) -> dict[str, object]:
    if is_foreign(caller, delivery):
        delivery, tries = discreet(delivery), [discreet_attempt(each) for each in tries]
    return {
        "id": delivery["id"],
        "eventId": delivery["event_id"],
        "type": delivery["type"],
        "endpoint": delivery["endpoint_id"],
        "state": delivery["state"],
        "nextAttemptAt": iso(delivery["next_at"]),
        "lastError": delivery["last_error"],
        "attempts": [
            {
                "attempt": row["attempt"],
                "at": iso(row["at"]),
                "status": row["status"],
                "reason": row["reason"],
                "detail": row["detail"],
                "milliseconds": row["ms"],
                "response": row["response"],
            }
            for row in tries
        ],
    }


async def _stream(request: Request) -> Response:
    """The stream from where the caller is; 204 for one who has seen the end, which stops a browser from coming back."""
    service = service_of(request)
    row = await visible(request)
    cursor, saw_end = _seen(request)
    if saw_end and frames.has_ended(row):
        newer = await service.db.read(lambda tx: timeline.read(tx, row["id"], after=cursor, limit=1))
        if not newer:
            return Response(status_code=204, headers={"Cache-Control": "no-store"})
    if service.broadcaster.full:
        detail = f"{service.broadcaster.watching} watch here (MAX_WATCHERS): read the generation now and then instead"
        raise Problem(503, "too_many_watchers", detail, headers={"Retry-After": "10"}, retryable=True)
    token = request.query_params.get("token")
    lifetime = service.broadcaster.pace.lifetime
    if token is not None:
        lifetime = min(lifetime, service.links.token_ends(token) - service.clock.now())
    request.scope["state"]["generation"] = row["id"]
    return _EventStream(service.broadcaster, row["id"], cursor, lifetime)


def _seen(request: Request) -> tuple[int, bool]:
    """The last line that the caller has, and whether they saw the end. Raises Problem 400."""
    texts = [request.headers.get("last-event-id"), request.query_params.get("lastEventId")]
    given = [frames.parse_seen(text) for text in texts if text is not None] or [frames.NOTHING]
    seen = given[0]
    if seen is None or None in given:
        detail = "is the id of an event of this stream, as it was sent"
        errors = [{"parameter": "lastEventId", "detail": detail}]
        raise Problem(400, "invalid_parameter", f"lastEventId (or Last-Event-ID) {detail}", errors=errors)
    return seen


class _EventStream(Response):
    """An answer that goes on until the generation has ended, the server wants to, or the client is gone."""

    media_type = STREAM

    def __init__(self, broadcaster: Broadcaster, generation_id: str, cursor: int, lifetime: float) -> None:
        self._broadcaster = broadcaster
        self._generation_id = generation_id
        self._cursor = cursor
        self._lifetime = lifetime
        self.status_code = 200
        self.background = None
        self.init_headers({"Cache-Control": "no-store", "X-Accel-Buffering": "no", "Vary": "Accept"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        if scope["method"] != "HEAD":
            watcher = Watcher(
                self._generation_id,
                self._cursor,
                ends=self._broadcaster.monotonic() + self._lifetime,
                closing=scope["state"].get("closing") or asyncio.Event(),
                abort=_abort(scope),
            )
            gone = asyncio.create_task(_leave_when_gone(receive, watcher))
            try:
                await self._send_all(watcher, send)
            finally:
                gone.cancel()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_all(self, watcher: Watcher, send: Send) -> None:
        portion: bytes | None = frames.RETRY
        with self._broadcaster.watch(watcher):
            while portion is not None:
                with self._broadcaster.sending(watcher):
                    await send({"type": "http.response.body", "body": portion, "more_body": True})
                portion = await watcher.take()


def _abort(scope: Scope) -> Callable[[], object]:
    """What cuts the connection; under another server than ours, what ends the answer."""
    task = asyncio.current_task()
    assert task is not None
    cut: Callable[[], object] = scope.get("extensions", {}).get(ABORT, task.cancel)
    return cut


async def _leave_when_gone(receive: Receive, watcher: Watcher) -> None:
    """Let the stream end once the client has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass
    watcher.close()
