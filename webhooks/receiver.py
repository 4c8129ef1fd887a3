"""The development receiver: verifies every webhook, shows what came, answers 204.

It is also the example to read before writing a receiver of your own. The order matters: take the raw body, verify it,
drop what came before (by `webhook-id`), store, answer 2xx at once, and work afterwards.
"""

from __future__ import annotations

import json
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from webhooks.signing import InvalidSignature, verify

MAX_BODY = 1024 * 1024
KEPT = 1_000
"""How many messages are kept to be shown; ids are remembered ten times as long."""

Secrets = Sequence[str] | Callable[[], Sequence[str]]


@dataclass(frozen=True, slots=True)
class Received:
    """One webhook as it came.

    Args:
        valid: the signature holds and is fresh; `problem` says what is wrong otherwise.
        duplicate: a message with this `webhook-id` was answered with a 2xx before.
        at: Unix seconds of its arrival.
    """

    valid: bool
    problem: str | None
    headers: Mapping[str, str]
    body: bytes
    duplicate: bool
    path: str
    at: float

    @property
    def text(self) -> str:
        """The body for people: JSON with indentation, or as it is."""
        raw = self.body.decode("utf-8", "replace")
        try:
            return json.dumps(json.loads(raw), indent=2, ensure_ascii=False).encode("utf-8", "replace").decode()
        except (ValueError, RecursionError):
            return raw


@dataclass
class _Inbox:
    secrets: Secrets
    on_event: Callable[[Received], None]
    now: Callable[[], float]
    respond: Callable[[Received], int | None]
    kept: deque[Received] = field(default_factory=lambda: deque(maxlen=KEPT))
    done: OrderedDict[str, None] = field(default_factory=OrderedDict)

    async def receive(self, request: Request) -> Response:
        try:
            body = await _read(request)
        except ClientDisconnect:
            return Response(status_code=400)
        if body is None:
            return PlainTextResponse(f"The body is over {MAX_BODY} bytes.\n", 413)
        received = self.check(request, body)
        status = self.respond(received) or (204 if received.valid else 401)
        if received.valid and 200 <= status <= 299:
            self.remember(received.headers["webhook-id"])
        self.kept.append(received)
        self.on_event(received)
        return Response(status_code=status) if received.valid else PlainTextResponse(f"{received.problem}\n", status)

    def check(self, request: Request, body: bytes) -> Received:
        secrets = self.secrets() if callable(self.secrets) else self.secrets
        now, problem = self.now(), None
        try:
            verify(secrets, request.headers, body, now=now)
        except InvalidSignature as error:
            problem = str(error)
        duplicate = problem is None and request.headers["webhook-id"] in self.done
        return Received(problem is None, problem, dict(request.headers), body, duplicate, request.url.path, now)

    def remember(self, event_id: str) -> None:
        """A real receiver does this in its database, in the transaction that stores the event: a unique column."""
        self.done[event_id] = None
        while len(self.done) > 10 * KEPT:
            self.done.popitem(last=False)

    async def list(self, _: Request) -> Response:
        return JSONResponse([_public(received) for received in self.kept])

    async def show(self, _: Request) -> Response:
        rows = "".join(map(_row, reversed(self.kept))) or "<p>Nothing yet. Webhooks sent to any path here appear.</p>"
        return HTMLResponse(_PAGE.replace("{rows}", rows), headers={"content-security-policy": _POLICY})


def create_receiver(
    secrets: Secrets,
    *,
    on_event: Callable[[Received], None],
    now: Callable[[], float],
    respond: Callable[[Received], int | None] = lambda _: None,
) -> Starlette:
    """An ASGI app that takes webhooks by POST on any path.

    `GET /` is a page of what came, newest first; `GET /received` the same as JSON, oldest first, the last 1,000.
    Answers 204, also to duplicates, and 401 with the problem in words when the signature does not hold.

    Args:
        secrets: the live secrets, or a function that gives them at each request.
        on_event: called with everything that came, valid or not.
        now: Unix seconds.
        respond: chooses another status for tests of the sender; None for the usual answer.
    """
    inbox = _Inbox(secrets, on_event, now, respond)
    return Starlette(
        routes=[
            Route("/", inbox.show, methods=["GET"]),
            Route("/received", inbox.list, methods=["GET"]),
            Route("/{path:path}", inbox.receive, methods=["POST"]),
        ]
    )


async def _read(request: Request) -> bytes | None:
    """The raw body, or None when it is over MAX_BODY. The signature is over these bytes, not over parsed JSON."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            return None
    return bytes(body)


def _public(received: Received) -> dict[str, Any]:
    names = ("valid", "problem", "duplicate", "path", "at", "headers")
    return {name: getattr(received, name) for name in names} | {"body": received.body.decode("utf-8", "replace")}


def _row(received: Received) -> str:
    mark = "verified" if received.valid else f"NOT VERIFIED: {received.problem}"
    title = f"{mark}{' (duplicate)' if received.duplicate else ''} - {received.path}"
    headers = "\n".join(f"{name}: {value}" for name, value in received.headers.items())
    kind = "ok" if received.valid else "bad"
    shown = f"<summary>{escape(title)}</summary><pre>{escape(headers)}</pre><pre>{escape(received.text)}</pre>"
    return f'<details class="{kind}" open>{shown}</details>'


_POLICY = "default-src 'none'; style-src 'unsafe-inline'"

_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Received webhooks</title>
<meta name="viewport" content="width=device-width"><style>
body{font:15px system-ui;max-width:60em;margin:2em auto;padding:0 1em;color-scheme:light dark}
details{border-left:4px solid;padding-left:1em;margin:1em 0}.ok{border-color:#1a7f37}.bad{border-color:#cf222e}
summary{font-weight:600;cursor:pointer}pre{white-space:pre-wrap;overflow-wrap:anywhere}
</style><h1>Received webhooks</h1>{rows}</html>
"""
