"""What the absence of an answer means: from an exception to a reason and a sentence for people. Pure.

Transports differ in what they raise for the same fault, and some hide the cause behind several layers. So the whole
chain of causes is read: first exact classes, then words, then the outermost class.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterator, Mapping

import httpx

from webhooks.answers import Reason, printable

_SENTENCES: Mapping[Reason, str] = {
    Reason.BAD_URL: "the URL cannot be used; register one like https://app.example/api/webhooks/worker",
    Reason.BLOCKED_ADDRESS: "the address is not allowed for outgoing requests; use a public one, or allow its network",
    Reason.DNS: "the host name was not found; check the spelling and its DNS records",
    Reason.REFUSED: "nothing listens on that port; check that the receiver runs, and the port in the URL",
    Reason.UNREACHABLE: "there is no route to the host; check the network between us",
    Reason.CONNECT_TIMEOUT: "the host did not accept a connection in time; a firewall may drop it",
    Reason.TLS: "the secure connection failed; check the certificate, its host name and the TLS version",
    Reason.TIMEOUT: "no answer within the time limit; answer first and do the work afterwards",
    Reason.RESET: "the connection was cut before an answer; look at the receiver's log for a crash",
    Reason.BAD_HTTP: "the answer was not HTTP as we understand it; check the port, and whether it wants https://",
    Reason.POOL: "all our connections were busy; nothing was sent, and nothing is wrong with the receiver",
    Reason.FAILED: "the attempt failed in a way we have no word for",
}

# Signs of how a TLS connection stands (it waits, it ended), not of what is wrong with it.
_STATES = (ssl.SSLWantReadError, ssl.SSLWantWriteError, ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)

# Looked for in this order, along the whole chain: the first is the most exact.
_BY_CLASS: tuple[tuple[type[BaseException] | str, Reason], ...] = (
    ("BlockedAddress", Reason.BLOCKED_ADDRESS),
    (ssl.SSLError, Reason.TLS),
    (socket.gaierror, Reason.DNS),
    (ConnectionRefusedError, Reason.REFUSED),
    (httpx.ConnectTimeout, Reason.CONNECT_TIMEOUT),
    (httpx.PoolTimeout, Reason.POOL),
    (httpx.TimeoutException, Reason.TIMEOUT),
    (httpx.InvalidURL, Reason.BAD_URL),
    (httpx.UnsupportedProtocol, Reason.BAD_URL),
    (TimeoutError, Reason.TIMEOUT),
    (httpx.ReadError, Reason.RESET),
    (httpx.WriteError, Reason.RESET),
)

_BY_TEXT: tuple[tuple[str, Reason], ...] = (
    (r"certificate|\bssl\b|\btls\b", Reason.TLS),
    (r"getaddrinfo|name or service not known|nodename|name resolution|no address associated", Reason.DNS),
    (r"refused", Reason.REFUSED),
    (r"unreachable|no route to host", Reason.UNREACHABLE),
    (r"disconnected without|reset by peer|broken pipe", Reason.RESET),
)

_LAST: tuple[tuple[type[BaseException], Reason], ...] = (
    (httpx.ConnectError, Reason.UNREACHABLE),
    (httpx.NetworkError, Reason.RESET),
    (ConnectionError, Reason.RESET),
    (httpx.ProtocolError, Reason.BAD_HTTP),
)


def classify(error: BaseException) -> Reason:
    """The reason of an attempt that got no answer, from the error and everything behind it."""
    chain = list(_chain(error))
    for kind, reason in _BY_CLASS:
        if any(_is(e, kind) for e in chain):
            return reason
    text = " ".join(str(e) for e in chain).lower()
    for pattern, reason in _BY_TEXT:
        if re.search(pattern, text):
            return reason
    return next((reason for kind, reason in _LAST if isinstance(error, kind)), Reason.FAILED)


def _is(error: BaseException, kind: type[BaseException] | str) -> bool:
    if isinstance(kind, str):
        return type(error).__name__ == kind
    return isinstance(error, kind) and not isinstance(error, _STATES)


def explain(error: BaseException, reason: Reason) -> str:
    """One sentence for people: what happened, what to do, and the innermost error's own words."""
    told = [str(e) for e in _chain(error) if str(e) and not isinstance(e, _STATES)]
    words = told[-1] if told else type(error).__name__
    if reason is Reason.TLS and ("WRONG_VERSION_NUMBER" in words or "RECORD_LAYER" in words):
        return "the port speaks plain HTTP; register http://, or the port that speaks TLS"
    return f"{_SENTENCES[reason]} ({printable(words)})"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, its causes, and the members of groups among them, from the outside in; at most 20."""
    waiting, seen = [error], 0
    while waiting and seen < 20:
        current, seen = waiting.pop(0), seen + 1
        yield current
        if isinstance(current, BaseExceptionGroup):
            waiting.extend(current.exceptions)
        behind = current.__cause__ or current.__context__
        if behind is not None:
            waiting.append(behind)
