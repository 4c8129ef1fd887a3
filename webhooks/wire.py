"""What went over the wire in an attempt: headers, bytes, the connection and where the time went. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

MAX_HEADERS = 20
"""Headers of an answer that are kept."""
MAX_NAME = 100
MAX_VALUE = 500

Headers = tuple[tuple[str, str], ...]


class Connection(StrEnum):
    """What an attempt was sent over. REPLACED: a reused one proved dead, and it was sent once more over a new one."""

    NEW = "new"
    REUSED = "reused"
    REPLACED = "replaced"


@dataclass(frozen=True, slots=True)
class Wire:
    """One attempt on the wire; what is not known is None or empty.

    Args:
        request_headers: as sent, signature included.
        request_bytes: bytes of the body that were handed to the socket.
        response_headers: the first 20, cut to 500 characters each, printable.
        connection: None if there was none.
        proxied: it went through the egress proxy, whose address is the one that was used.
        dns_ms, connect_ms, tls_ms, first_byte_ms: milliseconds; the first three are None on a reused connection.
    """

    request_headers: Headers = ()
    request_bytes: int | None = None
    response_headers: Headers = ()
    connection: Connection | None = None
    proxied: bool = False
    dns_ms: int | None = None
    connect_ms: int | None = None
    tls_ms: int | None = None
    first_byte_ms: int | None = None


def wire_of(exchange: object | None, *, sent: Headers, answered: Headers, again: bool) -> Wire:
    """Read a transport's record. Whatever it lacks is not known.

    Args:
        exchange: has `connected`, `reused`, `proxied`, `sent`, and times as `dns_ms` and so on; None for no record.
        sent: the request's headers.
        answered: the answer's, see `bounded`.
        again: it was the second try, over a new connection.
    """
    connection = None
    if getattr(exchange, "connected", False):
        connection = Connection.REUSED if getattr(exchange, "reused", False) else Connection.NEW
    if again:
        connection = Connection.REPLACED
    return Wire(
        request_headers=sent,
        request_bytes=getattr(exchange, "sent", None),
        response_headers=answered,
        connection=connection,
        proxied=bool(getattr(exchange, "proxied", False)),
        dns_ms=_whole(exchange, "dns_ms"),
        connect_ms=_whole(exchange, "connect_ms"),
        tls_ms=_whole(exchange, "tls_ms"),
        first_byte_ms=_whole(exchange, "first_byte_ms"),
    )


def bounded(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """The first headers of an answer, fit to be kept and shown: a receiver's cookies are nobody's business."""
    kept: list[tuple[str, str]] = []
    for name, value in headers:
        if len(kept) == MAX_HEADERS:
            break
        shown = printable(name[:MAX_NAME].decode("latin-1").lower(), MAX_NAME)
        kept.append((shown, "(not kept)" if shown == "set-cookie" else _text(value)))
    return tuple(kept)


def printable(text: str, most: int = 200) -> str:
    """Foreign text for our logs and pages: printable characters only, at most so many."""
    return "".join(c if c.isprintable() else "?" for c in text[:most])


def _text(value: bytes) -> str:
    return printable(value[:MAX_VALUE].decode("utf-8", "replace"), MAX_VALUE)


def _whole(exchange: object | None, name: str) -> int | None:
    value = getattr(exchange, name, None)
    return round(value) if isinstance(value, (int, float)) else None
