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

from webhooks.answers import Reason
from webhooks.wire import printable

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
    Reason.PROXY_FAILED: "our egress proxy did not do its work and the receiver has no part in it; look at the proxy",
    Reason.FAILED: "the attempt failed in a way we have no word for",
}

# What OpenSSL says, and what is wrong then.
_TLS: tuple[tuple[str, str], ...] = (
    ("WRONG_VERSION_NUMBER|RECORD_LAYER|HTTP_REQUEST", "the port speaks plain HTTP; register the port that speaks TLS"),
    ("[Hh]ostname mismatch|IP address mismatch", "the certificate is for another name; get one for the URL's host"),
    ("has expired|not yet valid", "the certificate is out of date; renew it, and check the receiver's clock"),
    (
        "self[- ]signed|unable to get (local )?issuer|unable to verify the first",
        "nobody we know vouches for the certificate; send the whole chain, of a public authority",
    ),
    ("UNSUPPORTED_PROTOCOL|PROTOCOL_VERSION|protocol version", "the receiver's TLS is too old; it needs 1.2 or newer"),
)

# What a parser of HTTP says, and what is wrong then.
_HTTP: tuple[tuple[str, str], ...] = (
    (r"x1[56]\\x03", "the port speaks TLS; register the URL with https://"),
    ("Got more than|head is over", "the answer's headers are too large; send fewer and shorter ones"),
    ("Too many headers", "the answer has too many headers; send fewer"),
    ("switched protocols", "the receiver answered 101, which is for WebSockets; check the path, and answer 2xx"),
)

# What aiohttp puts around its words.
_NOISE = re.compile(r"^\d{3}, message: ?| Connection<.*")

# Closed without a word: what it calls its message is not for people.
_WORDLESS = "ServerDisconnectedError"

# Signs of how a TLS connection stands (it waits, it ended), not of what is wrong with it.
_STATES = (ssl.SSLWantReadError, ssl.SSLWantWriteError, ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)

# Looked for in this order, along the whole chain: the first is the most exact.
_BY_CLASS: tuple[tuple[type[BaseException] | str, Reason], ...] = (
    ("ProxyFailed", Reason.PROXY_FAILED),
    ("ProxyRefused", Reason.BLOCKED_ADDRESS),
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
    (_WORDLESS, Reason.RESET),
)

_BY_TEXT: tuple[tuple[str, Reason], ...] = (
    (r"certificate|\bssl\b|\btls\b", Reason.TLS),
    (r"getaddrinfo|name or service not known|nodename|name resolution|no address associated", Reason.DNS),
    (r"refused", Reason.REFUSED),
    (r"unreachable|no route to host", Reason.UNREACHABLE),
    (r"disconnected without|closed the connection without|reset by peer|broken pipe|not connected", Reason.RESET),
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
    told = [str(e) for e in _chain(error) if str(e) and not isinstance(e, _STATES) and not _is(e, _WORDLESS)]
    words = told[-1] if told else ""
    sentence = _SENTENCES[reason]
    if reason is Reason.BAD_HTTP:
        sentence = next((better for signs, better in _HTTP if re.search(signs, words)), sentence)
    if reason is Reason.TLS:
        sentence = next((better for signs, better in _TLS if re.search(signs, words)), sentence)
    elif any(_is(e, "ProxyRefused") for e in _chain(error)):
        sentence = "our egress proxy forbids this host; allow it there"
    words = _NOISE.sub("", " ".join(words.split()))
    return f"{sentence} ({printable(words)})" if words else sentence


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
