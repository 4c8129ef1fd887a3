"""The head of an answer is read before what follows it, and is bounded as a whole.

aiohttp parses all that came with one read, and what is wrong in a body then hides the status that came before it: a 204
with a body, or a 200 with broken chunks, would be no answer at all, although the receiver has taken the event. And it
bounds single headers only, not their sum.
"""

from __future__ import annotations

import asyncio

from aiohttp import ClientPayloadError
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import RawResponseMessage
from aiohttp.http_exceptions import BadHttpMessage
from aiohttp.streams import StreamReader

MAX_HEAD = 131_072
"""Bytes of one answer up to its body, interim answers (103) included; more is a RemoteProtocolError."""
_END = b"\r\n\r\n"


class Heads(ResponseHandler):
    """aiohttp's protocol, fed with the head of each answer by itself."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._in_head, self._head_bytes, self._tail_of_head = True, 0, b""

    def set_response_params(self, **limits: object) -> None:
        """A request is about to be sent. See aiohttp."""
        self._await_head()
        super().set_response_params(**limits)  # type: ignore[arg-type] # handed through as it came

    def data_received(self, data: bytes) -> None:
        """Hand it to the parser, cut behind the head."""
        while self._in_head and self._parser is not None and self.exception() is None:
            end = (self._tail_of_head + data).find(_END)
            cut = len(data) if end < 0 else end + len(_END) - len(self._tail_of_head)
            self._head_bytes += cut
            if self._head_bytes > MAX_HEAD:
                self._refuse()
                return
            self._tail_of_head = (self._tail_of_head + data)[-3:] if end < 0 else b""
            super().data_received(data[:cut])
            data = data[cut:]
            if not data:
                return
        super().data_received(data)

    def feed_data(self, data: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        """An answer's head was read; what follows an interim one is another head."""
        self._in_head = 100 <= data[0].code <= 199
        super().feed_data(data, size)

    def set_exception(self, exc: BaseException, exc_cause: BaseException | None = None) -> None:
        """Nothing comes any more; whoever reads a body must not wait for the rest of it."""
        super().set_exception(exc, exc_cause or exc)
        if self._payload is not None and not self._payload.is_eof() and self._payload.exception() is None:
            told = exc if isinstance(exc, OSError | TimeoutError) else ClientPayloadError(str(exc) or repr(exc))
            self._payload.set_exception(told)

    def _await_head(self) -> None:
        self._in_head, self._head_bytes, self._tail_of_head = True, 0, b""

    def _refuse(self) -> None:
        if self.transport is not None:
            self.transport.close()
        error = BadHttpMessage(f"the answer's head is over {MAX_HEAD} bytes")
        self.set_exception(error, error)
