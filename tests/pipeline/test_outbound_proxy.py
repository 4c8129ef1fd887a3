"""Through an egress proxy: who is reached how, and whose fault a failure is. Real sockets and TLS."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_network

import httpx
import pytest

from pipeline.config import SettingsError, load_settings
from pipeline.outbound import BlockedAddress, Exchange, ProxyFailed, ProxyRefused, Transport, proxy_of
from pipeline.outbound.dns import Resolve
from pipeline.outbound.guard import Guard
from pipeline.outbound.tunnel import Proxy, judge_connect
from tests.pipeline.connect_proxy import connect_proxy
from tests.pipeline.outbound_server import OK, certificate, closed_port, names, say, serve, trusting

pytestmark = pytest.mark.anyio

LOOPBACK = Guard((ip_network("127.0.0.0/8"),))


@asynccontextmanager
async def through(
    port: int, *, resolve: Resolve | None = None, guard: Guard | None = None, user: str = "", timeout: float = 5.0
) -> AsyncIterator[httpx.AsyncClient]:
    transport = Transport(
        tls=trusting,
        resolve=resolve or names(),
        per_host=4,
        keep_alive=5.0,
        guard=guard or Guard(),
        proxy=Proxy.parse(f"http://{user}127.0.0.1:{port}"),
    )
    async with httpx.AsyncClient(transport=transport, timeout=timeout, trust_env=False) as made:
        yield made


@pytest.mark.parametrize("table", [{}, {"app_test": "1.1.1.1"}])
async def test_a_public_name_is_reached_through_the_proxy_and_proved_by_its_own_certificate(table) -> None:
    async with (
        serve(say(OK), tls=certificate("app.test")) as server,
        connect_proxy(server.port) as proxy,
        through(proxy.port, resolve=names(**table), user="bob:p%40ss@") as http,
    ):
        record = Exchange()
        for _ in range(2):
            answer = await http.post("https://app.test/hook", content=b"x", extensions={"exchange": record})
            assert answer.text == "ok"
        assert (record.proxied, record.reused, record.sent) == (True, True, 1)
        assert proxy.targets == ["app.test:443"]
        assert b"Proxy-Authorization: Basic Ym9iOnBAc3M=\r\n" in proxy.heads[0]
        assert not any(b"proxy-authorization" in request.lower() for request in server.requests)


async def test_the_proxys_word_does_not_stand_for_the_receivers_certificate() -> None:
    async with (
        serve(say(OK), tls=certificate("other.test")) as server,
        connect_proxy(server.port) as proxy,
        through(proxy.port) as http,
    ):
        with pytest.raises(httpx.ConnectError, match="certificate verify failed") as caught:
            await http.post("https://app.test/hook", content=b"x")
        assert not isinstance(caught.value, ProxyFailed)
        assert server.requests == []


async def test_the_guard_still_refuses_what_it_can_see() -> None:
    table = names(private_test="10.0.0.1", public_test="1.1.1.1")
    async with connect_proxy(closed_port()) as proxy, through(proxy.port, resolve=table) as http:
        for url in ("https://10.0.0.1/", "https://private.test/", "https://127.1/", "https://1.1.1.1:22/"):
            with pytest.raises(BlockedAddress):
                await http.get(url)
        with pytest.raises(httpx.UnsupportedProtocol):
            await http.get("http://public.test/")
        assert proxy.heads == []


async def test_an_allowed_network_is_reached_without_the_proxy() -> None:
    async with (
        serve(say(OK)) as server,
        through(closed_port(), resolve=names(dev_test="127.0.0.1"), guard=LOOPBACK) as http,
    ):
        for host in ("127.0.0.1", "dev.test"):
            record = Exchange()
            assert (await http.get(f"http://{host}:{server.port}/", extensions={"exchange": record})).text == "ok"
            assert not record.proxied


async def test_plain_http_to_a_name_that_only_the_proxy_knows_is_not_sent() -> None:
    async with connect_proxy(closed_port()) as proxy, through(proxy.port, guard=LOOPBACK) as http:
        with pytest.raises(httpx.ConnectError, match="not known"):
            await http.get("http://unknown.test/")
        assert proxy.heads == []


async def test_a_name_that_only_the_proxy_knows_is_not_reached_at_other_ports() -> None:
    async with connect_proxy(closed_port()) as proxy, through(proxy.port, guard=LOOPBACK) as http:
        with pytest.raises(BlockedAddress, match="port 22 is not among ALLOWED_PORTS"):
            await http.get("https://unknown.test:22/")
        assert proxy.heads == []


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n",
        b"HTTP/1.1 500 Oops\r\n\r\n",
        b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 900\r\n\r\nhalf",
        b"HTTP/1.1 503 Busy\r\n\r\n",
        b"SSH-2.0-OpenSSH_9\r\n",
        b"\x15\x03\x01\x00\x02\x02\x50\r\n\r\n",
        b"HTTP/1.1 999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 20_000,
    ],
)
async def test_a_broken_proxy_is_not_the_receivers_fault(answer: bytes) -> None:
    async with connect_proxy(answer=answer) as proxy, through(proxy.port, user="bob:hunter2@") as http:
        record = Exchange()
        with pytest.raises(ProxyFailed, match=f"the egress proxy 127.0.0.1:{proxy.port}") as caught:
            await http.post("https://app.test/hook", content=b"x", extensions={"exchange": record})
        assert "hunter2" not in str(caught.value)
        assert (record.connected, record.written, record.proxied) == (False, False, True)


async def test_a_proxy_that_is_down_or_silent_is_not_the_receivers_fault() -> None:
    async with through(closed_port()) as http:
        with pytest.raises(ProxyFailed, match="cannot be reached"):
            await http.get("https://app.test/")
    async with connect_proxy(silent=True) as proxy, through(proxy.port, timeout=0.2) as http:
        with pytest.raises(ProxyFailed, match="still waiting for the egress proxy"):
            await http.get("https://app.test/")
    unknown = Transport(
        tls=trusting, resolve=names(), per_host=1, keep_alive=1.0, guard=Guard(), proxy=Proxy("proxy.test", 3128)
    )
    async with httpx.AsyncClient(transport=unknown, trust_env=False) as http:
        with pytest.raises(ProxyFailed, match=r"proxy\.test:3128 cannot be reached"):
            await http.get("https://app.test/")


async def test_tls_that_stalls_behind_the_proxy_is_the_receivers() -> None:
    async with (
        serve(lambda peer: peer.silence(), read=False) as server,
        connect_proxy(server.port) as proxy,
        through(proxy.port, timeout=0.3) as http,
    ):
        with pytest.raises(httpx.ConnectTimeout, match="the handshake of TLS"):
            await http.get("https://app.test/")


@pytest.mark.parametrize(
    ("head", "kind", "words"),
    [
        ("200 OK", None, ""),
        ("403 Forbidden", ProxyRefused, "does not let us reach app.test:443"),
        ("407 No\r\nX-Smokescreen-Error: egress denied", ProxyRefused, "egress denied"),
        ("502 No\r\nX-Smokescreen-Error: dial tcp: refused", httpx.ConnectError, "could not reach app.test:443"),
        ("503 No\r\nX-Squid-Error: ERR_DNS_FAIL 0", httpx.ConnectError, "ERR_DNS_FAIL"),
        ("503 No\r\nX-Squid-Error: ERR_ACCESS_DENIED 0", ProxyFailed, "failed with 503"),
        ("504 No\r\nProxy-Status: squid; error=connection_timeout", httpx.ConnectError, "connection_timeout"),
        ("504 No\r\nProxy-Status: squid; error=proxy_internal_error", ProxyFailed, "failed with 504"),
        ("100 Continue", ProxyFailed, "failed with 100"),
    ],
)
def test_whose_fault_a_refused_tunnel_is(head: str, kind: type[Exception] | None, words: str) -> None:
    failure = judge_connect(f"HTTP/1.1 {head}\r\n".encode(), "proxy.test:3128", "app.test:443")
    assert type(failure) is (kind or type(None))
    assert words in str(failure or "")


async def test_credentials_are_shown_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    proxy = Proxy.parse("http://bob:hunter2@proxy.test:3128")
    assert "hunter2" not in repr(proxy)
    assert proxy.place == "proxy.test:3128"
    settings = load_settings(_env_file=None, egress_proxy="http://bob:hunter2@[::1]:3128")
    assert "hunter2" not in repr(settings)
    assert proxy_of(settings) == Proxy("::1", 3128, "Basic Ym9iOmh1bnRlcjI=")
    async with (
        connect_proxy(answer=b"HTTP/1.1 407 No\r\n\r\n") as broken,
        through(broken.port, user="b:hunter2@") as http,
    ):
        with pytest.raises(ProxyFailed):
            await http.get("https://app.test/")
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize(
    "url", ["https://p.test:1", "socks5://p.test:1", "p.test:1", "http://", "http://p.test:x", "http://p/x"]
)
def test_what_is_no_proxy_is_refused_at_the_start_without_repeating_it(url: str) -> None:
    with pytest.raises(SettingsError, match=r"EGRESS_PROXY.*is no proxy"):
        load_settings(_env_file=None, egress_proxy=url)


async def test_a_cancelled_tunnel_leaves_no_socket() -> None:
    async with connect_proxy(silent=True) as proxy, through(proxy.port) as http:
        task = asyncio.create_task(http.get("https://app.test/"))
        async with asyncio.timeout(5):
            await proxy.asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
