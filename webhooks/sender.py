"""One attempt to deliver one event, bounded in every way: time, bytes, redirects, cookies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import cast

import httpx

from webhooks.answers import Delivered, Gone, Reason, Retry, SendResult, Verdict, describe, judge, parse_retry_after
from webhooks.failures import classify, explain
from webhooks.signing import sign

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
) -> SendResult:
    """POST `body` once and say how it ended; no retry, no redirect.

    Args:
        client: whoever made it decides on pools, proxies and which addresses may be reached.
        headers: all of them, see `build_headers`; the client's own headers, cookies and credentials are not added.
        timeout: seconds for everything, from the name lookup to the last byte.
        now: Unix seconds; measures the attempt and reads a Retry-After date.
        exchange: handed to the transport as the request extension `exchange`; its attribute `address`, if it has one
            afterwards, is the address that was reached.

    Never raises for what the receiver or the network does. The status decides: once the headers were read the attempt
    has its answer, whatever becomes of the body.
    """
    started = now()
    answer = _Answer(url, now)
    error: Exception | None = None
    try:
        async with asyncio.timeout(timeout):
            await answer.fetch(client, _request(url, headers, body, timeout, exchange))
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as caught:
        error = caught
    address = getattr(exchange, "address", None)
    reason, detail = _told(answer, error)
    return SendResult(
        status=answer.status,
        reason=reason,
        ms=round((now() - started) * 1000),
        response=bytes(answer.body),
        detail=detail,
        retry_after=answer.retry_after,
        address=None if address is None else str(address),
    )


def _told(answer: _Answer, error: Exception | None) -> tuple[Reason, str]:
    if answer.status is None and error is not None:
        reason = classify(error)
        return reason, explain(error, reason)
    return Reason.ANSWERED, answer.detail + ("; its body did not come to an end" if error else "")


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
        self.detail = ""
        self.retry_after: float | None = None
        self.body = bytearray()

    async def fetch(self, client: httpx.AsyncClient, request: httpx.Request) -> None:
        response = await client.send(request, auth=None, stream=True, follow_redirects=False)
        try:
            self._read_head(response)
            async with asyncio.timeout(BODY_SECONDS):
                await self._read_body(response)
        finally:
            await response.aclose()

    def _read_head(self, response: httpx.Response) -> None:
        self.status = response.status_code
        self.detail = describe(self.status, self.url, response.headers.get("location"))
        if not response.is_success:
            self.retry_after = parse_retry_after(response.headers.get("retry-after"), self.now())

    async def _read_body(self, response: httpx.Response) -> None:
        async with aclosing(cast("AsyncGenerator[bytes, None]", response.aiter_raw())) as chunks:
            async for chunk in chunks:
                self.body += chunk[: MAX_RESPONSE - len(self.body)]
                if len(self.body) >= MAX_RESPONSE:
                    return
