"""Which addresses may be connected to when somebody else chose the URL. Pure: an own table, the same everywhere.

`ipaddress.is_global` is not used: its answer changes between Python versions and lets 6to4, NAT64, IPv4-compatible and
multicast addresses through on some of them. The table follows the IANA special-purpose registries (RFC 6890) for IPv4;
for IPv6 only the part that is handed out as global unicast (RFC 4291, 2000::/3) is allowed, minus its special blocks.

    BlockedAddress   an httpx.ConnectError: nothing was sent, no connection was made
    BadUrl           an httpx.UnsupportedProtocol and a ValueError: the URL will never do
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

import httpx

from pipeline.config import Network

MAX_URL = 2048
"""Characters of a URL that others may give us."""

Address = IPv4Address | IPv6Address

_IPV4_REFUSED: tuple[tuple[Network, str], ...] = tuple(
    (ip_network(network), reason)
    for network, reason in (
        ("0.0.0.0/8", "this host"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "shared by carriers"),
        ("127.0.0.0/8", "loopback"),
        ("168.63.129.16/32", "a cloud's own service"),
        ("169.254.0.0/16", "link-local, where clouds keep their metadata"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "reserved for protocols"),
        ("192.0.2.0/24", "for documentation"),
        ("192.88.99.0/24", "a 6to4 relay"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "for benchmarks"),
        ("198.51.100.0/24", "for documentation"),
        ("203.0.113.0/24", "for documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
    )
)
_IPV6_GLOBAL = IPv6Network("2000::/3")
_IPV6_REFUSED: tuple[tuple[Network, str], ...] = tuple(
    (ip_network(network), reason)
    for network, reason in (
        ("2001::/23", "reserved for protocols"),
        ("2001:db8::/32", "for documentation"),
        ("2002::/16", "6to4, which hides an IPv4 address"),
        ("3fff::/20", "for documentation"),
    )
)
_ISATAP = (0x00005EFE, 0x02005EFE)
"""The upper half of an interface identifier that hides an IPv4 address in its lower half (RFC 5214, 6.1)."""
PORTS = (443, 8443)
"""Where servers speak https. Other ports are other services', which a stranger's URL has no business with."""
_NUMERIC_HOST = re.compile(r"[0-9][0-9a-fx.]*", re.IGNORECASE)


ALLOWING = ". To allow it, add its network to ALLOWED_NETWORKS"


class BlockedAddress(httpx.ConnectError):
    """The host is at an address that may not be reached."""

    def __init__(self, host: str, address: str, reason: str, hint: str = ALLOWING) -> None:
        at = host if host == address else f"{host} is at {address}, which"
        super().__init__(f"{at} is refused: {reason}{hint}")
        self.host = host
        self.address = address
        self.reason = reason


class BadUrl(httpx.UnsupportedProtocol, ValueError):
    """The URL cannot be used as it stands; the message says what is wrong and does not repeat the URL."""


@dataclass(frozen=True, slots=True)
class Guard:
    """The rule for one client: public addresses over https at `ports`, and `networks` over https or http at any port.

    No `ports` are all of them.
    """

    networks: tuple[Network, ...] = ()
    ports: tuple[int, ...] = PORTS

    def exempts(self, address: str) -> bool:
        """Whether `address` (a literal, maybe with a zone) is within the explicitly allowed networks."""
        return _within(unwrapped(ip_address(address)), self.networks)

    def check(self, host: str, address: str, *, port: int, encrypted: bool) -> None:
        """Raise BlockedAddress unless `address` (a literal, maybe with a zone) may be connected to for `host`."""
        if self.exempts(address):
            return
        reason = _reason_against(unwrapped(ip_address(address)))
        if reason is not None:
            raise BlockedAddress(host, address, reason)
        if not encrypted:
            raise BlockedAddress(host, address, "http is only for ALLOWED_NETWORKS, use https", hint="")
        self.check_port(host, address, port)

    def check_port(self, host: str, address: str, port: int) -> None:
        """Raise BlockedAddress unless others may make us connect to `port` of a public address."""
        if self.ports and port not in self.ports:
            reason = f"port {port} is not among ALLOWED_PORTS ({', '.join(map(str, self.ports))})"
            raise BlockedAddress(host, address, reason, hint="")

    def check_all(self, host: str, addresses: Iterable[str], *, port: int, encrypted: bool) -> None:
        """Raise BlockedAddress if any of a name's addresses is refused: an honest name has no private one beside."""
        for address in addresses:
            self.check(host, address, port=port, encrypted=encrypted)

    def check_url(self, url: str | httpx.URL) -> None:
        """Refuse a URL before anything is resolved. Raises BadUrl or BlockedAddress. See `check_url`."""
        check_url(url, networks=self.networks, ports=self.ports)


