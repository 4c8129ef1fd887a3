"""httpx's transport over aiohttp's connections: the same API at a quarter of the cost, with exact errors.

`httpx.ConnectError`, `httpx.ConnectTimeout` and `httpx.PoolTimeout` are raised only if no byte of the request was sent;
whatever happens on an established connection is `ReadError`, `ReadTimeout`, `WriteError`, `WriteTimeout` or
`RemoteProtocolError`. `LocalProtocolError` says that the request itself is wrong. No request is repeated, no redirect
followed, no cookie kept, nothing decompressed: `aiter_raw` gives the bytes of the wire (`aread` and `aiter_bytes` are
httpx's and do decode a `content-encoding`, however large the result).
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from functools import partial

import aiohttp
import httpx
from yarl import URL

from pipeline.outbound.call import CALL, Call
from pipeline.outbound.connector import Connector
from pipeline.outbound.dns import Resolve
from pipeline.outbound.exchange import Exchange
from pipeline.outbound.guard import BadUrl, Guard
from pipeline.outbound.messages import Body, Request, Response, reading_failed
from pipeline.outbound.routes import Routes
from pipeline.outbound.slots import Slots
from pipeline.outbound.stream import READ_BUFFER, BodyStream
from pipeline.outbound.tunnel import Proxy

MAX_FIELD = 32_768
"""Bytes of one header field of an answer; longer ones are a RemoteProtocolError."""
MAX_FIELDS = 256
"""Header fields of an answer."""
_NOT_OURS = frozenset({"User-Agent", "Accept", "Accept-Encoding", "Content-Type"})


class Transport(httpx.AsyncBaseTransport):
    """Connections of one kind.

    Args:
        tls: makes the context for https, called once and only when the first request comes.
        resolve: names to addresses.
        per_host: requests under way to one scheme, host and port; the next wait (`pool` timeout).
        keep_alive: seconds that an idle connection may be used again; None opens a new one for every request.
        guard: for URLs that others chose; None for those of the operator.
        proxy: what public hosts are reached through.

    A request with the extension `{"fresh": True}` gets a connection that carried nothing before.
    """

    def __init__(
        self,
        *,
        tls: Callable[[], ssl.SSLContext],
        resolve: Resolve,
        per_host: int,
        keep_alive: float | None,
        guard: Guard | None = None,
        proxy: Proxy | None = None,
    ) -> None:
        self._connector = partial(_connector, tls, Routes(resolve, guard, proxy), keep_alive)
        self._fresh = keep_alive is None
        self._guard = guard
        self._slots = Slots(per_host)
        self._session: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send once. The answer's body is a stream that has to be closed (httpx's client does)."""
        url = self._target(request.url)
        call = _call(request)
        host = f"{url.scheme}://{url.raw_host}:{url.port}"
        await self._slots.take(host, request.extensions.get("timeout", {}).get("pool"))
        try:
            answer = await self._send(call, url, request)
        except BaseException:
            call.abort()
            self._slots.give(host)
            raise
        return httpx.Response(
            answer.status,
            headers=list(answer.raw_headers),
            stream=BodyStream(answer, call, partial(self._slots.give, host)),
            extensions={"http_version": b"HTTP/1.1", "reason_phrase": (answer.reason or "").encode("ascii", "ignore")},
        )

    async def aclose(self) -> None:
        """Close every connection."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _target(self, url: httpx.URL) -> URL:
        if self._guard is not None:
            self._guard.check_url(url)
        if url.scheme not in {"http", "https"} or not url.host:
            raise BadUrl("the URL needs http:// or https:// and a host")
        try:
            # Rebuilt from the parts that httpx sends, byte for byte: a presigned URL is signed as it is spelled.
            target = URL(f"{url.scheme}://{url.netloc.decode('ascii')}{url.raw_path.decode('ascii')}", encoded=True)
            _ = target.port
        except ValueError as error:
            raise BadUrl(f"the URL cannot be used: {error}") from None
        return target

    async def _send(self, call: Call, url: URL, request: httpx.Request) -> aiohttp.ClientResponse:
        token = CALL.set(call)
        try:
            return await self._opened().request(
                request.method,
                url,
                headers=_headers(request, keep_connection=not self._fresh),
                data=_body(request, call),
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=None, sock_read=request.extensions.get("timeout", {}).get("read")),
            )
        except (httpx.TransportError, httpx.InvalidURL):
            raise
        except Exception as error:
            if error is call.write_failure:
                raise
            if call.connection is None:
                raise httpx.LocalProtocolError(str(error) or repr(error)) from error
            raise reading_failed(error) from error
        finally:
            CALL.reset(token)

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=self._connector(),
                request_class=Request,
                response_class=Response,
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=_NOT_OURS,
                auto_decompress=False,
                trust_env=False,
                read_bufsize=READ_BUFFER,
                max_field_size=MAX_FIELD,
                max_headers=MAX_FIELDS,
            )
        return self._session


def _connector(tls: Callable[[], ssl.SSLContext], routes: Routes, keep_alive: float | None) -> Connector:
    return Connector(tls=tls(), routes=routes, keep_alive=keep_alive)


def _call(request: httpx.Request) -> Call:
    timeout = request.extensions.get("timeout", {})
    exchange = request.extensions.get("exchange")
    if not isinstance(exchange, Exchange):
        exchange = Exchange()
    exchange.restart()
    return Call(
        exchange=exchange,
        host=request.url.host,
        encrypted=request.url.scheme == "https",
        connect_timeout=timeout.get("connect"),
        write_timeout=timeout.get("write"),
        fresh=bool(request.extensions.get("fresh")),
    )


def _body(request: httpx.Request, call: Call) -> Body | None:
    try:
        content: bytes | httpx.AsyncByteStream = request.content
    except httpx.RequestNotRead:
        if not isinstance(request.stream, httpx.AsyncByteStream):
            raise httpx.LocalProtocolError("a body must be bytes or an async iterator") from None
        content = request.stream
    return Body(call, content) if content else None


def _headers(request: httpx.Request, *, keep_connection: bool) -> list[tuple[str, str]]:
    dropped = {b"transfer-encoding"} if keep_connection else {b"transfer-encoding", b"connection"}
    try:
        return [(k.decode("ascii"), v.decode("utf-8")) for k, v in request.headers.raw if k.lower() not in dropped]
    except UnicodeDecodeError as error:
        raise httpx.LocalProtocolError("a header is not UTF-8") from error
