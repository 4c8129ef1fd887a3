"""The one possibly-paid call: sent once, and whatever happens becomes Accepted, Rejected or Unknown."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx

from providers.base import Accepted, ErrorCode, Operation, ProviderError, Rejected, SubmitResult, Unknown
from providers.wire.errors import ReadError, error_of, read_failure
from providers.wire.exchange import Answer, Call, exchange

ReadOperation = Callable[[int, Mapping[str, str], Any], Operation]

UNSURE = frozenset({408, 409, 424, 425, 460, 499})
"""Client-error statuses that are also said after the work was taken: timeouts, conflicts with ourselves, what the work
depended on, proxies."""
_UNDECIDED = frozenset({ErrorCode.TRANSIENT, ErrorCode.TIMEOUT, ErrorCode.UNREADABLE})
"""Readings that refuse nothing, whatever number they came with."""

_NOTHING_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)


async def submit_once(
    client: httpx.AsyncClient,
    call: Call,
    *,
    read: ReadOperation,
    read_error: ReadError = error_of,
    not_taken: frozenset[int] = frozenset(),
    deadline: float = 3600.0,
    clock: Callable[[], float] = time.time,
) -> SubmitResult:
    """Exactly one request: no retry, no redirect. Never raises for what the wire did (cancellation passes through).

    Args:
        client: its ConnectError, ConnectTimeout and PoolTimeout must mean that no byte of the request was written.
        read: (status, headers, body) of a 2xx -> Operation; anything it raises means that the answer was unreadable.
        read_error: (status, headers, body or None) of a failure -> ProviderError.
        not_taken: statuses beside the sure 4xx that the adapter knows, from a dated source, as "surely not taken".
        deadline: seconds for the whole exchange, however the answer trickles; the caller's own bound comes first.
        clock: Unix seconds, for dates in Retry-After.
    """
    try:
        request = call.request(client)
    except (httpx.InvalidURL, TypeError, ValueError) as error:
        code = ErrorCode.TRANSIENT if isinstance(error, httpx.InvalidURL) else ErrorCode.INVALID_REQUEST
        return Rejected(ProviderError(code, f"nothing was sent: {type(error).__name__}", billed=False))
    try:
        async with asyncio.timeout(deadline):
            answer = await exchange(client, request)
    except _NOTHING_SENT as error:
        return Rejected(ProviderError(ErrorCode.TRANSIENT, f"nothing was sent: {type(error).__name__}", billed=False))
    except Exception as error:  # whatever a transport lets through after sending must not look like "not sent"
        return Unknown(ProviderError(ErrorCode.TRANSIENT, f"no answer after sending: {type(error).__name__}"))
    return judge(answer, read=read, read_error=read_error, not_taken=not_taken, now=clock())


def judge(
    answer: Answer, *, read: ReadOperation, read_error: ReadError, not_taken: frozenset[int], now: float
) -> SubmitResult:
    """What an answer to a submit means. Pure; `now` in Unix seconds.

    A 4xx is a refusal unless its number (UNSURE) or its words (a timeout, a breakdown) may come from behind the point
    where the work is taken.
    """
    status = answer.status
    if 200 <= status < 300:
        return _accepted(answer, read)
    if status < 400 and status not in not_taken:
        message = f"answered {status} to {_host(answer)}, which is not followed"
        return Unknown(ProviderError(ErrorCode.UNREADABLE, message, http_status=status))
    error = read_failure(answer, read_error, now)
    if status in not_taken or (400 <= status < 500 and status not in UNSURE and not _undecided(error)):
        error.billed = bool(error.billed)
        return Rejected(error)
    error.billed = None
    return Unknown(error)


def _undecided(error: ProviderError) -> bool:
    """Whether a 4xx says that something broke, and not what was wrong: its words then come from behind the front door,
    where the work may have been taken. That too many ask is said before."""
    return error.code in _UNDECIDED or (error.retryable and error.code is not ErrorCode.RATE_LIMITED)


def _accepted(answer: Answer, read: ReadOperation) -> SubmitResult:
    try:
        return Accepted(read(answer.status, answer.headers, answer.json()))
    except Exception as error:  # an adapter's reader may trip over anything, and the work may have been taken
        message = f"answered {answer.status} without a readable operation: {type(error).__name__}"
        return Unknown(ProviderError(ErrorCode.UNREADABLE, message, http_status=answer.status))


def _host(answer: Answer) -> str:
    try:
        return urlsplit(answer.headers.get("location", "")).netloc.rpartition("@")[2] or "the same host"
    except ValueError:
        return "an unreadable address"
