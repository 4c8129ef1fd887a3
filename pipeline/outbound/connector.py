"""How a connection comes to be. Whatever fails in here failed before the first byte of the request was sent."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time

import aiohttp
import httpx
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_reqrep import ClientRequest
from aiohttp.connector import AddrInfoType, Connection
from aiohttp.tracing import Trace

from pipeline.outbound.call import CALL
from pipeline.outbound.dns import Resolve
from pipeline.outbound.guard import Guard


class Names(AbstractResolver):
    """A Resolve in aiohttp's shape: times the lookup, and refuses a name if any of its addresses is refused."""

    def __init__(self, resolve: Resolve, guard: Guard | None) -> None:
        self._resolve = resolve
        self._guard = guard

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Look `host` up. Raises OSError or BlockedAddress."""
        call, began = CALL.get(), time.perf_counter()
        try:
            addresses = await self._resolve(host)
        finally:
            call.exchange.dns_ms = (time.perf_counter() - began) * 1000
        if not addresses:
            raise OSError(f"{host} has no address")
        if self._guard is not None:
            self._guard.check_all(call.host, addresses, encrypted=call.encrypted)
        return [
            ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=0)
            for address in addresses
        ]

    async def close(self) -> None:
        """Nothing: the resolver belongs to whoever made it."""


class Connector(aiohttp.TCPConnector):
    """Connections without a limit of their own (see `Slots`).

    `keep_alive` is how many seconds an idle one may be used again; None makes a new one for every request.
    """

    def __init__(self, *, tls: ssl.SSLContext, resolve: Resolve, guard: Guard | None, keep_alive: float | None) -> None:
        self._guard = guard
        super().__init__(
            ssl=tls,
            limit=0,
            force_close=keep_alive is None,
            keepalive_timeout=keep_alive,
            use_dns_cache=False,
            resolver=Names(resolve, guard),
            socket_factory=self._open,
        )

    async def connect(self, req: ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout) -> Connection:
        """An established connection. Whatever fails in here failed before the first byte of the request."""
        call = CALL.get()
        if call.connection is not None:
            raise httpx.WriteError("a request is not sent a second time")
        began = time.perf_counter()
        try:
            async with asyncio.timeout(call.connect_timeout):
                connection = await super().connect(req, traces, timeout)
                while not call.opened and connection.protocol is not None and connection.protocol.should_close:
                    connection.close()  # what its server said meanwhile must not pass for our answer
                    connection = await super().connect(req, traces, timeout)
        except httpx.TransportError:
            raise
        except TimeoutError as error:
            raise httpx.ConnectTimeout(f"no connection to {call.host} in time") from error
        except Exception as error:
            raise httpx.ConnectError(str(error) or repr(error)) from error
        call.has(connection, began)
        return connection

    def _open(self, target: AddrInfoType) -> socket.socket:
        # Every address passes here right before it is connected to, a literal one too, which aiohttp never resolves.
        call = CALL.get()
        family, kind, protocol, _, sockaddr = target
        if self._guard is not None:
            self._guard.check(call.host, str(sockaddr[0]), encrypted=call.encrypted)
        call.opened = True
        return socket.socket(family, kind, protocol)
