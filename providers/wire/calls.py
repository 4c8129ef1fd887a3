"""Calls that are free of charge and may be repeated: polls, cancels, lookups."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import httpx
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_exponential, wait_random

from providers.base import ErrorCode, ProviderError
from providers.wire.errors import ReadError, error_of, read_failure
from providers.wire.exchange import WIRE_ERRORS, Answer, Call, exchange

_BLIPS = frozenset({None, 502, 503, 504})
_LONGEST_WAIT = 2.0


async def call_json(
    client: httpx.AsyncClient,
    call: Call,
    *,
    read_error: ReadError = error_of,
    empty: bool = False,
    attempts: int = 3,
    deadline: float = 30.0,
    inline: frozenset[str] = frozenset(),
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    clock: Callable[[], float] = time.time,
) -> Answer:
    """Make an idempotent call, whose 2xx answer is a JSON object. Retries blips of seconds here, and nothing longer.

    A blip is no answer at all, or 502, 503, 504 that do not ask for a longer wait; two waits of at most 2 s are made.

    Args:
        empty: whether a 204, which has no body, is as good.
        deadline: seconds for each attempt, however the answer trickles.
        inline: members whose strings may hold whole files; they are passed over (see `providers.wire.sieve`).
        sleep: waits so many seconds.

    Raises:
        ProviderError: TRANSIENT, RATE_LIMITED (with `retry_after` if told), UNREADABLE for a body that is no JSON
            object, and what `read_error` makes of other statuses.
    """

    async def attempt() -> Answer:
        return await _attempt(client, call, read_error, empty, deadline, inline, clock)

    retrying = AsyncRetrying(
        retry=retry_if_exception(_is_blip),
        stop=stop_after_attempt(attempts),
        wait=wait_exponential(multiplier=0.2, max=_LONGEST_WAIT) + wait_random(0, 0.2),
        sleep=sleep,
        reraise=True,
    )
    return await retrying(attempt)


async def _attempt(
    client: httpx.AsyncClient,
    call: Call,
    read_error: ReadError,
    empty: bool,
    deadline: float,
    inline: frozenset[str],
    clock: Callable[[], float],
) -> Answer:
    try:
        request = call.request(client)
    except (httpx.InvalidURL, TypeError, ValueError) as error:
        raise ProviderError(ErrorCode.INVALID_REQUEST, f"nothing to be sent: {type(error).__name__}") from error
    try:
        async with asyncio.timeout(deadline):
            answer = await exchange(client, request, inline=inline)
    except httpx.UnsupportedProtocol as error:
        raise ProviderError(ErrorCode.INVALID_REQUEST, f"not an address: {type(error).__name__}") from error
    except WIRE_ERRORS as error:
        raise ProviderError(ErrorCode.TRANSIENT, f"no answer: {type(error).__name__}") from error
    if not 200 <= answer.status < 300:
        raise read_failure(answer, read_error, clock())
    if not (empty and answer.status == 204) and not isinstance(answer.json_or_none(), dict):
        raise ProviderError(ErrorCode.UNREADABLE, "the answer is not a JSON object", http_status=answer.status)
    return answer


def _is_blip(error: BaseException) -> bool:
    if not isinstance(error, ProviderError) or error.code is not ErrorCode.TRANSIENT:
        return False
    return error.http_status in _BLIPS and (error.retry_after or 0) <= _LONGEST_WAIT
