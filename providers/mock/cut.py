"""Answers that end a connection instead of finishing. They need the server of `providers.mock.serve`."""

from __future__ import annotations

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

EXTENSION = "dailies.connection"
"""The ASGI extension that offers two callables: `abort` (reset at once) and `close` (after what was written)."""


class CutConnection(Response):
    """No answer: the connection is reset."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Reset, then wait until the server has noticed, or it would answer 500."""
        await end(scope, receive, "abort")


class CutBody(Response):
    """An answer that announces `length` bytes and ends the connection after its shorter body."""

    def __init__(self, body: bytes, length: int, media_type: str) -> None:
        super().__init__(body, media_type=media_type, headers={"content-length": str(length)})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the head and the short body, then close."""
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        await end(scope, receive, "close")


async def end(scope: Scope, receive: Receive, how: str) -> None:
    """End the connection of a request. Raises RuntimeError under a server without the extension."""
    connection = scope.get("extensions", {}).get(EXTENSION)
    if connection is None:
        raise RuntimeError("this server cannot cut connections: serve the mock with MockServer")
    connection[how]()
    while (await receive())["type"] != "http.disconnect":
        pass
