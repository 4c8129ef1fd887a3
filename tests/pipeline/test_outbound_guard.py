"""What strangers' URLs cannot make us do: reach an address that is not public, by any spelling or name."""

from __future__ import annotations

import asyncio
import threading
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from random import Random

import httpx
import pytest

from pipeline.outbound import BadUrl, BlockedAddress, Exchange, check_url, is_allowed
from pipeline.outbound.dns import Lookups
from pipeline.outbound.guard import Guard, literal_address
from tests.pipeline.outbound_server import OK, certificate, client, names, say, serve

REFUSED = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.9",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.7",
    "203.0.113.9",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b:1::7f00:1",
    "100::1",
    "2001::1",
    "2001:1ff:ffff::1",
    "2001:db8::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:4860::5efe:10.0.0.1",
    "2a00:1450:1::200:5efe:7f00:1",
    "2002:7f00:1::",
    "3fff::1",
    "3fff:fff::1",
    "4000::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%lo",
    "fec0::1",
    "ff02::1",
]

PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.0",
    "168.63.129.15",
    "169.253.255.255",
    "172.15.255.255",
    "172.32.0.0",
    "192.0.1.0",
    "192.167.255.255",
    "198.17.255.255",
    "198.20.0.0",
    "223.255.255.255",
    "::ffff:8.8.8.8",
    "2000::1",
    "2001:200::1",
    "2001:4860:4860::8888",
    "2001:db9::1",
    "2003::1",
    "2606:4700::1111",
    "2a00:1450::1",
    "3ffe::1",
    "3fff:1000::1",
]


@pytest.mark.parametrize("address", REFUSED)
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    assert not is_allowed(ip_address(address))


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_allowed_up_to_its_neighbours(address: str) -> None:
    assert is_allowed(ip_address(address))


@pytest.mark.parametrize("number", range(600))
def test_what_the_registries_call_special_is_refused_in_every_form(number: int) -> None:
    """Against Python's own registries, which are older: whatever they call private or special, we refuse, too."""
    source = Random(number)
    ip = IPv4Address(source.getrandbits(32))
    special = not ip.is_global or ip.is_multicast or ip.is_reserved
    assert is_allowed(ip) <= (not special)
    assert is_allowed(IPv6Address(f"::ffff:{ip}")) == is_allowed(ip)
    word = f"{int(ip) >> 16:x}:{int(ip) & 0xFFFF:x}"
    for hiding in ("::{}", "64:ff9b::{}", "64:ff9b:1::{}", "::ffff:0:{}", "2002:{}::", "2001:470::5efe:{}"):
        assert not is_allowed(IPv6Address(hiding.format(word)))
    wide = IPv6Address(source.getrandbits(128))
    assert is_allowed(wide) <= (wide.is_global and not wide.is_multicast and wide in ip_network("2000::/3"))


@pytest.mark.parametrize("port", [1, 22, 25, 80, 444, 6379, 8080, 65535])
def test_a_public_host_is_reached_at_the_ports_of_https_only(port: int) -> None:
    with pytest.raises(BadUrl, match=f"port {port} is not among ALLOWED_PORTS"):
        check_url(f"https://example.com:{port}/")
    with pytest.raises(BlockedAddress, match=f"port {port} is not among ALLOWED_PORTS"):
        check_url(f"https://1.1.1.1:{port}/", networks=(ip_network("10.0.0.0/8"),))
    check_url(f"https://example.com:{port}/", ports=(port,))
    check_url(f"https://example.com:{port}/", ports=())
    check_url(f"https://10.0.0.1:{port}/", networks=(ip_network("10.0.0.0/8"),))


@pytest.mark.anyio
async def test_the_port_of_a_name_is_checked_again_with_its_address() -> None:
    guard = Guard((ip_network("127.0.0.0/8"),))
    async with client(resolve=names(public_test="1.1.1.1"), guard=guard) as http:
        with pytest.raises(BlockedAddress, match="port 22 is not among"):
            await http.get("https://public.test:22/")


