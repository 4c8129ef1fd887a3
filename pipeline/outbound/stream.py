"""An answer's body: the bytes of the wire, a bounded number of them at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import aiohttp
import httpx

from pipeline.outbound.call import Call
from pipeline.outbound.messages import reading_failed

READ_BUFFER = 131_072
"""Bytes that are read ahead before the sender is stopped; at most twice that is held per answer."""


class BodyStream(httpx.AsyncByteStream):
    """The body as it comes. Closing it before its end drops the connection; `give` is called once, at the closing."""

    def __init__(self, answer: aiohttp.ClientResponse, call: Call, give: Callable[[], None]) -> None:
        self._answer = answer
        self._call = call
        self._give: Callable[[], None] | None = give

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The chunks, neither decoded nor joined. Raises ReadError, ReadTimeout or RemoteProtocolError."""
        try:
            while chunk := await self._answer.content.readany():
                yield chunk
        except Exception as error:
            raise reading_failed(error) from error
        if _ends_with_connection(self._answer):
            self._check_end()

    async def aclose(self) -> None:
        """Give the connection back after the body's end, drop it before."""
        if self._give is None:
            return
        give, self._give = self._give, None
        if self._answer.content.at_eof():
            self._answer.release()
        else:
            self._call.abort()
            self._answer.close()
        give()

    def _check_end(self) -> None:
        protocol = self._call.protocol
        end = None if protocol is None else protocol.exception()
        if isinstance(end, aiohttp.ClientOSError):  # a reset must not pass for the body's end
            raise reading_failed(end) from end


def _ends_with_connection(answer: aiohttp.ClientResponse) -> bool:
    has_body = answer.method != "HEAD" and answer.status not in {204, 304}
    return has_body and "Content-Length" not in answer.headers and "Transfer-Encoding" not in answer.headers
