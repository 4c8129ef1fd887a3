"""Fetching a file that comes inside a JSON answer: asked for again, decoded as it arrives."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

import httpx

from providers.base import Download, ErrorCode, ProviderError
from providers.wire.errors import ReadError, error_of, read_failure
from providers.wire.exchange import WIRE_ERRORS, Answer, Call, read_body
from providers.wire.sieve import Base64, Sieve


def open_inline(
    client: httpx.AsyncClient,
    call: Call,
    members: frozenset[str],
    index: int,
    *,
    read_error: ReadError = error_of,
    clock: Callable[[], float] = time.time,
) -> AbstractAsyncContextManager[Download]:
    """Open the file that is the `index`-th string of `members` in a call's answer (see `providers.wire.sieve`).

    The call goes where polls go, with its own headers; it follows nothing.

    Raises (on entering, and from `chunks()`):
        ProviderError: NOT_FOUND when the answer holds no such string: poll again. TRANSIENT for a cut, UNREADABLE for
            what is no base64, and what `read_error` makes of a refusal.
    """
    return _open(client, call, _Place(members, index), read_error, clock)


@dataclass(frozen=True, slots=True)
class _Place:
    members: frozenset[str]
    index: int


@contextlib.asynccontextmanager
async def _open(
    client: httpx.AsyncClient, call: Call, place: _Place, read_error: ReadError, clock: Callable[[], float]
) -> AsyncIterator[Download]:
    try:
        response = await client.send(call.request(client), stream=True, follow_redirects=False)
    except WIRE_ERRORS as error:
        raise ProviderError(ErrorCode.TRANSIENT, f"the file could not be opened: {type(error).__name__}") from error
    try:
        if not 200 <= response.status_code < 300:
            answer = Answer(response.status_code, response.headers, await read_body(response))
            raise read_failure(answer, read_error, clock())
        if response.headers.get("content-encoding", "identity").lower() not in {"", "identity"}:
            raise ProviderError(ErrorCode.TRANSIENT, "the file came packed, which was not asked for")
        yield _Body(response, place)
    finally:
        with contextlib.suppress(httpx.HTTPError):
            await response.aclose()


class _Body:
    length: int | None = None
    content_type: str | None = None

    def __init__(self, response: httpx.Response, place: _Place) -> None:
        self._response, self._place = response, place

    async def chunks(self) -> AsyncIterator[bytes]:
        """The decoded bytes, as they come."""
        decoder, index = Base64(), self._place.index
        fresh: list[bytes] = []
        sieve = Sieve(self._place.members, lambda number, part: fresh.append(part) if number == index else None)
        try:
            async for piece in self._response.aiter_raw():
                sieve.feed(piece)
                if decoded := b"".join(map(decoder.feed, fresh)):
                    yield decoded
                fresh.clear()
                if sieve.passed(index):
                    break
            if sieve.passed(index) and (rest := decoder.end()):
                yield rest
        except (httpx.HTTPError, OSError) as error:
            raise ProviderError(ErrorCode.TRANSIENT, f"the file was cut: {type(error).__name__}") from error
        except ValueError as error:
            raise ProviderError(ErrorCode.UNREADABLE, "the file in the answer is no base64") from error
        if not sieve.passed(index):
            begun = sieve.passed(index) is False
            code = ErrorCode.TRANSIENT if begun else ErrorCode.NOT_FOUND
            raise ProviderError(code, "the file was cut" if begun else "the answer does not hold the file any more")