def test_an_explicitly_allowed_network_is_allowed_also_when_mapped_and_nothing_beside_it() -> None:
    networks = (ip_network("127.0.0.0/8"), ip_network("fd00::/8"))
    assert all(is_allowed(ip_address(a), networks) for a in ("127.0.0.1", "::ffff:127.0.0.1", "fd00::1", "1.1.1.1"))
    assert not any(is_allowed(ip_address(a), networks) for a in ("10.0.0.1", "::1", "fe80::1"))


def test_a_refusal_says_where_why_and_how_to_allow_it() -> None:
    with pytest.raises(BlockedAddress, match=r"a\.test is at 10\.0\.0\.1.*private.*ALLOWED_NETWORKS") as caught:
        Guard().check("a.test", "10.0.0.1", port=443, encrypted=True)
    assert (caught.value.host, caught.value.address, caught.value.reason) == ("a.test", "10.0.0.1", "private")
    assert isinstance(caught.value, httpx.ConnectError)


@pytest.mark.parametrize(
    "host", ["127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.1", "017700000001", "127.0.0.1."]
)
def test_every_spelling_of_an_address_is_read(host: str) -> None:
    assert str(literal_address(host)) == "127.0.0.1"


@pytest.mark.parametrize("host", ["example.com", "1e100.net", "0xy.test", "1.2.3.4.5", "3com", ""])
def test_a_name_is_no_address(host: str) -> None:
    assert literal_address(host) is None


@pytest.mark.parametrize("url", ["https://example.com/hook", "https://1.1.1.1/", "https://example.com:8443/?a=b"])
def test_a_good_url_passes(url: str) -> None:
    check_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/",
        "ftp://example.com/",
        "file:///etc/passwd",
        "example.com",
        "",
        "https://",
        "https:///path",
        "https://user@example.com/",
        "https://user:secret@example.com/",
        "https://example.com:0/",
        "https://example.com:65536/",
        "https://①②⑦.⓪.⓪.①/",
        "https://0177.0.0.1/",
        "https://a b/",
        "https://[fe80::1%25lo]/",
        "https://example.com/" + "x" * 2048,
    ],
)
def test_a_url_that_will_never_do_is_refused_without_repeating_its_secrets(url: str) -> None:
    with pytest.raises(BadUrl) as caught:
        check_url(url)
    assert isinstance(caught.value, ValueError)
    assert "secret" not in str(caught.value)


def test_a_spelled_out_private_address_is_refused_before_any_connection() -> None:
    for url in (
        "https://127.1/",
        "https://[::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://0/",
        "https://169.254.169.254/",
    ):
        with pytest.raises(BlockedAddress):
            check_url(url)


def test_http_is_for_explicitly_allowed_networks_or_where_the_caller_allows_it() -> None:
    networks = (ip_network("127.0.0.0/8"),)
    check_url("http://127.0.0.1:3000/hook", networks=networks)
    check_url("http://localhost:3000/hook", networks=networks)
    check_url("http://example.com/", allow_http=True)
    with pytest.raises(BlockedAddress, match="use https"):
        check_url("http://1.1.1.1/", networks=networks)
    with pytest.raises(BlockedAddress):
        check_url("http://10.0.0.1/", allow_http=True)


SPELLINGS = [
    "127.0.0.1",
    "localhost",
    "LOCALHOST",
    "127.1",
    "127.0.1",
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "0",
    "0.0.0.0",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "user@127.0.0.1",
    "user:1.1.1.1@localhost",
    "private.test",
    "mapped.test",
    "mixed.test",
    "127。0。0。1",
    "1.1.1.1\\@127.0.0.1",
]


@pytest.mark.anyio
@pytest.mark.parametrize("keep_alive", [None, 5.0])
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_no_spelling_of_a_private_host_makes_a_connection(scheme: str, keep_alive: float | None) -> None:
    table = names(private_test="127.0.0.1", mapped_test="::ffff:127.0.0.1", mixed_test=["1.1.1.1", "127.0.0.1"])
    system = Lookups()

    async def resolve(host: str) -> list[str]:
        return list(await (table if host.endswith(".test") else system)(host))

    async with serve(say(OK)) as server, client(keep_alive, resolve=resolve, guard=Guard()) as http:
        for spelling in SPELLINGS:
            record = Exchange()
            with pytest.raises((BlockedAddress, BadUrl, httpx.InvalidURL)):
                await http.post(f"{scheme}://{spelling}:{server.port}/", extensions={"exchange": record})
            assert not record.connected
        assert server.accepted == 0
    system.close()


