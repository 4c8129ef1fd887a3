"""What one request carries through aiohttp, from seam to seam."""

from __future__ import annotations

import asyncio
import time
from contextvars import ContextVar
from dataclasses import dataclass

from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection

from pipeline.outbound.exchange import Exchange


@dataclass(slots=True)
class Call:
    """One request on its way through aiohttp: its limits in seconds, its record, and how far it came.

    `fresh` asks for a connection that carried nothing before. `doing` is what a connection that is being made waits
    for, in words.
    """

    exchange: Exchange
    host: str
    encrypted: bool
    connect_timeout: float | None
    write_timeout: float | None
    fresh: bool = False
    doing: str = ""
    opened: bool = False
    ready_at: float = 0.0
    connection: Connection | None = None
    protocol: ResponseHandler | None = None
    transport: asyncio.Transport | None = None
    write_failure: Exception | None = None

    def has(self, connection: Connection) -> None:
        """Note that the request has its connection."""
        self.ready_at = time.perf_counter()
        self.connection, self.protocol, self.transport = connection, connection.protocol, connection.transport
        record = self.exchange
        record.connected, record.reused = True, not self.opened
        if self.transport is not None:
            peer = self.transport.get_extra_info("peername")  # None if the peer was quick to reset it
            record.address = peer[0] if peer else None

    def abort(self) -> None:
        """Drop the connection at once: a TLS farewell to a peer that hangs would hold the socket for half a minute."""
        if self.transport is not None:
            self.transport.abort()


CALL: ContextVar[Call] = ContextVar("outbound_call")
"""The call of this task; aiohttp offers no other way from a request to its resolver and its sockets."""
