"""What became of one request on the wire, readable also when it ended in an exception."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Exchange:
    """Pass one as `extensions={"exchange": Exchange()}` of a request and read it afterwards; it tells of the last one.

    Args:
        address: the literal IP address of the connection that was used; the proxy's, where there is one between.
        proxied: the connection goes through EGRESS_PROXY.
        reused: the connection had carried a request before; a failure may be the server closing an idle one.
        connected: a connection, with TLS where asked for, was established. While False, surely nothing was sent.
        written: bytes of the request were handed to the socket.
        sent: bytes of the request's body that were handed to the socket.
        heard: the server sent something, if only a part of an answer's head.
        dns_ms: the name's lookup; None when there was none.
        connect_ms: TCP, and the proxy's consent where there is one; None on a reused connection.
        tls_ms: the handshake of TLS; None without one.
        first_byte_ms: from having a connection to having the answer's head.
    """

    address: str | None = None
    proxied: bool = False
    reused: bool = False
    connected: bool = False
    written: bool = False
    sent: int = 0
    heard: bool = False
    dns_ms: float | None = None
    connect_ms: float | None = None
    tls_ms: float | None = None
    first_byte_ms: float | None = None

    def restart(self) -> None:
        """Forget an earlier request."""
        self.address = self.dns_ms = self.connect_ms = self.tls_ms = self.first_byte_ms = None
        self.proxied = self.reused = self.connected = self.written = self.heard = False
        self.sent = 0
