"""The clients of the application, as they are wired: what they send, keep, share and hold in memory."""

from __future__ import annotations

import asyncio
import gc
import gzip
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import httpx
import pytest

from pipeline.config import Settings
from pipeline.outbound import BlockedAddress, Exchange, Outbound
from tests.pipeline.outbound_server import CA, OK, Peer, certificate, client, names, say, say_and_close, serve

pytestmark = pytest.mark.anyio

CLIENTS = ["submit", "calls", "fetch", "webhooks", "storage"]
MEGABYTE = 1_000_000


@contextmanager
def peak_below(limit: int) -> Iterator[None]:
    """Client and server together hold less than `limit` bytes more than before, at any time."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


@asynccontextmanager
async def outbound(networks: str = "127.0.0.0/8", **options: object) -> AsyncIterator[Outbound]:
    settings = Settings(_env_file=None, allowed_networks=networks)  # type: ignore[call-arg,arg-type]  # as .env spells it
    made = Outbound(settings, **options)  # type: ignore[arg-type]
    try:
        yield made
    finally:
        await made.aclose()


@pytest.mark.parametrize("name", CLIENTS)
async def test_every_client_names_us_and_asks_for_plain_bytes(name: str) -> None:
    async with serve(say(OK)) as server, outbound() as clients:
        assert (await getattr(clients, name).get(server.url)).text == "ok"
        head = server.requests[0].lower()
        assert b"\r\nuser-agent: dailies/" in head
        assert b"\r\naccept-encoding: identity\r\n" in head


@pytest.mark.parametrize("name", CLIENTS)
async def test_no_client_keeps_a_cookie_follows_a_redirect_or_asks_the_environment(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login a password b\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    away = say(b"HTTP/1.1 302 Found\r\nSet-Cookie: a=b; Path=/\r\nLocation: /away\r\nContent-Length: 0\r\n\r\n")
    async with serve(away) as server, outbound() as clients:
        http: httpx.AsyncClient = getattr(clients, name)
        assert [(await http.get(server.url)).status_code for _ in range(2)] == [302, 302]
        assert [request.split(b"\r\n")[0] for request in server.requests] == [b"GET / HTTP/1.1"] * 2
        assert not any(b"\r\ncookie:" in r.lower() or b"\r\nauthorization:" in r.lower() for r in server.requests)
        assert not http.cookies


@pytest.mark.parametrize("name", ["fetch", "webhooks"])
async def test_clients_for_strangers_urls_are_guarded_and_the_operators_are_not(name: str) -> None:
    async with serve(say(OK)) as server, outbound(networks="") as clients:
        with pytest.raises(BlockedAddress):
            await getattr(clients, name).get(server.url.replace("http", "https"))
        assert server.accepted == 0
        assert (await clients.calls.get(server.url)).text == "ok"


async def test_a_paid_call_has_a_connection_of_its_own_that_is_closed_after_it() -> None:
    async with serve(say(OK)) as server, outbound() as clients:
        records = [Exchange(), Exchange()]
        for record in records:
            await clients.submit.post(server.url, json={"prompt": "x"}, extensions={"exchange": record})
        assert not any(record.reused for record in records)
        assert all(b"\r\nconnection: close\r\n" in request.lower() for request in server.requests)
        await server.until(lambda s: (s.accepted, s.closed) == (2, 2))


@pytest.mark.parametrize("name", ["calls", "fetch", "webhooks", "storage"])
async def test_other_calls_use_a_connection_again(name: str) -> None:
    async with serve(say(OK)) as server, outbound() as clients:
        record = Exchange()
        for _ in range(3):
            await getattr(clients, name).post(server.url, content=b"x", extensions={"exchange": record})
        assert (server.accepted, record.reused) == (1, True)


async def test_an_idle_connection_is_closed_and_not_used_again() -> None:
    async with serve(say(OK)) as server, client(0.02) as http:
        await http.get(server.url)
        await server.until(lambda s: s.closed == 1)
        await http.get(server.url)
        assert server.accepted == 2


async def test_an_exchange_tells_where_the_time_went() -> None:
    async with serve(say(OK)) as server, client(resolve=names(here_test="127.0.0.1")) as http:
        first, second = Exchange(), Exchange()
        for record in (first, second):
            await http.get(f"http://here.test:{server.port}/", extensions={"exchange": record})
        assert (first.address, first.reused, first.connected, first.written) == ("127.0.0.1", False, True, True)
        assert None not in (first.dns_ms, first.connect_ms, first.first_byte_ms)
        assert (second.address, second.reused, second.written) == ("127.0.0.1", True, True)
        assert (second.dns_ms, second.connect_ms) == (None, None)


async def test_an_exchange_that_is_passed_again_tells_of_the_last_request() -> None:
    record = Exchange()
    async with serve(say(OK)) as server, client(None) as http:
        await http.get(server.url, extensions={"exchange": record})
        with pytest.raises(httpx.ConnectError):
            await http.get("http://gone.test/", extensions={"exchange": record})
        assert (record.address, record.connected, record.written) == (None, False, False)


async def test_a_slow_host_takes_no_place_from_another() -> None:
    async with serve(Peer.silence) as slow, serve(say(OK)) as quick, client(per_host=1) as http:
        stuck = [asyncio.create_task(http.get(slow.url)) for _ in range(20)]
        await slow.until(lambda s: len(s.requests) == 1)
        assert (await http.get(quick.url)).text == "ok"
        assert slow.accepted == 1
        for task in stuck:
            task.cancel()
        await asyncio.gather(*stuck, return_exceptions=True)


async def test_waiting_requests_get_their_turn() -> None:
    async with serve(say(OK)) as server, client(per_host=2) as http:
        answers = await asyncio.gather(*(http.post(server.url, content=b"x") for _ in range(50)))
        assert {answer.text for answer in answers} == {"ok"}
        assert server.accepted <= 2


async def test_raw_bytes_are_the_bytes_of_the_wire() -> None:
    packed = gzip.compress(b"x" * 100_000)
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
    async with (
        serve(say(head + packed)) as server,
        client() as http,
        http.stream("GET", server.url) as answer,
    ):
        assert b"".join([chunk async for chunk in answer.aiter_raw()]) == packed


async def test_a_presigned_url_goes_out_as_it_is_spelled() -> None:
    path = "/b%2Fc/a%20b/%C3%BC~x?X-Amz-Credential=AK%2F2026%2Fauto&sig=a+b%2Bc%3D&empty="
    async with serve(say(OK)) as server, client() as http:
        await http.get(server.url.rstrip("/") + path)
        assert server.requests[0].split(b" ")[1].decode() == path


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\n",
        b"HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200\r\nX-Latin: \xe9\r\nContent-Length: 0\r\n\r\n",
    ],
)
async def test_odd_but_readable_answers_are_answers(answer: bytes) -> None:
    async with serve(say_and_close(answer)) as server, client() as http:
        assert (await http.post(server.url, content=b"x")).content == b""


async def test_an_answer_keeps_repeated_headers_and_its_reason() -> None:
    raw = b"HTTP/1.1 429 Slow Down\r\nX-A: 1\r\nX-A: 2\r\nContent-Length: 0\r\n\r\n"
    async with serve(say(raw)) as server, client() as http:
        answer = await http.get(server.url)
        assert (answer.status_code, answer.reason_phrase) == (429, "Slow Down")
        assert answer.headers.get_list("x-a") == ["1", "2"]


async def test_a_file_is_put_to_storage_over_tls_in_one_piece_and_little_memory(tmp_path: Path) -> None:
    bundle, size = tmp_path / "ca.pem", 32 * MEGABYTE
    CA.cert_pem.write_to_path(str(bundle))
    heads: list[bytes] = []
    received = 0

    async def take(peer: Peer) -> None:
        nonlocal received
        heads.append(await peer.reader.readuntil(b"\r\n\r\n"))
        while received < size:
            received += len(await peer.reader.read(65_536))
        await peer.send(OK)

    async def body() -> AsyncIterator[bytes]:
        for _ in range(32):
            yield b"v" * MEGABYTE

    tls = certificate("bucket.test")
    async with (
        serve(take, tls=tls, read=False) as server,
        outbound(ca_file=bundle, resolve=names(bucket_test="127.0.0.1")) as clients,
    ):
        url = f"https://bucket.test:{server.port}/video.mp4?signature=x"
        with peak_below(6 * MEGABYTE):
            answer = await clients.storage.put(url, content=body(), headers={"Content-Length": str(size)})
        assert (answer.status_code, received) == (200, size)
        assert b"transfer-encoding" not in heads[0].lower()


async def test_a_body_without_a_length_is_chunked() -> None:
    async def take(peer: Peer) -> None:
        got.append(await peer.reader.readuntil(b"0\r\n\r\n"))
        await peer.send(OK)

    async def body() -> AsyncIterator[bytes]:
        yield b"abc"
        yield b"defg"

    got: list[bytes] = []
    async with serve(take, read=False) as server, client() as http:
        assert (await http.post(server.url, content=body())).text == "ok"
        assert got[0].endswith(b"3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n")
        assert got[0].lower().count(b"transfer-encoding: chunked") == 1


async def test_a_large_body_in_memory_is_neither_copied_nor_warned_about() -> None:
    async def take(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        left = len(body)
        while left:
            left -= len(await peer.reader.read(65_536))
        await peer.send(OK)

    body = b"i" * (20 * MEGABYTE)
    async with serve(take, read=False) as server, client() as http:
        with peak_below(6 * MEGABYTE):
            assert (await http.post(server.url, content=body)).text == "ok"


async def test_a_large_answer_is_read_in_little_memory() -> None:
    async def pour(peer: Peer) -> None:
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (64 * MEGABYTE))
        for _ in range(64):
            await peer.send(bytes(MEGABYTE))

    async with serve(pour) as server, client() as http:
        read = 0
        with peak_below(6 * MEGABYTE):
            async with http.stream("GET", server.url) as answer:
                async for chunk in answer.aiter_raw():
                    read += len(chunk)
        assert read == 64 * MEGABYTE


async def test_nothing_is_left_unclosed(caplog: pytest.LogCaptureFixture) -> None:
    async with serve(Peer.silence) as server, outbound() as clients:
        tasks = [asyncio.create_task(getattr(clients, name).get(server.url)) for name in CLIENTS]
        await server.until(lambda s: len(s.requests) == len(CLIENTS))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    gc.collect()
    assert not caplog.records


async def test_clients_that_were_never_used_close_too() -> None:
    async with outbound():
        pass