def is_allowed(ip: Address, networks: Sequence[Network] = ()) -> bool:
    """Whether others may make us connect to `ip`: it is public, or within the explicitly allowed `networks`."""
    ip = unwrapped(ip)
    return _within(ip, networks) or _reason_against(ip) is None


def check_url(
    url: str | httpx.URL, *, allow_http: bool = False, networks: Sequence[Network] = (), ports: Sequence[int] = PORTS
) -> None:
    """Refuse a URL before anything is resolved: scheme, host, userinfo, length, port, and an address spelled out.

    http is accepted with `allow_http`, and like other ports for a literal address within `networks`, and for a name if
    there are any `networks`: only the name's address can tell, and the connection checks that again. No `ports` are all
    of them. Raises BadUrl or BlockedAddress.
    """
    parsed = _parse(url)
    literal = literal_address(parsed.host)
    port = parsed.port or (443 if parsed.scheme == "https" else 80)
    if allow_http and parsed.scheme == "http":
        ports = ()
    if literal is not None:
        guard = Guard(tuple(networks), tuple(ports))
        guard.check(parsed.host, str(literal), port=port, encrypted=allow_http or parsed.scheme == "https")
    elif networks:
        return
    elif parsed.scheme == "http" and not allow_http:
        raise BadUrl("the URL must begin with https://")
    elif ports and port not in ports:
        raise BadUrl(f"the URL's port {port} is not among ALLOWED_PORTS ({', '.join(map(str, ports))})")


def literal_address(host: str) -> Address | None:
    """The address that `host` spells, in any way that a resolver takes for one (127.1, 0x7f000001, 0), else None."""
    bare = host.rstrip(".")
    try:
        return ip_address(bare)
    except ValueError:
        pass
    if not _NUMERIC_HOST.fullmatch(bare):
        return None
    try:
        return IPv4Address(socket.inet_aton(bare))
    except OSError:
        return None


def unwrapped(ip: Address) -> Address:
    """The IPv4 address within an IPv4-mapped one, else `ip` itself."""
    return (ip.ipv4_mapped or ip) if isinstance(ip, IPv6Address) else ip


def _parse(url: str | httpx.URL) -> httpx.URL:
    if len(str(url)) > MAX_URL:
        raise BadUrl(f"the URL is longer than {MAX_URL} characters")
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise BadUrl(f"the URL cannot be read: {error}") from None
    if parsed.scheme not in {"https", "http"}:
        raise BadUrl("the URL must begin with https://")
    if not parsed.host:
        raise BadUrl("the URL has no host")
    if b"%" in parsed.raw_host:
        raise BadUrl("the URL's host is not a name")
    if parsed.userinfo:
        raise BadUrl("the URL carries a user name or password")
    if parsed.port is not None and not 0 < parsed.port <= 65535:
        raise BadUrl("the URL's port is not between 1 and 65535")
    return parsed


def _within(ip: Address, networks: Iterable[Network]) -> bool:
    return any(ip.version == network.version and ip in network for network in networks)


def _reason_against(ip: Address) -> str | None:
    if isinstance(ip, IPv6Address) and ip not in _IPV6_GLOBAL:
        return "not a public IPv6 address"
    if isinstance(ip, IPv6Address) and (int(ip) >> 32) & 0xFFFFFFFF in _ISATAP:
        return "ISATAP, which hides an IPv4 address"
    table = _IPV6_REFUSED if isinstance(ip, IPv6Address) else _IPV4_REFUSED
    return next((reason for network, reason in table if ip in network), None)
