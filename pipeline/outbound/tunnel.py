"""Through an egress proxy: one CONNECT, and whose fault it is when that fails.

The proxy carries TLS that it cannot read, so whatever it says itself it says in answer to CONNECT. Its own troubles
must not pass for the receiver's, and the other way round:

    ProxyFailed      an httpx.ConnectError: the proxy is down, wants other credentials, or broke
    ProxyRefused     an httpx.ConnectError: the proxy works and does not let anyone reach that host
    httpx.ConnectError  the proxy says that it could not reach the host
"""

from __future__ import annotations

import asyncio
import base64
import re
import socket
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

import httpx

MAX_HEAD = 16_384
"""Bytes of the proxy's answer to CONNECT."""

_TARGET_ERRORS = re.compile(
    r"error=\"?(dns_timeout|dns_error|destination_[a-z_]+|connection_[a-z_]+|tls_[a-z_]+)"  # RFC 9209, 2.3
)
_SQUID_TARGET_ERRORS = re.compile(r"ERR_(CONNECT_FAIL|DNS_FAIL|READ_TIMEOUT|CANNOT_FORWARD|UNSUP_REQ)")


class ProxyFailed(httpx.ConnectError):
    """The egress proxy did not do its work; the receiver has no part in it."""


class ProxyRefused(httpx.ConnectError):
    """The egress proxy's rules forbid that host."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy that speaks CONNECT. `authorization` is the value of Proxy-Authorization and is never shown."""

    host: str
    port: int
    authorization: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, url: str) -> Proxy:
        """Read `http://[user:password@]host[:port]`. Raises ValueError, which does not repeat the URL."""
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname or parts.path not in {"", "/"} or parts.query:
            raise ValueError("is no proxy: it looks like http://user:password@proxy.internal:3128")
        try:
            port = parts.port or 80
        except ValueError:
            raise ValueError("is no proxy: its port is not between 1 and 65535") from None
        user = None if parts.username is None else f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        encoded = None if user is None else f"Basic {base64.b64encode(user.encode()).decode()}"
        return cls(parts.hostname, port, encoded)

    @property
    def place(self) -> str:
        """Host and port, for people."""
        return f"{_bracketed(self.host)}:{self.port}"


async def connect_through(proxy: Proxy, sock: socket.socket, host: str, port: int) -> None:
    """Ask for a tunnel to `host` over a socket that is connected to the proxy. The caller bounds the time.

    Raises ProxyFailed, ProxyRefused or httpx.ConnectError; the caller closes the socket then.
    """
    loop = asyncio.get_running_loop()
    target = f"{_bracketed(host)}:{port}"
    head = f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n"
    if proxy.authorization is not None:
        head += f"Proxy-Authorization: {proxy.authorization}\r\n"
    try:
        await loop.sock_sendall(sock, f"{head}\r\n".encode("ascii"))
        answer = await _head(loop, sock)
    except OSError as error:
        raise ProxyFailed(f"the egress proxy {proxy.place} cut the connection: {error}") from error
    failure = judge_connect(answer, proxy.place, target)
    if failure is not None:
        raise failure


def judge_connect(head: bytes, place: str, target: str) -> httpx.ConnectError | None:
    """What an answer to CONNECT means; None is a tunnel. Pure.

    A proxy that could not reach the host says so in Proxy-Status (RFC 9209), X-Squid-Error or X-Smokescreen-Error; a
    5xx that says nothing is taken for the proxy's own.
    """
    found = re.match(rb"HTTP/1\.[01] ([1-9][0-9]{2})[ \r\n]", head)
    if found is None:
        return ProxyFailed(f"the egress proxy {place} did not answer as an HTTP proxy does")
    status, headers = int(found[1]), _headers(head)
    if 200 <= status <= 299:
        return None
    smokescreen = headers.get("x-smokescreen-error")
    if status == 407 and smokescreen is None:
        return ProxyFailed(f"the egress proxy {place} wants other credentials (407); correct those in EGRESS_PROXY")
    words = f"{status}, {_printable(smokescreen)}" if smokescreen else str(status)
    if 400 <= status <= 499:
        return ProxyRefused(f"the egress proxy {place} does not let us reach {target} ({words})")
    blames = _TARGET_ERRORS.search(headers.get("proxy-status", "")) or _SQUID_TARGET_ERRORS.search(
        headers.get("x-squid-error", "")
    )
    if smokescreen or blames:
        why = words if blames is None else f"{words}, {blames[0]}"
        return httpx.ConnectError(f"the egress proxy {place} could not reach {target} ({why})")
    return ProxyFailed(f"the egress proxy {place} failed with {words}")


async def _head(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> bytes:
    """The answer up to its empty line. Nothing can follow it: in TLS the client speaks first."""
    head = b""
    while not (end := head.find(b"\r\n\r\n")) >= 0:
        if len(head) > MAX_HEAD:
            return b""
        piece = await loop.sock_recv(sock, 4096)
        if not piece:
            raise ConnectionResetError("it closed before it had answered")
        head += piece
    return head[: end + 2]


def _headers(head: bytes) -> dict[str, str]:
    lines = head.decode("latin-1").split("\r\n")[1:]
    pairs = (line.partition(":") for line in lines if ":" in line)
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text[:200])
