"""What a failure is called decides whether a paid request is sent twice: each one, over real sockets."""

from __future__ import annotations

import asyncio
import datetime
import random
from collections.abc import AsyncIterator

import httpx
import pytest
import trustme

from pipeline.outbound import Exchange
from tests.pipeline.outbound_server import (
    OK,
    Act,
    Peer,
    certificate,
    client,
    closed_port,
    names,
    say,
    say_and_close,
    say_and_reset,
    serve,
)

pytestmark = pytest.mark.anyio

NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
PAYLOAD = b'{"prompt":"a fox"}'


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """The service runs on uvloop where there is one; its sockets fail in other words than asyncio's."""
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


async def failing_post(
    http: httpx.AsyncClient, url: str, *, method: str = "POST", timeout: httpx.Timeout | float = 5.0, **options: object
) -> tuple[httpx.TransportError, Exchange]:
    """Send, expect one of httpx's transport errors, and check what must hold for every one of them."""
    record = Exchange()
    with pytest.raises(httpx.TransportError) as caught:
        await http.request(method, url, timeout=timeout, extensions={"exchange": record}, **options)  # type: ignore[arg-type]
    assert isinstance(caught.value, NOT_SENT) == (not record.connected)
    assert record.connected or not record.written
    assert str(caught.value)
    return caught.value, record


async def slowly(peer: Peer) -> None:
    await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while not peer.writer.is_closing():
        await peer.send(b"x")
        try:
            async with asyncio.timeout(0.02):
                await peer.reader.read(1)
        except TimeoutError:
            continue
        return


async def cut_in_the_head(peer: Peer) -> None:
    await peer.send(b"HTTP/1.1 200 OK\r\nContent-Le")
    peer.writer.close()


async def hang_up(peer: Peer) -> None:
    peer.writer.close()


async def reset(peer: Peer) -> None:
    peer.reset()


