"""Serving the mock: uvicorn's machinery without its signal handlers, its logs, and its patience at the end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send
from uvicorn import Config, Server
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from providers.mock.cut import EXTENSION


class MockServer:
    """A running mock, inside the caller's event loop::

        async with MockServer(create_mock(speed=100)) as server:
            ... server.url ...

    Args:
        app: from `create_mock`; its lifespan is run here.
        host, port: where to listen; port 0 takes a free one.
        grace: seconds that requests under way are given at the stop before they are cut.
        certificate: a PEM file with key and chain, for clients that speak https only.
    """

    def __init__(
        self,
        app: Starlette,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        grace: float = 0.2,
        certificate: Path | None = None,
    ) -> None:
        self._app, self._address, self._grace, self._certificate = app, (host, port), grace, certificate
        self._stopping = False
        self._resources = contextlib.AsyncExitStack()
        self.url = ""

    async def start(self) -> None:
        """Listen; `url` is set. Raises OSError when the port is taken."""
        family = socket.AF_INET6 if ":" in self._address[0] else socket.AF_INET
        listener = socket.create_server(self._address, family=family, backlog=1024)
        host, port = listener.getsockname()[:2]
        config = Config(
            self._run,
            http=_Protocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            log_level=None,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            ssl_certfile=self._certificate,
        )
        config.load()
        self._server = Server(config)
        self._server.lifespan = config.lifespan_class(config)
        self._resources.callback(listener.close)
        async with contextlib.AsyncExitStack() as opened:
            opened.push_async_callback(self._resources.aclose)
            await self._resources.enter_async_context(self._app.router.lifespan_context(self._app))
            await self._server.startup(sockets=[listener])
            opened.pop_all()
        scheme = "https" if self._certificate else "http"
        self.url = f"{scheme}://[{host}]:{port}" if family is socket.AF_INET6 else f"{scheme}://{host}:{port}"

    async def stop(self) -> None:
        """Stop listening, give requests under way their grace, cut the rest, and close the app."""
        self._stopping = True
        state = self._server.server_state
        for server in self._server.servers:
            server.close()
        for connection in list(state.connections):
            connection.shutdown()
        if state.tasks:
            await asyncio.wait(list(state.tasks), timeout=self._grace)
        await self._cut_off()
        await self._resources.aclose()

    async def _cut_off(self) -> None:
        state = self._server.server_state
        for connection in list(state.connections):
            connection.transport.abort()
        await asyncio.sleep(0)
        left = list(state.tasks)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _run(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        except asyncio.CancelledError:
            if not self._stopping:
                raise

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


class _Protocol(HttpToolsProtocol):
    """Offers each request its connection's `abort` and `close`, and writes no access log."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.access_log = False

    def on_message_begin(self) -> None:
        """Add our extension to the scope that uvicorn has just made."""
        super().on_message_begin()
        self.scope["extensions"] = {EXTENSION: {"abort": self.transport.abort, "close": self.transport.close}}
