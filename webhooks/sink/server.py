"""The sink's sockets. One port speaks http and https: the first byte of a connection tells which is wanted."""

from __future__ import annotations

import asyncio
import itertools
import socket
import ssl
import struct
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

from webhooks.sink.answer import Act, Answer, Certificate, Ending, Greeting, Pause, Say, acts
from webhooks.sink.behaviours import ALERT, with_slash
from webhooks.sink.request import MAX_BODY, MAX_HEAD, Head, Seen, problem_of, read_head
from webhooks.sink.spec import Spec

if TYPE_CHECKING:
    from webhooks.sink.certificates import Certificates

HELLO = 0x16
"""The first byte of a TLS connection."""
PATIENCE = 60.0
"""Seconds that a connection may stay without a first byte."""
_NOW = struct.pack("ii", 1, 0)
_TOO_LARGE = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_NOT_TLS = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Sink:
    """A bad receiver, listening from entry to exit.

    Args:
        spec: what it does; drawn anew for every connection and request.
        secrets: what signatures are checked with; the answer does not depend on it.
        on_request: told of every request before it is answered.
        now: Unix seconds.
        uniform: a random number in 0..1.
        certificates: for https; made when the first comes unless given.

    Entering raises OSError when it cannot listen.
    """

    def __init__(
        self,
        spec: Spec,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        secrets: Sequence[str] = (),
        on_request: Callable[[Seen], None] = lambda _: None,
        now: Callable[[], float],
        uniform: Callable[[], float],
        certificates: Certificates | None = None,
    ) -> None:
        self.connections = 0
        self._spec, self._secrets, self._tell = spec, secrets, on_request
        self._now, self._uniform, self._certificates = now, uniform, certificates
        self._where = (host, port)
        self._tasks: set[asyncio.Task[None]] = set()
        self._fillers: list[socket.socket] = []
        self._listener: socket.socket | None = None

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self._listener is not None
        return int(self._listener.getsockname()[1])

    async def __aenter__(self) -> Self:
        """Listen."""
        greeting = self._spec.draw(self._uniform, self._now())[0].greeting
        blackhole = greeting is Greeting.BLACKHOLE
        host, port = self._where
        self._listener = socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=0 if blackhole else 1024
        )
        self._listener.setblocking(False)
        if blackhole:
            self._fill(self._listener)
        else:
            self._start(self._accept(self._listener))
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close everything at once."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for sock in (*self._fillers, self._listener):
            if sock is not None:
                sock.close()

    def _fill(self, listener: socket.socket) -> None:
        """Take the places of the queue ourselves: the kernel drops whoever comes after."""
        for _ in range(8):
            filler = socket.socket(listener.family)
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
            self._fillers.append(filler)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, _ = await loop.sock_accept(listener)
            except OSError:  # no descriptor is left, or the peer was quick to go
                await asyncio.sleep(0.05)
                continue
            self.connections += 1
            self._start(self._meet(sock, self.connections))

    async def _meet(self, sock: socket.socket, number: int) -> None:
        answer, _ = self._spec.draw(self._uniform, self._now())
        with sock, suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
            if answer.greeting is Greeting.RESET:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NOW)
                return
            encrypted = await _first_byte(sock) == HELLO
            if answer.greeting is Greeting.STALL and encrypted:
                while await asyncio.get_running_loop().sock_recv(sock, MAX_HEAD):
                    pass
                return
            if answer.greeting is Greeting.OLD and encrypted:
                await _refuse_version(sock)
                return
            wanted = encrypted and answer.greeting is not Greeting.PLAIN
            tls = self._context(answer.certificate) if wanted else None
            reader, writer = await _streams(sock, tls)
            try:
                if encrypted and not wanted:
                    await reader.read(1)
                    await _perform((Say(_NOT_TLS), Ending.CLOSE), reader, writer)
                else:
                    await self._talk(reader, writer, number, encrypted)
            finally:
                writer.transport.abort()

    def _context(self, kind: Certificate) -> ssl.SSLContext:
        if self._certificates is None:
            from webhooks.sink.certificates import Certificates  # noqa: PLC0415 - only who speaks TLS pays for it

            self._certificates = Certificates()
        return self._certificates.context(kind)

    async def _talk(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int, encrypted: bool
    ) -> None:
        """Answer request after request, until one of us has enough."""
        idle: float | None = None
        for turn in itertools.count():
            try:
                async with asyncio.timeout(idle):
                    head = await read_head(reader)
            except TimeoutError:
                return
            if head is None:
                return
            answer, labels = self._spec.draw(self._uniform, self._now())
            if answer.dies and turn:
                return
            body = await self._body(reader, writer, head, answer)
            if body is None:
                return
            self._tell(self._seen(head, body, labels, number, encrypted))
            if not await _perform(acts(with_slash(answer, head.path)), reader, writer):
                return
            idle = answer.idle

    async def _body(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: Head, answer: Answer
    ) -> bytes | None:
        if answer.unread:
            return b""
        if head.length >= MAX_BODY or "transfer-encoding" in head.headers:
            await _perform((Say(_TOO_LARGE), Ending.CLOSE), reader, writer)
            return None
        return await reader.readexactly(head.length)

    def _seen(self, head: Head, body: bytes, labels: tuple[str, ...], number: int, encrypted: bool) -> Seen:
        now = self._now()
        problem = problem_of(self._secrets, head, body, now)
        return Seen(now, head.method, head.path, head.headers, body, problem, labels, number, encrypted)


async def _first_byte(sock: socket.socket) -> int | None:
    """Look at it and leave it there; None when the peer has gone."""
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(sock, ready.set)
    try:
        async with asyncio.timeout(PATIENCE):
            await ready.wait()
    finally:
        loop.remove_reader(sock)
    return next(iter(sock.recv(1, socket.MSG_PEEK)), None)


async def _refuse_version(sock: socket.socket) -> None:
    """As OpenSSL does it, with the alert; asyncio would close without a word."""
    loop = asyncio.get_running_loop()
    await loop.sock_recv(sock, MAX_HEAD)
    await loop.sock_sendall(sock, ALERT)
    sock.shutdown(socket.SHUT_WR)
    await loop.sock_recv(sock, MAX_HEAD)


async def _streams(
    sock: socket.socket, tls: ssl.SSLContext | None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=MAX_HEAD, loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport, _ = await loop.connect_accepted_socket(lambda: protocol, sock, ssl=tls)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


async def _perform(script: Iterable[Act], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Do it; whether the connection goes on."""
    for act in script:
        match act:
            case Say(data, every):
                await _say(writer, data, every)
            case Pause(seconds):
                await asyncio.sleep(seconds)
            case Ending.KEEP:
                return True
            case Ending.CLOSE:
                writer.close()
                await writer.wait_closed()
            case Ending.RESET:
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NOW)
                writer.transport.abort()
            case Ending.HANG:
                while await reader.read(65_536):
                    pass
    return False


async def _say(writer: asyncio.StreamWriter, data: bytes, every: float) -> None:
    if not every:
        writer.write(data)
        await writer.drain()
        return
    for byte in data:
        writer.write(bytes((byte,)))
        await writer.drain()
        await asyncio.sleep(every)
