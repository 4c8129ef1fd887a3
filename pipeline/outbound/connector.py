"""How a connection comes to be. Whatever fails in here failed before the first byte of the request was sent."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from typing import cast

import aiohappyeyeballs
import aiohttp
import httpx
from aiohappyeyeballs import AddrInfoType
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientRequest
from aiohttp.connector import Connection
from aiohttp.tracing import Trace

from pipeline.outbound.call import CALL, Call
from pipeline.outbound.heads import Heads
from pipeline.outbound.routes import Routes, timed_out


class Protocol(Heads):
    """A connection that knows where it goes, and whether its server has said anything since the last request."""

    heard = False
    proxied = False

    def data_received(self, data: bytes) -> None:
        """Note it and read on."""
        self.heard = True
        super().data_received(data)


class Connector(aiohttp.BaseConnector):
    """Connections without a limit of their own (see `Slots`).

    `keep_alive` is how many seconds an idle one may be used again; None makes a new one for every request.
    """

    def __init__(self, *, tls: ssl.SSLContext, routes: Routes, keep_alive: float | None) -> None:
        self._tls = tls
        self._routes = routes
        super().__init__(limit=0, force_close=keep_alive is None, keepalive_timeout=keep_alive)

    async def connect(self, req: ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout) -> Connection:
        """An established connection. Whatever fails in here failed before the first byte of the request."""
        call = CALL.get()
        if call.connection is not None:
            raise httpx.WriteError("a request is not sent a second time")
        try:
            async with asyncio.timeout(call.connect_timeout):
                connection = await super().connect(req, traces, timeout)
                while not call.opened and (call.fresh or _is_stale(connection)):
                    connection.close()  # what its server said meanwhile must not pass for our answer
                    connection = await super().connect(req, traces, timeout)
        except httpx.TransportError:
            raise
        except TimeoutError as error:
            raise timed_out(call) from error
        except Exception as error:
            raise httpx.ConnectError(str(error) or repr(error)) from error
        if connection.protocol is not None:
            protocol = cast("Protocol", connection.protocol)
            protocol.heard, call.exchange.proxied = False, protocol.proxied
        call.has(connection)
        return connection

    async def _create_connection(
        self, req: ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> ResponseHandler:
        """aiohttp's hook for connectors: a protocol over a new connection."""
        call, host, port = CALL.get(), req.url.raw_host or "", req.port or 0
        if host.endswith(".."):
            host = f"{host.rstrip('.')}."
        addresses = await self._routes.addresses(call, host, port)
        while True:
            sock = await self._routes.open(call, addresses, host, port)
            peer = _peer(sock)
            try:
                protocol = await self._start(call, sock, host, encrypted=req.is_ssl())
            except OSError:  # the next address may have another certificate, or a server at all
                if addresses is None or not _drop(addresses, peer):
                    raise
            else:
                protocol.proxied = addresses is None
                return protocol

    async def _start(self, call: Call, sock: socket.socket, host: str, *, encrypted: bool) -> Protocol:
        """The protocol over a connected socket, after TLS where that is asked for."""
        began, call.doing = time.perf_counter(), "the handshake of TLS"
        loop = asyncio.get_running_loop()
        _, protocol = await loop.create_connection(
            lambda: Protocol(loop=loop),
            sock=sock,
            ssl=self._tls if encrypted else None,
            server_hostname=host.rstrip(".") if encrypted else None,
        )
        if encrypted:
            call.exchange.tls_ms = (time.perf_counter() - began) * 1000
        return protocol


def _is_stale(connection: Connection) -> bool:
    return connection.protocol is not None and connection.protocol.should_close


def _peer(sock: socket.socket) -> tuple[str, int] | tuple[str, int, int, int] | None:
    try:
        peer: tuple[str, int] | tuple[str, int, int, int] = sock.getpeername()
    except OSError:  # it was reset already
        return None
    return peer


def _drop(addresses: list[AddrInfoType], peer: tuple[str, int] | tuple[str, int, int, int] | None) -> bool:
    """Take the address away that failed; whether others are left."""
    if peer is None:
        return False
    try:
        aiohappyeyeballs.remove_addr_infos(addresses, peer)
    except ValueError:
        return False
    return bool(addresses)
