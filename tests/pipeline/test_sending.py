"""The sender over the transport that ships: what an attempt tells of the wire, and the one retry that is no attempt."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime

import httpx
import pytest

from pipeline.outbound import Exchange
from tests.pipeline.connect_proxy import connect_proxy
from tests.pipeline.outbound_server import OK, Act, Peer, certificate, client, names, say, say_and_close, serve
from tests.pipeline.test_outbound_proxy import through
from webhooks.sender import Delivered, Reason, SendResult, build_headers, judge, send
from webhooks.wire import MAX_HEADERS, Connection, bounded

pytestmark = pytest.mark.anyio

SECRET = "whsec_" + "QUJD" * 8
BODY = b'{"type":"generation.completed"}'


async def attempt(http: httpx.AsyncClient, url: str, timeout: float = 2.0) -> SendResult:
    headers = build_headers([SECRET], event_id="evt_1", timestamp=int(time.time()), body=BODY, attempt=1)
    return await send(http, url, headers=headers, body=BODY, timeout=timeout, now=time.time, exchange=Exchange())


async def hang_up(peer: Peer) -> None:
    peer.writer.close()


async def reset(peer: Peer) -> None:
    peer.reset()


async def test_an_attempt_tells_what_went_over_the_wire() -> None:
    tls = certificate("app.test")
    async with serve(say(OK), tls=tls) as server, client(resolve=names(app_test="127.0.0.1")) as http:
        first, second = [await attempt(http, f"https://app.test:{server.port}/hook") for _ in range(2)]
    assert judge(first) == judge(second) == Delivered()
    sent = dict(first.wire.request_headers)
    assert sent["host"] == f"app.test:{server.port}"
    assert sent["webhook-signature"].startswith("v1,")
    lines = server.requests[0].split(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
    assert {line.partition(":")[0].lower() for line in lines} == set(sent)
    assert (first.address, first.wire.connection, first.wire.request_bytes) == ("127.0.0.1", "new", len(BODY))
    assert first.wire.response_headers == (("content-length", "2"),)
    assert None not in (first.wire.dns_ms, first.wire.connect_ms, first.wire.tls_ms, first.wire.first_byte_ms)
    assert (second.wire.connection, second.wire.dns_ms, second.wire.tls_ms) == (Connection.REUSED, None, None)


@pytest.mark.parametrize("dying", [hang_up, reset])
async def test_a_stale_connection_is_replaced_at_once_and_the_attempt_says_so(dying: Act) -> None:
    async with serve(say(OK), dying, say(OK)) as server, client() as http:
        await attempt(http, server.url)
        result = await attempt(http, server.url)
        assert (server.accepted, len(server.requests)) == (2, 3)
    assert judge(result) == Delivered()
    assert result.wire.connection is Connection.REPLACED
    assert "gone stale" in result.detail
    ids = {line for request in server.requests for line in request.split(b"\r\n") if line.startswith(b"webhook-id")}
    assert len(ids) == 1


async def test_the_replacement_is_never_another_old_connection() -> None:
    async with serve(say(OK), say(OK), say(OK), hang_up, say(OK)) as server, client() as http:
        async with AsyncExitStack() as open_at_once:
            for _ in range(3):
                answer = await open_at_once.enter_async_context(http.stream("POST", server.url, content=b"x"))
                await answer.aread()
        result = await attempt(http, server.url)
        assert (judge(result), result.wire.connection) == (Delivered(), Connection.REPLACED)
        assert len(server.requests) == 5


@pytest.mark.parametrize("acts", [(hang_up,), (say(OK), hang_up, hang_up), (say(OK), say_and_close(b"HTTP/1.1 2"))])
async def test_nothing_else_is_sent_twice(acts: tuple[Act, ...]) -> None:
    async with serve(*acts) as server, client() as http:
        if len(acts) > 1:
            await attempt(http, server.url)
        result = await attempt(http, server.url)
        assert result.reason in {Reason.RESET, Reason.BAD_HTTP}
        assert len(server.requests) == len(acts)


async def test_silence_on_a_reused_connection_is_a_time_out_and_not_repeated() -> None:
    async with serve(say(OK), Peer.silence) as server, client() as http:
        await attempt(http, server.url)
        started = time.monotonic()
        result = await attempt(http, server.url, timeout=0.2)
        assert time.monotonic() - started < 0.5
        assert (result.reason, len(server.requests)) == (Reason.TIMEOUT, 2)


async def test_both_tries_share_one_deadline() -> None:
    async with serve(say(OK), hang_up, Peer.silence) as server, client() as http:
        await attempt(http, server.url)
        started = time.monotonic()
        result = await attempt(http, server.url, timeout=0.3)
        assert time.monotonic() - started < 0.6
        assert (result.reason, result.wire.connection) == (Reason.TIMEOUT, Connection.REPLACED)


async def test_a_broken_proxy_has_a_reason_of_its_own() -> None:
    async with connect_proxy(answer=b"HTTP/1.1 502 No\r\n\r\n") as proxy, through(proxy.port) as http:
        result = await attempt(http, "https://app.test/hook")
        assert (result.reason, result.status, result.wire.proxied) == (Reason.PROXY_FAILED, None, True)
        assert "the receiver has no part in it" in result.detail
    async with connect_proxy(answer=b"HTTP/1.1 403 No\r\n\r\n") as proxy, through(proxy.port) as http:
        result = await attempt(http, "https://app.test/hook")
        assert result.reason is Reason.BLOCKED_ADDRESS
        assert "our egress proxy forbids this host" in result.detail


@pytest.mark.parametrize(
    ("tls", "hint"),
    [
        (certificate("other.test"), "for another name"),
        (certificate("app.test", not_after=datetime(2020, 1, 1, tzinfo=UTC)), "out of date"),
    ],
)
async def test_what_is_wrong_with_a_certificate_is_said(tls, hint: str) -> None:
    async with serve(say(OK), tls=tls) as server, client(resolve=names(app_test="127.0.0.1")) as http:
        result = await attempt(http, f"https://app.test:{server.port}/hook")
    assert result.reason is Reason.TLS
    assert hint in result.detail


async def test_many_long_odd_headers_of_an_answer_are_kept_bounded() -> None:
    many = b"".join(b"x-%d: %s\r\n" % (n, b"y" * 2000) for n in range(60))
    answer = (
        b"HTTP/1.1 200 OK\r\nset-cookie: session=1\r\nx-odd: \xff\xfe\x7f\r\n" + many + b"content-length: 0\r\n\r\n"
    )
    async with serve(say(answer)) as server, client() as http:
        kept = (await attempt(http, server.url)).wire.response_headers
    assert len(kept) == MAX_HEADERS
    assert kept[0] == ("set-cookie", "(not kept)")
    assert all(len(name) <= 100 and len(value) <= 500 and value.isprintable() for name, value in kept)


def test_headers_that_are_no_text_are_text_afterwards() -> None:
    assert bounded([(b"X-\xe9", b"\x00\n")]) == (("x-é", "??"),)
