"""A TCP proxy that can fall silent: it takes what it is sent, passes nothing on, and closes nothing."""

from __future__ import annotations

import asyncio
from contextlib import suppress


class SilentProxy:
    """Forwards to a port of 127.0.0.1 until `silent`; then only connections that were made before are dead.

    Attributes:
        connections: how many were made.
    """

    def __init__(self, port: int) -> None:
        self._upstream = port
        self._dead: set[int] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0
        self.connections = 0

    async def __aenter__(self) -> SilentProxy:
        self._server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def silence(self) -> None:
        """Every connection there is goes dead, as behind a router that forgot it."""
        self._dead.update(range(self.connections))

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number, self.connections = self.connections, self.connections + 1
        there, back = await asyncio.open_connection("127.0.0.1", self._upstream)
        for source, target in ((reader, back), (there, writer)):
            task = asyncio.create_task(self._pass(number, source, target))
            self._tasks.add(task)

    async def _pass(self, number: int, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        try:
            with suppress(OSError):
                while data := await source.read(65536):
                    if number not in self._dead:
                        target.write(data)
                        await target.drain()
        finally:
            target.transport.abort()
