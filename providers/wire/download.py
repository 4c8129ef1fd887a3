"""Fetching a produced file: redirects by hand, the provider's key for the provider's own origin only."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

import httpx

from providers.base import Download, ErrorCode, ProviderError
from providers.wire.errors import retry_after
from providers.wire.exchange import WIRE_ERRORS

_GONE = frozenset({403, 404, 410})
_PORTS = {"http": 80, "https": 443}


def download(
    client: httpx.AsyncClient,
    url: str,
    *,
    headers_for_origin: Mapping[str, Mapping[str, str]] | None = None,
    max_redirects: int = 3,
    hides_missing: bool = False,
    clock: Callable[[], float] = time.time,
) -> AbstractAsyncContextManager[Download]:
    """Open a file's bytes as they are on the wire.

    Args:
        headers_for_origin: credentials by origin (`https://host[:port]`), sent when scheme, host and port of the first
            URL equal it; never after a redirect.
        max_redirects: from https only to https.
        hides_missing: whether this host says 403 to a good key, too, when the file is not there.

    Raises (on entering, and from `chunks()`):
        ProviderError: NOT_FOUND for 403, 404, 410: the link has expired, poll again. AUTH for 401 and 403 where our key
            was sent. RATE_LIMITED for 429. TRANSIENT for all else, also for a body that ends before its announced
            length.
    """
    return _open(client, url, headers_for_origin or {}, max_redirects, hides_missing, clock)


@contextlib.asynccontextmanager
async def _open(
    client: httpx.AsyncClient,
    url: str,
    credentials: Mapping[str, Mapping[str, str]],
    max_redirects: int,
    hides_missing: bool,
    clock: Callable[[], float],
) -> AsyncIterator[Download]:
    response, with_key = await _follow(client, url, credentials, max_redirects)
    try:
        if response.status_code != 200:
            raise _refused(response, clock(), with_key=with_key, hides_missing=hides_missing)
        yield _Body.of(response)
    finally:
        with contextlib.suppress(httpx.HTTPError):
            await response.aclose()


async def _follow(
    client: httpx.AsyncClient, url: str, credentials: Mapping[str, Mapping[str, str]], max_redirects: int
) -> tuple[httpx.Response, bool]:
    """The first answer that is no redirect, and whether credentials were sent for it."""
    try:
        target = httpx.URL(url)
        headers = headers_for(target, credentials)
        for _ in range(max_redirects + 1):
            response = await _get(client, target, headers)
            location = response.headers.get("location")
            if not (response.is_redirect and location):
                return response, bool(headers)
            await response.aclose()
            target, headers = next_hop(target, location), {}
    except WIRE_ERRORS as error:
        raise ProviderError(ErrorCode.TRANSIENT, f"the file could not be opened: {type(error).__name__}") from error
    raise ProviderError(ErrorCode.TRANSIENT, f"the file is behind more than {max_redirects} redirects")


async def _get(client: httpx.AsyncClient, target: httpx.URL, headers: Mapping[str, str]) -> httpx.Response:
    request = client.build_request("GET", target, headers={"accept-encoding": "identity", **headers})
    return await client.send(request, stream=True, follow_redirects=False)


def next_hop(target: httpx.URL, location: str) -> httpx.URL:
    """Where a redirect leads. Raises httpx.InvalidURL, and ProviderError when it would leave https."""
    following = target.join(location)
    if target.scheme == "https" and following.scheme != "https":
        raise ProviderError(ErrorCode.TRANSIENT, "the file's redirect leaves https")
    return following


def headers_for(target: httpx.URL, credentials: Mapping[str, Mapping[str, str]]) -> Mapping[str, str]:
    """The credentials that this URL may see: those whose origin has its scheme, host and port."""
    matching = (headers for origin, headers in credentials.items() if _origin(httpx.URL(origin)) == _origin(target))
    return next(matching, {})


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port or _PORTS.get(url.scheme)


def _refused(response: httpx.Response, now: float, *, with_key: bool, hides_missing: bool) -> ProviderError:
    status = response.status_code
    if with_key and (status == 401 or (status == 403 and not hides_missing)):
        return ProviderError(ErrorCode.AUTH, f"the file's host answered {status} to our key", http_status=status)
    if status in _GONE:
        return ProviderError(ErrorCode.NOT_FOUND, "the file's link has expired", http_status=status)
    code = ErrorCode.RATE_LIMITED if status == 429 else ErrorCode.TRANSIENT
    wait = retry_after(response.headers, now)
    return ProviderError(code, f"the file's host answered {status}", http_status=status, retry_after=wait)


@dataclass
class _Body:
    length: int | None
    content_type: str | None
    _response: httpx.Response

    @classmethod
    def of(cls, response: httpx.Response) -> _Body:
        if response.headers.get("content-encoding", "identity").lower() not in {"", "identity"}:
            raise ProviderError(ErrorCode.TRANSIENT, "the file came packed, which was not asked for")
        length = response.headers.get("content-length", "")
        return cls(int(length) if length.isdecimal() else None, response.headers.get("content-type"), response)

    async def chunks(self) -> AsyncIterator[bytes]:
        received = 0
        try:
            async for chunk in self._response.aiter_raw():
                received += len(chunk)
                yield chunk
        except (httpx.HTTPError, OSError) as error:
            raise ProviderError(ErrorCode.TRANSIENT, f"the file was cut: {type(error).__name__}") from error
        if self.length is not None and received != self.length:
            raise ProviderError(ErrorCode.TRANSIENT, f"the file ended after {received} of {self.length} bytes")
