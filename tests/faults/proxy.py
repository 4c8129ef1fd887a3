"""A TCP proxy before PostgreSQL that loses the answers of COMMITs, or lets connections that listen go deaf."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

BLOCK = 65536


class Proxy:
    """Forwards to a port of 127.0.0.1.

    Attributes:
        lose: so many of the COMMITs lose their connection: half of them before the server hears, half after.
        swallow: whether nothing more gets through on connections that listen. Nobody is told; they stay open.
        lost: how many COMMITs were lost.
        listening: how many LISTENs were seen.
    """

    def __init__(self, upstream: int, dice: random.Random) -> None:
        self._upstream = upstream
        self._dice = dice
        self._deaf: set[int] = set()
        self._listeners: set[int] = set()
        self._count = 0
        self.port = 0
        self.lose = 0.0
        self.lost = 0
        self.listening = 0

    def swallow(self) -> int:
        """From now on nothing gets through on those that listen now; how many they are."""
        self._deaf |= self._listeners
        return len(self._listeners)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until either side ends it."""
        self._count += 1
        number = self._count
        try:
            server_reader, server = await asyncio.open_connection("127.0.0.1", self._upstream)
        except OSError:
            writer.close()
            return
        ways = [
            asyncio.create_task(self._forward(number, reader, server)),
            asyncio.create_task(self._back(number, server_reader, writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            self._listeners.discard(number)
            writer.close()
            server.close()

    async def _forward(self, number: int, reader: asyncio.StreamReader, server: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(BLOCK):
                if b"LISTEN " in data:
                    self._listeners.add(number)
                    self.listening += 1
                if number in self._deaf:
                    continue
                if b"COMMIT\x00" in data and self._dice.random() < self.lose:
                    self.lost += 1
                    if self._dice.random() < 0.5:
                        server.write(data)
                        await server.drain()
                        await asyncio.sleep(0.02)
                    return
                server.write(data)
                await server.drain()

    async def _back(self, number: int, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(BLOCK):
                if number not in self._deaf:
                    client.write(data)
                    await client.drain()


@asynccontextmanager
async def open_proxy(upstream: int, dice: random.Random) -> AsyncIterator[Proxy]:
    """A proxy on a free port."""
    proxy = Proxy(upstream, dice)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