AFTER_SENDING: dict[str, tuple[Act, tuple[type[httpx.TransportError], ...]]] = {
    "never answers": (Peer.silence, (httpx.ReadTimeout,)),
    "closes without an answer": (hang_up, (httpx.RemoteProtocolError,)),
    "resets without an answer": (reset, (httpx.ReadError,)),
    "closes in the head": (cut_in_the_head, (httpx.RemoteProtocolError,)),
    "stalls in the head": (say(b"HTTP/1.1 200 OK\r\n"), (httpx.ReadTimeout,)),
    "answers garbage": (say_and_close(b"\x16\x03\x01 not http at all\r\n\r\n"), (httpx.RemoteProtocolError,)),
    "answers in HTTP/0.9": (say_and_close(b"<html>hello</html>"), (httpx.RemoteProtocolError,)),
    "has a status below 100": (say_and_close(b"HTTP/1.1 42 What\r\n\r\n"), (httpx.RemoteProtocolError,)),
    "has two lengths": (
        say_and_close(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nok"),
        (httpx.RemoteProtocolError,),
    ),
    "switches protocols": (
        say(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
        (httpx.RemoteProtocolError,),
    ),
    "has a field of 300 kB": (
        say_and_close(b"HTTP/1.1 200 OK\r\nX-Big: " + b"x" * 300_000 + b"\r\n\r\n"),
        (httpx.RemoteProtocolError,),
    ),
    "has 5,000 fields": (
        say_and_close(b"HTTP/1.1 200 OK\r\n" + b"X-Many: y\r\n" * 5_000 + b"\r\n"),
        (httpx.RemoteProtocolError,),
    ),
    "ends the body early": (
        say_and_close(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfour"),
        (httpx.RemoteProtocolError,),
    ),
    "ends a chunked body early": (
        say_and_close(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfour\r\n"),
        (httpx.RemoteProtocolError,),
    ),
    "sends a broken chunk": (
        say_and_close(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nfour\r\n"),
        (httpx.RemoteProtocolError,),
    ),
    "resets in the body": (
        say_and_reset(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfour"),
        (httpx.RemoteProtocolError, httpx.ReadError),
    ),
    "stalls in the body": (say(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfour"), (httpx.ReadTimeout,)),
}


@pytest.mark.parametrize("kind", ["fresh", "pooled", "reused", "over tls"])
@pytest.mark.parametrize("case", AFTER_SENDING)
async def test_after_sending_a_failure_never_looks_like_not_sent(kind: str, case: str) -> None:
    act, expected = AFTER_SENDING[case]
    acts = (say(OK), act) if kind == "reused" else (act,)
    tls = certificate("127.0.0.1") if kind == "over tls" else None
    async with serve(*acts, tls=tls) as server, client(None if kind == "fresh" else 5.0) as http:
        if kind == "reused":
            assert (await http.post(server.url, content=PAYLOAD)).text == "ok"
        limits = httpx.Timeout(5.0, read=0.06)
        error, record = await failing_post(http, server.url, content=PAYLOAD, timeout=limits)
        assert type(error) in expected
        assert record.written
        assert record.reused == (kind == "reused")
        assert len(server.requests) == len(acts), "sent once and only once"
        await server.until(lambda s: s.closed == s.accepted)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD"])
@pytest.mark.parametrize("act", [hang_up, reset])
async def test_a_cut_reused_connection_repeats_nothing_not_even_what_is_idempotent(method: str, act: Act) -> None:
    async with serve(say(OK), act) as server, client() as http:
        await http.get(server.url)
        _, record = await failing_post(http, server.url, method=method)
        assert record.reused
        assert len(server.requests) == 2
        assert server.accepted == 1


@pytest.mark.parametrize("content", [b"", PAYLOAD])
async def test_a_connection_that_is_reset_once_established_does_not_look_like_a_closed_port(content: bytes) -> None:
    async with serve(reset, read=False) as server, client() as http:
        for _ in range(10):
            _, record = await failing_post(http, server.url, content=content)
            assert record.connected


async def test_what_a_server_says_unasked_on_an_idle_connection_is_no_answer() -> None:
    unasked, said = asyncio.Event(), asyncio.Event()

    async def talkative(peer: Peer) -> None:
        await peer.send(OK)
        await unasked.wait()
        await peer.send(b"HTTP/1.1 500 Stale\r\nContent-Length: 5\r\n\r\nstale")
        said.set()
        await peer.silence()

    resolve = names(other_test="127.0.0.1")
    async with serve(talkative, say(OK)) as server, client(resolve=resolve) as http:
        assert (await http.get(server.url)).status_code == 200
        unasked.set()
        await said.wait()
        await http.get(f"http://other.test:{server.port}/")  # a round trip, within which the bytes have arrived
        assert (await http.get(server.url)).status_code == 200
        assert server.accepted == 3


async def test_a_body_that_ends_with_the_connection_is_not_complete_when_that_was_reset() -> None:
    async with serve(say_and_reset(b"HTTP/1.1 200 OK\r\n\r\npartial")) as server, client() as http:
        error, _ = await failing_post(http, server.url)
        assert type(error) is httpx.ReadError


async def test_a_trickled_body_ends_with_the_callers_deadline_and_the_connection() -> None:
    async with serve(slowly) as server, client() as http:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await http.get(server.url)
        await server.until(lambda s: s.closed == 1)


@pytest.mark.parametrize("seed", range(25))
async def test_no_answer_whatever_lets_another_librarys_error_out(seed: int) -> None:
    chance = random.Random(seed)
    pieces = [OK, b"HTTP/1.1 ", b"200 ", b"\r\n", b"Content-Length: ", b"Transfer-Encoding: chunked\r\n", b"\r\n\r\n"]
    noise = b"".join(chance.choice([chance.randbytes(chance.randint(0, 9)), *pieces]) for _ in range(8))
    async with serve(say_and_close(noise)) as server, client(None) as http:
        (outcome,) = await asyncio.gather(http.post(server.url, content=PAYLOAD), return_exceptions=True)
        assert isinstance(outcome, httpx.Response | httpx.TransportError)
        assert not isinstance(outcome, NOT_SENT)
        assert len(server.requests) == 1


@pytest.mark.parametrize("keep_alive", [None, 5.0])
async def test_a_closed_port_and_an_unknown_name_are_surely_not_sent(keep_alive: float | None) -> None:
    async with client(keep_alive, resolve=names(here_test="127.0.0.1")) as http:
        for url in (f"http://127.0.0.1:{closed_port()}/", f"http://here.test:{closed_port()}/", "http://gone.test/"):
            error, record = await failing_post(http, url, content=PAYLOAD)
            assert type(error) is httpx.ConnectError
            assert not record.written


async def test_a_name_without_addresses_or_that_no_dns_can_hold_is_surely_not_sent() -> None:
    async with client(resolve=names(empty_test=[])) as http:
        error, _ = await failing_post(http, "http://empty.test/")
        assert type(error) is httpx.ConnectError


YESTERDAY = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)


@pytest.mark.parametrize("keep_alive", [None, 5.0])
@pytest.mark.parametrize(
    "tls",
    [
        pytest.param(lambda: certificate("other.test"), id="wrong name"),
        pytest.param(lambda: certificate("here.test", ca=trustme.CA()), id="unknown authority"),
        pytest.param(lambda: certificate("here.test", not_after=YESTERDAY), id="expired"),
    ],
)
async def test_a_certificate_that_does_not_hold_is_surely_not_sent(tls, keep_alive: float | None) -> None:
    async with serve(say(OK), tls=tls()) as server, client(keep_alive, resolve=names(here_test="127.0.0.1")) as http:
        error, record = await failing_post(http, f"https://here.test:{server.port}/", content=PAYLOAD)
        assert type(error) is httpx.ConnectError
        assert "certificate" in str(error).lower()
        assert not record.written
        assert server.requests == []


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        pytest.param(Peer.silence, httpx.ConnectTimeout, id="stalls"),
        pytest.param(say_and_close(b"HTTP/1.1 400 Bad\r\n\r\n"), httpx.ConnectError, id="speaks http"),
        pytest.param(hang_up, httpx.ConnectError, id="closes"),
        pytest.param(reset, httpx.ConnectError, id="resets"),
    ],
)
async def test_a_failed_tls_handshake_is_surely_not_sent(act: Act, expected: type[httpx.TransportError]) -> None:
    async with serve(act, read=False) as server, client() as http:
        limits = httpx.Timeout(5.0, connect=0.2)
        error, _ = await failing_post(http, f"https://127.0.0.1:{server.port}/", content=PAYLOAD, timeout=limits)
        assert type(error) is expected


async def test_a_slow_name_is_a_connect_timeout() -> None:
    async def never(host: str) -> list[str]:
        await asyncio.Event().wait()
        return [host]

    async with client(resolve=never) as http:
        error, record = await failing_post(http, "http://slow.test/", timeout=httpx.Timeout(5.0, connect=0.05))
        assert type(error) is httpx.ConnectTimeout
        assert record.dns_ms is not None


async def test_waiting_for_a_place_ends_as_a_pool_timeout_and_frees_nothing_that_is_used() -> None:
    async with serve(Peer.silence) as server, client(per_host=1) as http:
        first = asyncio.create_task(http.post(server.url, content=PAYLOAD))
        await server.until(lambda s: len(s.requests) == 1)
        error, _ = await failing_post(http, server.url, timeout=httpx.Timeout(5.0, pool=0.05))
        assert type(error) is httpx.PoolTimeout
        assert server.accepted == 1
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)


async def test_a_server_that_takes_no_body_is_a_write_timeout() -> None:
    stop = asyncio.Event()

    async def deaf(peer: Peer) -> None:
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a socket's transport has it
        await stop.wait()

    async with serve(deaf, read=False) as server, client(None) as http:
        limits = httpx.Timeout(5.0, write=0.2)
        error, record = await failing_post(http, server.url, content=b"x" * 30_000_000, timeout=limits)
        assert type(error) is httpx.WriteTimeout
        assert record.written
        stop.set()


async def test_a_reset_during_the_upload_is_a_failure_after_sending() -> None:
    async def cut(peer: Peer) -> None:
        await peer.reader.readexactly(100_000)
        peer.reset()

    async with serve(cut, read=False) as server, client(None) as http:
        error, record = await failing_post(http, server.url, content=b"x" * 30_000_000)
        assert type(error) in (httpx.WriteError, httpx.ReadError)
        assert record.written


async def test_an_early_refusal_of_a_long_body_is_read() -> None:
    async def refuse(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig")
        await peer.silence()

    async with serve(refuse, read=False) as server, client() as http:
        answer = await http.post(server.url, content=b"x" * 30_000_000)
        assert (answer.status_code, answer.text) == (413, "big")


async def test_what_the_callers_own_body_raises_comes_back_as_it_is() -> None:
    async def torn() -> AsyncIterator[bytes]:
        yield b"half"
        raise LookupError("the file is gone")

    async with serve(say(OK)) as server, client() as http:
        with pytest.raises(LookupError, match="the file is gone"):
            await http.put(server.url, content=torn(), headers={"Content-Length": "8"})
        await server.until(lambda s: s.closed == 1)


@pytest.mark.parametrize("announced", ["3", "9"])
async def test_a_body_of_another_length_than_announced_is_our_own_error(announced: str) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"five!"

    async with serve(say(OK)) as server, client() as http:
        with pytest.raises(httpx.LocalProtocolError, match="body"):
            await http.put(server.url, content=body(), headers={"Content-Length": announced})


async def test_a_header_with_a_line_break_is_our_own_error_and_not_sent() -> None:
    async with serve(say(OK)) as server, client() as http:
        record = Exchange()
        with pytest.raises(httpx.LocalProtocolError):
            await http.get(server.url, headers={"X-A": "b\r\nX-Evil: c"}, extensions={"exchange": record})
        assert not record.written
        assert server.requests == []


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "http:///nohost", "http://127.0.0.1:99999/"])
async def test_a_url_that_is_none_is_refused_without_a_connection(url: str) -> None:
    async with client() as http:
        with pytest.raises((httpx.UnsupportedProtocol, httpx.InvalidURL, httpx.LocalProtocolError)):
            await http.get(url)


async def test_a_cancelled_request_closes_its_connection_and_gives_its_place_back() -> None:
    async with serve(Peer.silence, say(OK)) as server, client(per_host=1) as http:
        for _ in range(3):
            task = asyncio.create_task(http.post(server.url, content=PAYLOAD))
            await server.until(lambda s: len(s.requests) >= 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await server.until(lambda s: s.closed == s.accepted)
            server.requests.clear()
        server.requests.append(b"one before")
        assert (await http.get(server.url)).text == "ok"


async def test_leaving_a_stream_early_closes_its_connection_and_gives_its_place_back() -> None:
    endless = say(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\nfirst")
    async with serve(endless, say(OK)) as server, client(per_host=1) as http:
        async with http.stream("GET", server.url) as answer:
            assert await anext(answer.aiter_raw()) == b"first"
        await server.until(lambda s: s.closed == 1)
        assert (await http.get(server.url)).text == "ok"
