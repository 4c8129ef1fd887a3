"""One attempt against receivers of every bad kind, over real sockets: the result is exact and the time is bounded."""

import asyncio
import gzip
import itertools
import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import trustme

from webhooks.sender import Delivered, Gone, Reason, Retry, SendResult, build_headers, judge, send
from webhooks.signing import verify

pytestmark = pytest.mark.anyio

TIMEOUT = 0.3
SECRET = "whsec_" + "QUJD" * 8
BODY = b'{"type":"generation.completed"}'


@dataclass
class Wire:
    """One accepted connection, as the bad receiver sees it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def request(self) -> bytes:
        head = await self.reader.readuntil(b"\r\n\r\n")
        return head + await self.reader.readexactly(len(BODY))

    async def say(self, *parts: bytes, every: float = 0.0) -> None:
        for part in parts:
            self.writer.write(part)
            await self.writer.drain()
            if every:
                await asyncio.sleep(every)

    async def wait(self) -> None:
        await self.reader.read()

    def reset(self) -> None:
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Talk = Callable[[Wire], Awaitable[None]]


@dataclass
class Server:
    port: int
    requests: list[bytes] = field(default_factory=list)

    def url(self, scheme: str = "http", host: str = "127.0.0.1", path: str = "/api/webhooks/worker") -> str:
        return f"{scheme}://{host}:{self.port}{path}"


@asynccontextmanager
async def receiver(talk: Talk, *, read: bool = True, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        wire = Wire(reader, writer)
        try:
            if read:
                served.requests.append(await wire.request())
            await talk(wire)
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    served = Server(server.sockets[0].getsockname()[1])
    try:
        yield served
    finally:
        server.close()
        await server.wait_closed()
        await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 2)


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False) as client:
        yield client


async def stood_still(seconds: list[float]) -> None:
    """Add up how long this process was not given the processor, in seconds; what it worked itself is no excuse."""
    while True:
        began, worked = time.monotonic(), time.process_time()
        await asyncio.sleep(0.01)
        seconds[0] += max(0.0, time.monotonic() - began - (time.process_time() - worked) - 0.02)


async def attempt(client: httpx.AsyncClient, url: str, timeout: float = TIMEOUT, **more: Any) -> SendResult:
    """Send once and check what every attempt promises: it ends in time, and no more than 4 KiB are kept."""
    headers = build_headers([SECRET], event_id="evt_1", timestamp=int(time.time()), body=BODY, attempt=2)
    lost = [0.0]
    watch = asyncio.create_task(stood_still(lost))
    started = time.monotonic()
    result = await send(client, url, headers=headers, body=BODY, timeout=timeout, now=time.time, **more)
    await asyncio.sleep(0.01)
    watch.cancel()
    assert time.monotonic() - started - lost[0] < timeout + 0.3
    assert len(result.response) <= 4096
    assert 0 < len(result.detail) < 500
    return result


def answers(*parts: bytes, every: float = 0.0) -> Talk:
    return lambda wire: wire.say(*parts, every=every)


def then(*parts: bytes, end: Callable[[Wire], Any]) -> Talk:
    async def talk(wire: Wire) -> None:
        await wire.say(*parts)
        if (waiting := end(wire)) is not None:
            await waiting

    return talk


def drip(data: bytes) -> list[bytes]:
    return [bytes([byte]) for byte in data]


def flood(start: bytes, chunk: bytes, sent: list[int]) -> Talk:
    async def talk(wire: Wire) -> None:
        await wire.say(start)
        for _ in range(300_000_000 // len(chunk)):
            await wire.say(chunk)
            sent.append(len(chunk))

    return talk


async def silence(wire: Wire) -> None:
    await wire.wait()


OK = b"HTTP/1.1 200 OK\r\n"
EMPTY = b"Content-Length: 0\r\n\r\n"
BOMB = gzip.compress(bytes(1 << 20))

DELIVERED: dict[str, tuple[Talk, int]] = {
    "200": (answers(OK + EMPTY), 200),
    "204": (answers(b"HTTP/1.1 204 No Content\r\n\r\n"), 204),
    "299": (answers(b"HTTP/1.1 299 Odd\r\n" + EMPTY), 299),
    "HTTP/1.0 without length": (answers(b"HTTP/1.0 200 OK\r\n\r\nfine"), 200),
    "status without words": (answers(b"HTTP/1.1 200\r\n" + EMPTY), 200),
    "a few 103 first": (answers(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 3 + OK + EMPTY), 200),
    "body byte by byte": (answers(OK + b"Content-Length: 90\r\n\r\n", *drip(b"x" * 90), every=0.05), 200),
    "no body ever": (then(OK + b"Content-Length: 5\r\n\r\n", end=Wire.wait), 200),
    "short body": (answers(OK + b"Content-Length: 500\r\n\r\nshort"), 200),
    "reset after 200": (then(OK + b"Content-Length: 500\r\n\r\nx", end=Wire.reset), 200),
    "broken chunks": (answers(OK + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\nxx"), 200),
    "broken gzip": (answers(OK + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope"), 200),
    "unknown charset": (
        answers(OK + b"Content-Type: text/plain; charset=rot13\r\nContent-Length: 2\r\n\r\n\xff\xfe"),
        200,
    ),
}


@pytest.mark.parametrize("kind", DELIVERED)
async def test_a_2xx_is_delivered_whatever_the_body_does(client: httpx.AsyncClient, kind: str) -> None:
    talk, status = DELIVERED[kind]
    async with receiver(talk) as server:
        result = await attempt(client, server.url())
    assert (result.status, result.reason) == (status, Reason.ANSWERED)
    assert judge(result) == Delivered()


UNANSWERED: dict[str, tuple[Talk, Reason]] = {
    "silence": (silence, Reason.TIMEOUT),
    "headers byte by byte": (answers(*drip(OK + b"X-A: " + b"a" * 90), every=0.05), Reason.TIMEOUT),
    "endless 103": (answers(*[b"HTTP/1.1 103 Early Hints\r\n\r\n"] * 90, every=0.05), Reason.TIMEOUT),
    "headers cut": (answers(OK + b"X-A: "), Reason.RESET),
    "reset in headers": (then(OK + b"X-A: ", end=Wire.reset), Reason.RESET),
    "reset before answer": (then(end=Wire.reset), Reason.RESET),
    "close without answer": (answers(), Reason.RESET),
    "garbage": (answers(b"\x00\xffgarbage\r\n\r\n"), Reason.BAD_HTTP),
    "HTTP/0.9": (answers(b"<html>hello</html>\r\n\r\n"), Reason.BAD_HTTP),
    "two lengths": (answers(OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nx"), Reason.BAD_HTTP),
    "300 kB header": (answers(OK + b"X-A: " + b"a" * 300_000 + b"\r\n" + EMPTY), Reason.BAD_HTTP),
    "status 42": (answers(b"HTTP/1.1 42 Odd\r\n" + EMPTY), Reason.BAD_HTTP),
}


@pytest.mark.parametrize("kind", UNANSWERED)
async def test_no_readable_answer_is_retried_with_its_reason(client: httpx.AsyncClient, kind: str) -> None:
    talk, reason = UNANSWERED[kind]
    async with receiver(talk) as server:
        result = await attempt(client, server.url())
    assert (result.status, result.reason) == (None, reason)
    assert judge(result) == Retry()


@pytest.mark.parametrize("status", [304, 400, 401, 403, 404, 405, 413, 422, 500, 502, 504, 999])
async def test_other_statuses_are_retried(client: httpx.AsyncClient, status: int) -> None:
    async with receiver(answers(b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % status)) as server:
        result = await attempt(client, server.url())
    assert (result.status, judge(result)) == (status, Retry())
    assert result.detail.startswith(f"{status}: ")


async def test_410_says_that_the_endpoint_is_gone(client: httpx.AsyncClient) -> None:
    async with receiver(answers(b"HTTP/1.1 410 Gone\r\n" + EMPTY)) as server:
        assert judge(await attempt(client, server.url())) == Gone()


@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_is_read_from_failures_only(client: httpx.AsyncClient, status: int) -> None:
    async with receiver(answers(b"HTTP/1.1 %d No\r\nRetry-After: 90\r\n" % status + EMPTY)) as server:
        assert judge(await attempt(client, server.url())) == Retry(90.0)
    async with receiver(answers(OK + b"Retry-After: 90\r\n" + EMPTY)) as server:
        assert (await attempt(client, server.url())).retry_after is None


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_named_and_not_followed(client: httpx.AsyncClient, status: int) -> None:
    head = b"HTTP/1.1 %d Moved\r\nLocation: /api/webhooks/worker/\r\n" % status
    async with receiver(answers(head + EMPTY)) as server:
        result = await attempt(client, server.url())
        assert len(server.requests) == 1
    assert (result.status, judge(result)) == (status, Retry())
    assert f"{server.url()}/ (only the trailing slash differs)" in result.detail
    assert result.detail.endswith("register that URL")


@pytest.mark.parametrize("location", [b"http://[", b"http://a:99999999/", b"\xff\xfe", b"///", b"javascript:alert(1)"])
async def test_a_hostile_redirect_is_only_a_failure(client: httpx.AsyncClient, location: bytes) -> None:
    async with receiver(answers(b"HTTP/1.1 302 Found\r\nLocation: " + location + b"\r\n" + EMPTY)) as server:
        assert judge(await attempt(client, server.url())) == Retry()


async def test_a_300_mb_answer_is_read_to_4_kib(client: httpx.AsyncClient) -> None:
    sent: list[int] = []
    async with receiver(flood(OK + b"Content-Length: 300000000\r\n\r\n", b"x" * 65536, sent)) as server:
        result = await attempt(client, server.url())
    assert result.response == b"x" * 4096
    assert sum(sent) < 20_000_000


async def test_a_gzip_bomb_is_never_unpacked(client: httpx.AsyncClient) -> None:
    sent: list[int] = []
    head = OK + b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with receiver(flood(head, b"%x\r\n%b\r\n" % (len(BOMB), BOMB), sent)) as server:
        result = await attempt(client, server.url())
    assert judge(result) == Delivered()
    assert result.response.startswith(BOMB[:1000])
    assert sum(sent) < 20_000_000


async def test_the_request_is_exactly_ours(client: httpx.AsyncClient) -> None:
    client.headers["x-default"] = "leaks"
    client.cookies.set("session", "leaks")
    async with receiver(answers(OK + EMPTY)) as server:
        await attempt(client, server.url())
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines[1:] if "webhook-signature" not in line)
    assert lines[0] == "POST /api/webhooks/worker HTTP/1.1"
    assert body == BODY
    assert headers.keys() == {
        "host", "content-length", "content-type", "user-agent", "accept", "accept-encoding",
        "webhook-id", "webhook-timestamp", "webhook-attempt",
    }  # fmt: skip
    assert (headers["accept-encoding"], headers["webhook-attempt"]) == ("identity", "2")
    signed = {name: value for name, _, value in (line.partition(": ") for line in lines[1:])}
    verify([SECRET], signed, body, now=time.time())


async def test_cookies_are_not_sent_back(client: httpx.AsyncClient) -> None:
    async with receiver(answers(OK + b"Set-Cookie: a=b\r\n" + EMPTY)) as server:
        await attempt(client, server.url())
        await attempt(client, server.url())
    assert b"cookie" not in server.requests[1].lower()


async def test_a_closed_port_is_refused(client: httpx.AsyncClient) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    result = await attempt(client, f"http://127.0.0.1:{port}/")
    assert (result.reason, judge(result)) == (Reason.REFUSED, Retry())


async def test_an_unknown_name_is_a_dns_failure(client: httpx.AsyncClient) -> None:
    result = await attempt(client, "http://no-such-host.invalid/", timeout=2.0)
    assert result.reason is Reason.DNS


BAD_URLS = ["", "/x", "app.example", "ftp://app.example/", "http://", "http://a:b:c/", "http://[::1", "http://a\x00b/"]
BAD_URLS += ["http://\ud800.example/", "http://app.example/\ud800", "http://xn--/", "http://" + "a" * 70_000]


@pytest.mark.parametrize("url", BAD_URLS)
async def test_an_unusable_url_is_told(client: httpx.AsyncClient, url: str) -> None:
    assert (await attempt(client, url)).reason is Reason.BAD_URL


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def certified(authority: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


@pytest.fixture
async def trusting(authority: trustme.CA) -> AsyncIterator[httpx.AsyncClient]:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    async with httpx.AsyncClient(trust_env=False, verify=context) as client:
        yield client


async def test_tls_delivers(trusting: httpx.AsyncClient, authority: trustme.CA) -> None:
    async with receiver(answers(OK + EMPTY), tls=certified(authority, "127.0.0.1")) as server:
        assert judge(await attempt(trusting, server.url("https"), timeout=1.0)) == Delivered()


async def test_a_reset_inside_tls_is_a_reset(trusting: httpx.AsyncClient, authority: trustme.CA) -> None:
    for talk in (then(end=Wire.reset), answers()):
        async with receiver(talk, tls=certified(authority, "127.0.0.1")) as server:
            assert (await attempt(trusting, server.url("https"), timeout=1.0)).reason is Reason.RESET


async def test_tls_silence_ends_in_time(trusting: httpx.AsyncClient, authority: trustme.CA) -> None:
    async with receiver(silence, tls=certified(authority, "127.0.0.1")) as server:
        assert (await attempt(trusting, server.url("https"))).reason is Reason.TIMEOUT


async def test_a_certificate_for_another_name_is_refused(trusting: httpx.AsyncClient, authority: trustme.CA) -> None:
    async with receiver(answers(OK + EMPTY), tls=certified(authority, "other.example")) as server:
        result = await attempt(trusting, server.url("https"), timeout=1.0)
        assert not server.requests
    assert result.reason is Reason.TLS
    assert "certificate" in result.detail


async def test_an_unknown_authority_is_refused(client: httpx.AsyncClient, authority: trustme.CA) -> None:
    async with receiver(answers(OK + EMPTY), tls=certified(authority, "127.0.0.1")) as server:
        assert (await attempt(client, server.url("https"), timeout=1.0)).reason is Reason.TLS


async def test_a_stalled_handshake_is_a_connect_timeout(client: httpx.AsyncClient) -> None:
    async with receiver(silence, read=False) as server:
        assert (await attempt(client, server.url("https"))).reason is Reason.CONNECT_TIMEOUT


async def test_https_to_a_plain_port_says_so(client: httpx.AsyncClient) -> None:
    async with receiver(answers(b"HTTP/1.1 400 Bad Request\r\n" + EMPTY), read=False) as server:
        result = await attempt(client, server.url("https"))
    assert result.reason is Reason.TLS
    assert "plain HTTP" in result.detail


async def test_http_to_a_tls_port_says_so(client: httpx.AsyncClient) -> None:
    async with receiver(answers(b"\x15\x03\x01\x00\x02\x02\x16")) as server:
        result = await attempt(client, server.url())
    assert result.reason is Reason.BAD_HTTP
    assert "https://" in result.detail


@dataclass
class Exchange:
    address: str | None = None


class TellingTransport(httpx.AsyncHTTPTransport):
    """A transport that fills the exchange it is handed, as the one that ships does."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        request.extensions["exchange"].address = "127.0.0.1"
        return await super().handle_async_request(request)


async def test_the_address_comes_from_the_exchange() -> None:
    async with (
        httpx.AsyncClient(transport=TellingTransport()) as client,
        receiver(answers(OK + EMPTY)) as server,
    ):
        assert (await attempt(client, server.url(), exchange=Exchange())).address == "127.0.0.1"


async def test_time_is_measured_by_the_timer_given_whatever_the_clock_does(client: httpx.AsyncClient) -> None:
    ticks, back = itertools.count(0.0, 0.25), itertools.count(1_763_800_000.0, -60.0)
    async with receiver(answers(OK + EMPTY)) as server:
        result = await send(
            client, server.url(), headers={}, body=BODY, timeout=1, now=lambda: next(back), timer=lambda: next(ticks)
        )
    assert result.ms == 250


async def test_a_cancelled_attempt_is_cancelled(client: httpx.AsyncClient) -> None:
    reached = asyncio.Event()

    async def stall(wire: Wire) -> None:
        reached.set()
        await wire.wait()

    async with receiver(stall) as server:
        task = asyncio.create_task(attempt(client, server.url(), timeout=30))
        await asyncio.wait_for(reached.wait(), 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
