"""`GET /api/webhooks/stream`: events as they are recorded, with the very bytes that webhooks carry, as server-sent
events. For `dailies listen`, and for whoever cannot be reached from here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from pipeline.api import frames
from pipeline.api.auth import require, service_of
from pipeline.api.events import ABORT, STREAM
from pipeline.api.problems import Problem
from pipeline.api.query import bad, once
from pipeline.api.streams import Streams
from pipeline.credentials import Scope as KeyScope
from pipeline.db import DatabaseError, Row
from pipeline.outbox.tape import NotAPlace, Tape, behind, now_on
from pipeline.schemas import iso

MAX_STREAMS = 50


async def stream(request: Request) -> Response:
    """The stream, from now on or behind the event that the caller heard last."""
    caller = await require(request, KeyScope.READ)
    service, given = service_of(request), once(request, {"after"})
    tenant = None if caller.operator else caller.tenant
    seen = [text for text in (given.get("after"), request.headers.get("last-event-id")) if text is not None]
    try:
        tapes = [behind(text, tenant) for text in seen]
    except NotAPlace:
        raise bad("after", "is the id of an event (evt_...), as it was sent") from None
    if service.streams.open >= MAX_STREAMS:
        detail = f"{MAX_STREAMS} listen here: list the deliveries now and then instead"
        raise Problem(503, "too_many_watchers", detail, headers={"Retry-After": "10"}, retryable=True)
    tape = tapes[-1] if tapes else await service.db.read(lambda tx: now_on(tx, tenant))
    return _Stream(service.streams, tape, endless=STREAM in request.headers.get("accept", ""))


class _Stream(Response):
    """An answer that goes on until its time is over, the server wants to end, or the client is gone; one that is not
    `endless` until there is nothing more to tell."""

    media_type = STREAM

    def __init__(self, streams: Streams, tape: Tape, *, endless: bool) -> None:
        self._streams = streams
        self._endless = endless
        self._tape = tape
        self.status_code = 200
        self.background = None
        self.init_headers({"Cache-Control": "no-store", "X-Accel-Buffering": "no"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        if scope["method"] != "HEAD":
            over = scope["state"].get("closing") or asyncio.Event()
            gone = asyncio.create_task(_leave_when_gone(receive))
            self._streams.open += 1
            try:
                await self._go_on(_Pipe(scope, send, self._streams.pace.stuck), lambda: over.is_set() or gone.done())
            finally:
                self._streams.open -= 1
                gone.cancel()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _go_on(self, pipe: _Pipe, is_over: Callable[[], bool]) -> None:
        pace = self._streams.pace
        ends = time.monotonic() + pace.lifetime
        await pipe.send(frames.RETRY + frames.frame("ready", {}, event_id=self._tape.floor))
        stamp, sent_at = (-1, -1), time.monotonic()
        while not is_over() and time.monotonic() < ends:
            now, before = self._streams.stamp(), stamp
            try:
                told, stamp = now != before and await self._tell(pipe, is_over), now
            except DatabaseError:
                told = False  # looked at again by the next round
            if not told and time.monotonic() - sent_at > pace.keep_alive:
                told = True
                await pipe.send(frames.KEEP_ALIVE)
            if not self._endless:
                return
            sent_at = time.monotonic() if told else sent_at
            await asyncio.sleep(pace.tick)

    async def _tell(self, pipe: _Pipe, is_over: Callable[[], bool]) -> bool:
        """Send all that is new; whether anything was."""
        more, told = True, False
        while more and not is_over():
            rows, more = await self._streams.db.read(self._tape.listen)
            for row in rows:
                await pipe.send(_frame(row))
                told = True
        return told


class _Pipe:
    """What takes the bytes; one who does not read for long is cut off."""

    def __init__(self, scope: Scope, send: Send, stuck: float) -> None:
        self._send = send
        self._stuck = stuck
        task = asyncio.current_task()
        assert task is not None
        self._abort: Callable[[], object] = scope.get("extensions", {}).get(ABORT, task.cancel)

    async def send(self, portion: bytes) -> None:
        timer = asyncio.get_running_loop().call_later(self._stuck, self._abort)
        try:
            await self._send({"type": "http.response.body", "body": portion, "more_body": True})
        finally:
            timer.cancel()


def _frame(row: Row) -> bytes:
    data = {
        "id": row["id"],
        "type": row["type"],
        "generation": row["generation_id"],
        "createdAt": iso(row["created_at"]),
        "body": row["body"],
    }
    return frames.frame(row["type"], data, event_id=row["id"])


async def _leave_when_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
