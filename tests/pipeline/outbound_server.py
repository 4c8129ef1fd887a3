"""A scripted HTTP server on a real socket, for the outbound tests: it does what its script says, right or wrong."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import cache

import httpx
import trustme

from pipeline.outbound import Transport
from pipeline.outbound.dns import Resolve
from pipeline.outbound.guard import Guard

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass
class Peer:
    """One accepted connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def reset(self) -> None:
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def silence(self) -> None:
        await self.reader.read()


Act = Callable[[Peer], Awaitable[object]]


@dataclass
class Server:
    port: int = 0
    scheme: str = "http"
    accepted: int = 0
    closed: int = 0
    requests: list[bytes] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/"

    async def until(self, condition: Callable[[Server], bool]) -> None:
        async with asyncio.timeout(5):
            while not condition(self):
                self.changed.clear()
                await self.changed.wait()


def say(data: bytes) -> Act:
    """Answer and keep the connection."""
    return lambda peer: peer.send(data)


def say_and_close(data: bytes) -> Act:
    async def act(peer: Peer) -> None:
        await peer.send(data)
        peer.writer.close()

    return act


def say_and_reset(data: bytes) -> Act:
    async def act(peer: Peer) -> None:
        await peer.send(data)
        peer.reset()

    return act


async def read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    lengths = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return head + (await reader.readexactly(int(lengths[0])) if lengths else b"")


@asynccontextmanager
async def serve(*acts: Act, tls: ssl.SSLContext | None = None, read: bool = True) -> AsyncIterator[Server]:
    """The n-th request is met by the n-th act, later ones by the last. `read=False`: act at once on a connection."""
    server = Server(scheme="https" if tls else "http")
    tasks: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())  # type: ignore[arg-type]  # a handler always runs in a task
        server.accepted += 1
        server.changed.set()
        try:
            while not writer.is_closing():
                if read:
                    server.requests.append(await read_request(reader))
                    server.changed.set()
                act = acts[min(max(len(server.requests), 1), len(acts)) - 1]
                await act(Peer(reader, writer))
                if not read:
                    break
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            server.closed += 1
            server.changed.set()
            writer.close()
            with suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()

    listener = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await listener.wait_closed()


def closed_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def names(**addresses: str | list[str]) -> Resolve:
    """A resolver of a fixed table; `_` in a keyword stands for a dot."""
    table = {name.replace("_", "."): [a] if isinstance(a, str) else a for name, a in addresses.items()}

    async def resolve(host: str) -> list[str]:
        if host not in table:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return table[host]

    return resolve


CA = trustme.CA()


@cache
def trusting() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    CA.configure_trust(context)
    return context


def certificate(*identities: str, ca: trustme.CA = CA, **options: object) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(*identities, **options).configure_cert(context)  # type: ignore[arg-type]  # not_after and such
    return context


@asynccontextmanager
async def client(
    keep_alive: float | None = 5.0,
    *,
    per_host: int = 16,
    resolve: Resolve | None = None,
    guard: Guard | None = None,
    timeout: httpx.Timeout | float = 5.0,
) -> AsyncIterator[httpx.AsyncClient]:
    transport = Transport(
        tls=trusting, resolve=resolve or names(), per_host=per_host, keep_alive=keep_alive, guard=guard
    )
    async with httpx.AsyncClient(transport=transport, timeout=timeout, trust_env=False) as made:
        yield made
