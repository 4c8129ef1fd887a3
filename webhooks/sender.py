"""One attempt to deliver one event, bounded in every way: time, bytes, redirects, cookies."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import cast

import httpx

from webhooks.answers import Delivered, Gone, Reason, Retry, SendResult, Verdict, describe, judge, parse_retry_after
from webhooks.failures import classify, explain
from webhooks.signing import sign
from webhooks.wire import Headers, bounded, wire_of

__all__ = ["Delivered", "Gone", "Reason", "Retry", "SendResult", "Verdict", "build_headers", "judge", "send"]

MAX_RESPONSE = 4_096
"""Bytes of the answer's body that are read, as they came: an unpacked answer of 980 bytes can take a gigabyte."""

BODY_SECONDS = 2.0
"""Time for the answer's body once the status is known; the body decides nothing."""

CONNECT_SECONDS = 5.0
"""Time to connect, within the whole deadline."""


def build_headers(
    secrets: Sequence[str], *, event_id: str, timestamp: int, body: bytes, attempt: int
) -> dict[str, str]:
    """Every header of a delivery. `attempt` counts from 1 and only informs; the rest as in `signing.sign`."""
    return {
        "content-type": "application/json",
        "user-agent": "Dailies-Webhooks/1",
        "webhook-attempt": str(attempt),
        **sign(secrets, event_id=event_id, timestamp=timestamp, body=body),
    }


async def send(
    client: httpx.AsyncClient,
    url: str,
    *,
    headers: Mapping[str, str],
    body: bytes,
    timeout: float,
    now: Callable[[], float],
    exchange: object | None = None,
    timer: Callable[[], float] = time.perf_counter,
) -> SendResult:
    """POST `body` and say how it ended; no redirect, and no retry but one.

    Args:
        client: whoever made it decides on pools, proxies and which addresses may be reached.
        headers: all of them, see `build_headers`; the client's own headers, cookies and credentials are not added.
        timeout: seconds for everything, from the name lookup to the last byte.
        now: Unix seconds; reads a Retry-After date.
        exchange: handed to the transport as the request extension `exchange`; what it tells afterwards is in `wire`.
        timer: seconds that only go forward; measures the attempt.

    A receiver may close an idle connection just when we use it. A reused connection (`exchange.reused`) that ends
    without a word (not `exchange.heard`) says nothing about the receiver: the request goes out once more at once, with
    the extension `fresh`, on which the transport opens a new connection.

    Never raises for what the receiver or the network does. The status decides: once the headers were read the attempt
    has its answer, whatever becomes of the body.
    """
    started = timer()
    answer, again = _Answer(url, now), False
    error: Exception | None = None
    sent: Headers = ()
    try:
        request = _request(url, headers, body, timeout, exchange)
        sent = tuple((name.decode("ascii").lower(), value.decode("utf-8")) for name, value in request.headers.raw)
        async with asyncio.timeout(timeout):
            error = await answer.fetch(client, request)
            if error is not None and _proved_dead(answer, error, exchange):
                request.extensions["fresh"] = again = True
                error = await answer.fetch(client, request)
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as caught:
        error = caught
    address = getattr(exchange, "address", None)
    reason, detail = _told(answer, error)
    return SendResult(
        status=answer.status,
        reason=reason,
        ms=round((timer() - started) * 1000),
        response=bytes(answer.body),
        detail=detail + ("; a connection that had gone stale was replaced first" if again else ""),
        retry_after=answer.retry_after,
        address=None if address is None else str(address),
        wire=wire_of(exchange, sent=sent, answered=answer.headers, again=again),
    )


def _proved_dead(answer: _Answer, error: Exception, exchange: object | None) -> bool:
    """Whether a used connection was already gone, so that the receiver has most likely not seen the request."""
    if answer.status is not None or not getattr(exchange, "reused", False) or getattr(exchange, "heard", True):
        return False
    return isinstance(error, (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError))


def _told(answer: _Answer, error: Exception | None) -> tuple[Reason, str]:
    if answer.status is None and error is not None:
        reason = classify(error)
        return reason, explain(error, reason)
    return Reason.ANSWERED, answer.told() + ("; its body did not come to an end" if error else "")


def _request(
    url: str, headers: Mapping[str, str], body: bytes, timeout: float, exchange: object | None
) -> httpx.Request:
    """Built without the client, so that no cookie of one receiver and no default header can come along."""
    limits = httpx.Timeout(timeout, connect=min(CONNECT_SECONDS, timeout * 2 / 3))
    return httpx.Request(
        "POST",
        _parsed(url),
        headers={**headers, "accept": "*/*", "accept-encoding": "identity"},
        content=body,
        extensions={"timeout": limits.as_dict()} | ({} if exchange is None else {"exchange": exchange}),
    )


def _parsed(url: str) -> httpx.URL:
    try:
        parsed = httpx.URL(url)
        usable = parsed.scheme in ("http", "https") and parsed.host
    except ValueError as error:  # lone surrogates, and names that IDNA refuses
        raise httpx.InvalidURL(str(error)) from error
    if not usable:
        raise httpx.InvalidURL("it needs http:// or https://, and a host")
    return parsed


class _Answer:
    """What has been read so far; stays readable when the rest fails."""

    def __init__(self, url: str, now: Callable[[], float]) -> None:
        self.url, self.now = url, now
        self.status: int | None = None
        self.location: str | None = None
        self.retry_after: float | None = None
        self.headers: Headers = ()
        self.body = bytearray()

    async def fetch(self, client: httpx.AsyncClient, request: httpx.Request) -> httpx.HTTPError | None:
        """Send once; what the transport has to say against it."""
        try:
            response = await client.send(request, auth=None, stream=True, follow_redirects=False)
        except httpx.HTTPError as error:
            return error
        try:
            self._read_head(response)
            async with asyncio.timeout(BODY_SECONDS):
                await self._read_body(response)
        finally:
            await response.aclose()
        return None

    def told(self) -> str:
        """One sentence about what was answered."""
        assert self.status is not None
        return describe(self.status, self.url, self.location, self.headers, bytes(self.body))

    def _read_head(self, response: httpx.Response) -> None:
        self.status = response.status_code
        self.headers = bounded(response.headers.raw)
        self.location = response.headers.get("location")
        if not response.is_success:
            self.retry_after = parse_retry_after(response.headers.get("retry-after"), self.now())

    async def _read_body(self, response: httpx.Response) -> None:
        async with aclosing(cast("AsyncGenerator[bytes, None]", response.aiter_raw())) as chunks:
            async for chunk in chunks:
                self.body += chunk[: MAX_RESPONSE - len(self.body)]
                if len(self.body) >= MAX_RESPONSE:
                    return
