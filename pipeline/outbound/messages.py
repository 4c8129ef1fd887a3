"""aiohttp's request and response, with the seams between a connection's phases made explicit.

Which error a failure becomes is decided by where it came up, never by its class::

    Connector.connect   no connection yet     ConnectError, ConnectTimeout: surely nothing was sent
    Request.send, Body  being written         WriteError, WriteTimeout; LocalProtocolError: we are wrong
    Response.start      waiting for the head  ReadError, ReadTimeout, RemoteProtocolError

What leaves these seams is httpx's error and not aiohttp's, so aiohttp's own retry of idempotent requests on a reused
connection never sees anything to retry; `Connector.connect` refuses a second connection for one request all the same.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterator

import aiohttp
import httpx
from aiohttp.abc import AbstractStreamWriter
from aiohttp.client_reqrep import ClientRequest
from aiohttp.connector import Connection

from pipeline.outbound.call import CALL, Call

PIECE = 65_536
"""Bytes that are handed to the socket at a time, so that a large body is never copied as a whole."""
NO_WAIT = 16_384
"""Bytes of a body's first piece up to which a write cannot wait, so that it needs no time limit (most bodies)."""


class Request(ClientRequest):
    """A request that tells when it was written."""

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        """Write the head (and start the body). Raises httpx.WriteError or httpx.LocalProtocolError."""
        try:
            response = await super().send(conn)
        except ValueError as error:
            raise httpx.LocalProtocolError(str(error)) from error
        except Exception as error:
            raise httpx.WriteError(str(error) or repr(error)) from error
        if self._body is None:
            CALL.get().exchange.written = True
        return response


class Body(aiohttp.Payload):
    """A request's body: bytes or an async iterator of them, exactly as long as announced."""

    _autoclose = True

    def __init__(self, call: Call, content: bytes | httpx.AsyncByteStream) -> None:
        super().__init__(content)
        self._call = call
        self._size = len(content) if isinstance(content, bytes) else None

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """The body as text, for bodies that are in memory."""
        return bytes(self._value).decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Write it all."""
        await self.write_with_length(writer, None)

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        """Write it all, and keep what went wrong where `Response.start` finds it."""
        try:
            await self._write(writer, content_length)
        except Exception as error:
            self._call.write_failure = error
            raise

    async def _write(self, writer: AbstractStreamWriter, length: int | None) -> None:
        sent = 0
        async for piece in _pieces(self._value):
            sent += len(piece)
            if length is not None and sent > length:
                raise httpx.LocalProtocolError(f"the body is longer than its Content-Length of {length}")
            await self._hand_over(writer, piece)
        if length is not None and sent < length:
            raise httpx.LocalProtocolError(f"the body ended after {sent} of {length} bytes")
        if sent > NO_WAIT:
            await self._hand_over(writer, None)

    async def _hand_over(self, writer: AbstractStreamWriter, piece: memoryview | None) -> None:
        call = self._call
        if call.connection is None or call.connection.closed:
            raise httpx.WriteError("the connection was closed while the request was being written")
        may_wait = piece is None or len(piece) > NO_WAIT or call.exchange.written
        try:
            async with asyncio.timeout(call.write_timeout if may_wait else None):
                if piece is None:
                    await writer.drain()
                else:
                    call.exchange.written = True
                    call.exchange.sent += len(piece)
                    await writer.write(piece)
        except TimeoutError as error:
            raise httpx.WriteTimeout("the server did not take the request's body in time") from error
        except Exception as error:
            raise httpx.WriteError(str(error) or repr(error)) from error


class Response(aiohttp.ClientResponse):
    """An answer whose head is awaited with httpx's errors."""

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        """Wait for the head. Raises httpx's errors, or what the request's own body iterator raised."""
        call = CALL.get()
        try:
            await super().start(connection)
        except Exception as error:
            call.exchange.heard = bool(getattr(call.protocol, "heard", False))
            if call.write_failure is not None:
                raise call.write_failure from None
            raise reading_failed(error) from error
        if self.status == 101:
            raise httpx.RemoteProtocolError("the server switched protocols, which nobody asked for")
        call.exchange.heard = True
        call.exchange.first_byte_ms = (time.perf_counter() - call.ready_at) * 1000
        return self


def reading_failed(error: Exception) -> httpx.TransportError:
    """What a failure after the request was written is in httpx's words. Pure."""
    text = str(error) or repr(error)
    match error:
        case httpx.TransportError():
            return error
        case TimeoutError():
            return httpx.ReadTimeout("the server did not answer in time")
        case aiohttp.ServerDisconnectedError():
            return httpx.RemoteProtocolError("the server closed the connection without an answer")
        case aiohttp.ClientPayloadError() | aiohttp.ClientResponseError():
            return httpx.RemoteProtocolError(text)
        case _:
            return httpx.ReadError(text)


async def _pieces(content: bytes | AsyncIterable[bytes]) -> AsyncIterator[memoryview]:
    if isinstance(content, bytes):
        for piece in _cut(content):
            yield piece
        return
    async for chunk in content:
        for piece in _cut(chunk):
            yield piece


def _cut(chunk: bytes) -> Iterator[memoryview]:
    view = memoryview(chunk)
    return (view[at : at + PIECE] for at in range(0, len(view), PIECE))