@pytest.mark.anyio
async def test_without_a_guard_the_operators_own_addresses_are_reached() -> None:
    async with serve(say(OK)) as server, client() as http:
        assert (await http.get(server.url)).text == "ok"


@pytest.mark.anyio
async def test_an_allowed_network_is_reached_over_http_by_address_and_by_name() -> None:
    guard = Guard((ip_network("127.0.0.0/8"),))
    async with serve(say(OK)) as server, client(resolve=names(dev_test="127.0.0.1"), guard=guard) as http:
        assert (await http.get(server.url)).text == "ok"
        assert (await http.get(f"http://dev.test:{server.port}/")).text == "ok"


@pytest.mark.anyio
async def test_http_to_a_public_address_is_refused_when_connecting() -> None:
    guard = Guard((ip_network("127.0.0.0/8"),))
    async with client(resolve=names(public_test="1.1.1.1"), guard=guard) as http:
        with pytest.raises(BlockedAddress, match="use https"):
            await http.get("http://public.test/")


@pytest.mark.anyio
async def test_a_name_that_answers_differently_each_time_is_asked_once_and_checked_each_time() -> None:
    answers = iter(["127.0.0.1", "127.0.0.2", "10.0.0.1", "127.0.0.1"])
    asked = 0

    async def rebinding(host: str) -> list[str]:
        nonlocal asked
        asked += 1
        return [next(answers)]

    guard = Guard((ip_network("127.0.0.1/32"),))
    async with serve(say(OK)) as server, client(None, resolve=rebinding, guard=guard) as http:
        url = f"http://rebind.test:{server.port}/"
        record = Exchange()
        await http.get(url, extensions={"exchange": record})
        assert record.address == "127.0.0.1"
        for refused in ("127.0.0.2", "10.0.0.1"):
            with pytest.raises(BlockedAddress) as caught:
                await http.get(url)
            assert caught.value.address == refused
        await http.get(url)
        assert (asked, server.accepted) == (4, 2)


@pytest.mark.anyio
async def test_the_next_address_is_tried_when_one_does_not_answer() -> None:
    async with serve(say(OK)) as server, client(resolve=names(two_test=["::1", "127.0.0.1"])) as http:
        record = Exchange()
        await http.get(f"http://two.test:{server.port}/", extensions={"exchange": record})
        assert record.address == "127.0.0.1"


@pytest.mark.anyio
async def test_the_name_stays_in_the_host_header_the_sni_and_the_certificate() -> None:
    tls = certificate("here.test")
    seen: list[str | None] = []
    tls.sni_callback = lambda sock, name, context: seen.append(name)
    guard = Guard((ip_network("127.0.0.0/8"),))
    async with serve(say(OK), tls=tls) as server, client(resolve=names(here_test="127.0.0.1"), guard=guard) as http:
        assert (await http.get(f"https://here.test:{server.port}/")).text == "ok"
        assert seen == ["here.test"]
        assert f"host: here.test:{server.port}".encode() in server.requests[0].lower()


@pytest.mark.anyio
async def test_lookups_share_an_answer_and_a_few_slow_names_leave_the_other_threads_free() -> None:
    release = threading.Event()
    asked: list[str] = []

    def look_up(host: str) -> list[str]:
        asked.append(host)
        if host == "slow.test":
            assert release.wait(5)
        return ["192.0.2.1"]

    lookups = Lookups(2, look_up)
    slow = [asyncio.create_task(lookups("slow.test")) for _ in range(5)]
    assert await lookups("quick.test") == ["192.0.2.1"]
    slow[0].cancel()
    release.set()
    results = await asyncio.gather(*slow, return_exceptions=True)
    assert results[1:] == [["192.0.2.1"]] * 4
    assert sorted(asked) == ["quick.test", "slow.test"]
    lookups.close()


@pytest.mark.anyio
async def test_lookups_hand_on_what_the_resolver_raises() -> None:
    lookups = Lookups()
    with pytest.raises(ValueError, match="label"):
        await lookups("a" * 70 + ".test")
    assert "127.0.0.1" in await lookups("localhost")
    lookups.close()
