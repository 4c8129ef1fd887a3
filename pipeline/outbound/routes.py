"""From a host to a connected socket: looked up, checked, connected - directly or through the egress proxy."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address

import aiohappyeyeballs
import httpx
from aiohappyeyeballs import AddrInfoType

from pipeline.outbound.call import Call
from pipeline.outbound.dns import Resolve
from pipeline.outbound.guard import Guard
from pipeline.outbound.tunnel import Proxy, ProxyFailed, connect_through

STAGGER = 0.25
"""Seconds after which the next address is tried beside one that does not answer (RFC 8305, 5)."""
OWN_LOOKUP = 2.0
"""Seconds for our own lookup of a name that a proxy is going to look up, too."""


@dataclass(frozen=True, slots=True)
class Routes:
    """How hosts are reached.

    Args:
        resolve: names to addresses, also the proxy's.
        guard: for hosts that others chose; None for those of the operator.
        proxy: what public hosts are reached through; those of the guard's networks are reached directly.
    """

    resolve: Resolve
    guard: Guard | None = None
    proxy: Proxy | None = None

    async def addresses(self, call: Call, host: str, port: int) -> list[AddrInfoType] | None:
        """Where `host` is, best first and all of it checked; None says that the proxy knows.

        Raises OSError, ValueError or BlockedAddress.
        """
        try:
            found = [host] if _is_literal(host) else await self._look_up(call, host)
        except (OSError, ValueError):  # TimeoutError is an OSError
            if self.proxy is None or not call.encrypted:
                raise
            if self.guard is not None:
                self.guard.check_port(call.host, call.host, port)
            return None
        if self.guard is not None:
            self.guard.check_all(call.host, found, port=port, encrypted=call.encrypted)
        if self.proxy is not None and not (self.guard is not None and all(map(self.guard.exempts, found))):
            return None
        return [_addr_info(address, port) for address in found]

    async def open(self, call: Call, addresses: Sequence[AddrInfoType] | None, host: str, port: int) -> socket.socket:
        """A socket that is connected to one of the addresses, or through the proxy. Raises OSError or ConnectError."""
        call.opened, began = True, time.perf_counter()
        if addresses is None:
            sock = await self._open_tunnel(call, host, port)
        else:
            call.doing = "an answer to our call"
            sock = await _connect(addresses)
        call.exchange.connect_ms = (time.perf_counter() - began) * 1000
        return sock

    async def _look_up(self, call: Call, host: str) -> list[str]:
        call.doing, began = "the lookup of the name", time.perf_counter()
        try:
            async with asyncio.timeout(None if self.proxy is None else OWN_LOOKUP):
                found = list(await self.resolve(host))
        finally:
            call.exchange.dns_ms = (time.perf_counter() - began) * 1000
        if not found:
            raise OSError(f"{host} has no address")
        return found

    async def _open_tunnel(self, call: Call, host: str, port: int) -> socket.socket:
        proxy = self.proxy
        assert proxy is not None
        call.doing, call.exchange.proxied = "the egress proxy", True
        try:
            places = [proxy.host] if _is_literal(proxy.host) else await self.resolve(proxy.host)
            sock = await _connect([_addr_info(place, proxy.port) for place in places])
        except (OSError, ValueError, RuntimeError) as error:
            raise ProxyFailed(f"the egress proxy {proxy.place} cannot be reached: {error}") from error
        try:
            await connect_through(proxy, sock, host, port)
        except BaseException:
            sock.close()
            raise
        return sock


async def _connect(addresses: Sequence[AddrInfoType]) -> socket.socket:
    return await aiohappyeyeballs.start_connection(addresses, happy_eyeballs_delay=STAGGER)


def timed_out(call: Call) -> httpx.TransportError:
    """What it means that the time to connect ran out. Pure."""
    text = f"no connection to {call.host} in time: still waiting for {call.doing or 'our turn'}"
    if call.exchange.proxied and not call.exchange.connect_ms:
        return ProxyFailed(text)
    return httpx.ConnectTimeout(text)


def _is_literal(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _addr_info(address: str, port: int) -> AddrInfoType:
    bare, _, zone = address.partition("%")
    if ip_address(bare).version == 4:
        return (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port))
    scope = 0
    if zone:
        scope = int(zone) if zone.isdecimal() else socket.if_nametoindex(zone)
    return (socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (bare, port, 0, scope))
