"""Serving an ASGI application inside our own event loop: uvicorn without its signal handlers.

What uvicorn does not tell an application, each request's `state` and `extensions` do::

    state.closing                an asyncio.Event: the server wants to end, so that an answer without an end must, too
    extensions["dailies.abort"]  cuts the connection, whatever the client has not read yet
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any, Self

from starlette.types import ASGIApp
from uvicorn import Config, Server
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

GRACE_SECONDS = 5
ABORT = "dailies.abort"


class HttpServer:
    """A listening server::

        async with HttpServer(app, host, port) as server:
            print(server.port)

    Entering it raises OSError when the address is taken; leaving it gives running requests up to five seconds.
    """

    def __init__(self, app: ASGIApp, host: str, port: int) -> None:
        config = Config(
            app,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
            ws="none",
            http=_Protocol,
        )
        self._server = Server(config)
        self._closing = asyncio.Event()
        self._address = (host, port)
        self._listener: socket.socket | None = None
        self.port = port

    async def __aenter__(self) -> Self:
        """Listen. `port` is then the real one."""
        self._listener = _listen(*self._address)
        self.port = self._listener.getsockname()[1]
        config = self._server.config
        config.load()
        self._server.lifespan = config.lifespan_class(config)
        self._server.lifespan.state["closing"] = self._closing
        await self._server.startup(sockets=[self._listener])
        self._ticks = asyncio.create_task(self._server.main_loop())
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Stop listening, let running requests end, close."""
        assert self._listener is not None
        self._closing.set()
        self._server.should_exit = True
        await self._ticks
        await self._server.shutdown(sockets=[self._listener])


class _Protocol(HttpToolsProtocol):
    """uvicorn's, with a way to cut the connection: ending an answer waits until the client has read what was written,
    for ever if it does not read. And with no access log, whoever configures logging: our queries hold tokens."""

    def __init__(self, *parts: Any, **named: Any) -> None:
        super().__init__(*parts, **named)
        self.access_log = False

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {ABORT: self.transport.abort}  # type: ignore[dict-item]  # extensions are anything


def _listen(host: str, port: int) -> socket.socket:
    """A bound socket. The protocol is named, since asyncio sets TCP_NODELAY only then (40 ms per small answer without
    it)."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(1024)
    except BaseException:
        listener.close()
        raise
    return listener
