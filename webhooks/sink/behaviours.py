"""The named ways to be a bad receiver: each changes a part of an answer, so that they can be combined. Pure."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from email.utils import formatdate
from functools import cache
from typing import Any

from webhooks.sink.answer import Answer, Certificate, Cut, Ending, Framing, Greeting

MIB = 1 << 20
ENDLESS = 1 << 40
"""More pieces than anybody waits for."""
DRIP = 0.2
"""Seconds between two bytes of what is slow."""


@dataclass(frozen=True, slots=True)
class Argument:
    """What stands behind `=`: its name for help, what it is without being given (None: it must be), its check."""

    name: str
    default: str | None
    check: Callable[[str], bool]


Change = Callable[[Answer, str, float], Answer]
"""The answer so far, the argument and the time (Unix seconds) to the answer with this behaviour."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """One way to be bad: under which heading it is listed, what it does, how, and its argument if it takes one."""

    section: str
    meaning: str
    change: Change
    argument: Argument | None = None


def _sets(**members: Any) -> Change:
    return lambda answer, _argument, _now: replace(answer, **members)


def _adds(*headers: tuple[bytes, bytes], **members: Any) -> Change:
    return lambda answer, _argument, _now: replace(answer, headers=(*answer.headers, *headers), **members)


def _is_seconds(text: str) -> bool:
    try:
        return 0 <= float(text) <= 3600  # NaN is in no range
    except ValueError:
        return False


def _seconds(default: str | None) -> Argument:
    return Argument("SECONDS", default, _is_seconds)


def _is_word(text: str) -> bool:
    return 0 < len(text) <= 200 and text.isascii() and text.isprintable()


_NUMBER = Argument("CODE", None, lambda text: text.isascii() and text.isdigit() and len(text) <= 5)
_REDIRECT = Argument("CODE", "301", lambda text: text in {"300", "301", "302", "303", "307", "308"})
_WORD = Argument("VALUE", None, _is_word)
_FLOOD = b"x" * 65_536


def _status(answer: Answer, argument: str, _now: float) -> Answer:
    return replace(answer, status=argument)


def _location(answer: Answer, argument: str, _now: float) -> Answer:
    status = answer.status if answer.status.startswith("3") else "302"
    return replace(answer, status=status, headers=(*answer.headers, (b"Location", argument.encode())))


_ODD_WAITS: Mapping[str, Callable[[float], str]] = {
    "date": lambda now: formatdate(now + 60, usegmt=True),
    "past": lambda now: formatdate(now - 3600, usegmt=True),
    "garbage": lambda _: "soon, maybe",
    "negative": lambda _: "-5",
    "huge": lambda _: "9" * 20,
}


def _retry_after(answer: Answer, argument: str, now: float) -> Answer:
    value = _ODD_WAITS[argument](now) if argument in _ODD_WAITS else argument
    status = "503" if answer.status.startswith("2") else answer.status
    return replace(answer, status=status, headers=(*answer.headers, (b"Retry-After", value.encode())))


def _late(field: str) -> Change:
    def change(answer: Answer, argument: str, _now: float) -> Answer:
        members: dict[str, Any] = {field: float(argument)}
        return replace(answer, **members)

    return change


def _slow_body(answer: Answer, argument: str, _now: float) -> Answer:
    return replace(answer, body=answer.body or b"thank you for the event\n" * 40, body_every=float(argument))


@cache
def bomb() -> bytes:
    """261 kB that unpack to 256 MiB: a gzip file may have many members."""
    return gzip.compress(bytes(MIB)) * 256


@cache
def nested() -> bytes:
    """A few hundred bytes that unpack twice to 256 MiB."""
    return gzip.compress(gzip.compress(bytes(MIB)) * 256)


def _packed(make: Callable[[], bytes], encoding: bytes) -> Change:
    return lambda answer, _argument, _now: replace(
        answer, headers=(*answer.headers, (b"Content-Encoding", encoding)), body=make()
    )


_PAGE = b"<!doctype html><html><title>Log in</title><body>Authentication required: log in to see this deployment"
ALERT = b"\x15\x03\x01\x00\x02\x02\x46"
"""Of TLS: fatal, protocol_version. What a server says to plain HTTP, and an old one to a new client."""

BEHAVIOURS: Mapping[str, Behaviour] = {
    "ok": Behaviour("status", "an empty 200", _sets()),
    "status": Behaviour("status", "this status, also one that does not exist", _status, _NUMBER),
    "redirect": Behaviour(
        "status",
        "a redirect to another path",
        lambda answer, argument, now: _location(replace(answer, status=argument), "/moved/here", now),
        _REDIRECT,
    ),
    "location": Behaviour("status", "a redirect to this address", _location, _WORD),
    "trailing-slash": Behaviour(
        "status", "308 to the same path with a slash behind it", _sets(status="308", slash=True)
    ),
    "retry-after": Behaviour(
        "status", f"503 (or another failure) and Retry-After; also: {' '.join(_ODD_WAITS)}", _retry_after, _WORD
    ),
    "login-page": Behaviour(
        "status",
        "401 with a page to log in, as deployment protection answers",
        _adds((b"Content-Type", b"text/html; charset=utf-8"), status="401", body=_PAGE),
    ),
    "early-413": Behaviour(
        "status",
        "413 before the request's body was read, then close",
        _sets(status="413", unread=True, ending=Ending.CLOSE),
    ),
    "set-cookie": Behaviour(
        "status", "3 kB of cookies", _adds(*[(b"Set-Cookie", b"c%d=" % n + b"x" * 1_000) for n in range(3)])
    ),
    "silence": Behaviour("time", "no answer, ever", _sets(cut=Cut.START, ending=Ending.HANG)),
    "latency": Behaviour("time", "an answer after so many seconds", _late("delay"), _seconds(None)),
    "slow-headers": Behaviour("time", "the headers byte by byte", _late("head_every"), _seconds(str(DRIP))),
    "slow-body": Behaviour("time", "the body byte by byte", _slow_body, _seconds(str(DRIP))),
    "no-body-ever": Behaviour("time", "a promised body that never comes", _sets(promised=500, ending=Ending.HANG)),
    "endless-103": Behaviour(
        "time",
        "early hints without end",
        _sets(interim=b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", interim_every=0.02),
    ),
    "no-accept": Behaviour("time", "no connection is accepted (alone only)", _sets(greeting=Greeting.BLACKHOLE)),
    "huge-body": Behaviour("size", "300 MB", _sets(body=_FLOOD, floods=4_578)),
    "endless-body": Behaviour(
        "size", "a body without end", _sets(body=_FLOOD, floods=ENDLESS, framing=Framing.CHUNKED)
    ),
    "gzip-bomb": Behaviour("size", "261 kB that unpack to 256 MiB", _packed(bomb, b"gzip")),
    "gzip-in-gzip": Behaviour("size", "a few hundred bytes that unpack to 256 MiB", _packed(nested, b"gzip, gzip")),
    "broken-gzip": Behaviour("size", "says gzip and is none", _packed(lambda: b"nope", b"gzip")),
    "huge-header": Behaviour("size", "one header of 300 kB", _adds((b"X-Huge", b"a" * 300_000))),
    "many-headers": Behaviour("size", "5,000 headers", _adds(*[(b"X-Many-%d" % n, b"a") for n in range(5_000)])),
    "reset": Behaviour("connection", "reset after the request", _sets(cut=Cut.START, ending=Ending.RESET)),
    "reset-on-connect": Behaviour("connection", "reset before the request", _sets(greeting=Greeting.RESET)),
    "reset-in-headers": Behaviour("connection", "reset in the headers", _sets(cut=Cut.HEAD, ending=Ending.RESET)),
    "reset-in-body": Behaviour(
        "connection", "reset in the body", _sets(cut=Cut.BODY, ending=Ending.RESET, body=b"half of it")
    ),
    "close": Behaviour("connection", "closed without an answer", _sets(cut=Cut.START, ending=Ending.CLOSE)),
    "close-in-headers": Behaviour("connection", "closed in the headers", _sets(cut=Cut.HEAD, ending=Ending.CLOSE)),
    "short-body": Behaviour("connection", "closed in the body", _sets(body=b"x", promised=500, ending=Ending.CLOSE)),
    "no-length": Behaviour(
        "connection", "a body that ends with the connection", _sets(framing=Framing.CLOSE, ending=Ending.CLOSE)
    ),
    "http10": Behaviour(
        "connection",
        "HTTP/1.0",
        _sets(version=b"HTTP/1.0", framing=Framing.CLOSE, body=b"fine", ending=Ending.CLOSE),
    ),
    "dead-keep-alive": Behaviour("connection", "a connection dies at its second request", _sets(dies=True)),
    "idle-close": Behaviour(
        "connection", "closed after so many seconds without a request", _late("idle"), _seconds("5")
    ),
    "body-on-204": Behaviour("bytes", "204 with a body", _sets(status="204", body=b"no content, really")),
    "two-answers": Behaviour(
        "bytes", "a second answer that nobody asked for", _sets(trailer=b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")
    ),
    "two-lengths": Behaviour("bytes", "two different lengths", _adds((b"Content-Length", b"1"), body=b"xx")),
    "broken-chunks": Behaviour(
        "bytes",
        "chunks that are none",
        _adds((b"Transfer-Encoding", b"chunked"), framing=Framing.CLOSE, body=b"ZZ\r\nxx", ending=Ending.CLOSE),
    ),
    "odd-charset": Behaviour(
        "bytes",
        "a charset that is none, and bytes of no charset",
        _adds((b"Content-Type", b"text/plain; charset=rot13"), body=b"\xff\xfe\x00"),
    ),
    "latin1-header": Behaviour("bytes", "a header in latin-1", _adds((b"X-Place", b"caf\xe9"))),
    "bad-header": Behaviour("bytes", "a header whose name is none", _adds((b"X Caf\xe9", b"1"))),
    "no-reason": Behaviour("bytes", "a status line without words", _sets(reason="")),
    "garbage": Behaviour(
        "bytes", "bytes that are not HTTP", _sets(raw=b"\x00\xffgarbage\r\n\r\n", ending=Ending.CLOSE)
    ),
    "http09": Behaviour("bytes", "a page without a head", _sets(raw=b"<html>hello</html>\r\n", ending=Ending.CLOSE)),
    "tls-self-signed": Behaviour("tls", "a self-signed certificate", _sets(certificate=Certificate.SELF_SIGNED)),
    "tls-wrong-name": Behaviour("tls", "a certificate of another name", _sets(certificate=Certificate.WRONG_NAME)),
    "tls-expired": Behaviour("tls", "an expired certificate", _sets(certificate=Certificate.EXPIRED)),
    "tls-old": Behaviour("tls", "TLS 1.1 and nothing newer", _sets(greeting=Greeting.OLD)),
    "tls-stall": Behaviour("tls", "a handshake that never goes on", _sets(greeting=Greeting.STALL)),
    "plain-http": Behaviour("tls", "plain HTTP to those who speak TLS", _sets(greeting=Greeting.PLAIN)),
    "speaks-tls": Behaviour(
        "tls", "TLS to those who speak plain HTTP", _sets(greeting=Greeting.ALERT, raw=ALERT, ending=Ending.CLOSE)
    ),
}
"""Every behaviour by its name. All but those of `tls` work over http and https alike."""


def with_slash(answer: Answer, path: str) -> Answer:
    """The answer to a request for `path`: a redirect that only adds a slash needs to know it."""
    if not answer.slash:
        return answer
    here, _, query = path.partition("?")
    target = f"{here.rstrip('/')}/{'?' if query else ''}{query}"
    return replace(answer, headers=(*answer.headers, (b"Location", target.encode("ascii", "replace"))))
