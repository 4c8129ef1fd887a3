"""What became of one request on the wire, readable also when it ended in an exception."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Exchange:
    """Pass one as `extensions={"exchange": Exchange()}` of a request and read it afterwards; it tells of the last one.

    Args:
        address: the literal IP address of the connection that was used.
        reused: the connection had carried a request before; a failure may be the server closing an idle one.
        connected: a connection, with TLS where asked for, was established. While False, surely nothing was sent.
        written: bytes of the request were handed to the socket.
        dns_ms: the name's lookup; None when there was none.
        connect_ms: TCP and TLS together, without the lookup; None on a reused connection.
        first_byte_ms: from having a connection to having the answer's head.
    """

    address: str | None = None
    reused: bool = False
    connected: bool = False
    written: bool = False
    dns_ms: float | None = None
    connect_ms: float | None = None
    first_byte_ms: float | None = None

    def restart(self) -> None:
        """Forget an earlier request."""
        self.address = self.dns_ms = self.connect_ms = self.first_byte_ms = None
        self.reused = self.connected = self.written = False
