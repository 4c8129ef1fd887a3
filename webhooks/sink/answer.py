"""An answer as a value, and what has to be done on a socket to give it. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus

Header = tuple[bytes, bytes]


class Greeting(StrEnum):
    """What a connection meets before its first request."""

    WELL = "well"
    BLACKHOLE = "blackhole"
    RESET = "reset"
    STALL = "stall"
    PLAIN = "plain"
    ALERT = "alert"
    OLD = "old"


class Certificate(StrEnum):
    """Which certificate is shown to those who speak TLS."""

    GOOD = "good"
    SELF_SIGNED = "self-signed"
    WRONG_NAME = "wrong-name"
    EXPIRED = "expired"


class Ending(StrEnum):
    """What follows the last byte."""

    KEEP = "keep"
    CLOSE = "close"
    RESET = "reset"
    HANG = "hang"


class Framing(StrEnum):
    """How the body's end is told."""

    LENGTH = "length"
    CHUNKED = "chunked"
    CLOSE = "close"


class Cut(StrEnum):
    """Where the answer breaks off and its ending comes."""

    START = "start"
    HEAD = "head"
    BODY = "body"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Answer:
    """What one request gets. As it is: an empty 200, and the connection is kept.

    Args:
        interim: bytes before the answer, said every `interim_every` seconds for ever, if that is set.
        delay: seconds before the first byte.
        status: the number as it is written, which need not be one.
        body: said once, or `floods` times.
        promised: the Content-Length that is claimed, if it is not the body's.
        head_every: seconds between two bytes of the head, `body_every` of the body; 0 says all at once.
        raw: said instead of head and body.
        trailer: said after the body.
        unread: the request's body is not read first.
        dies: the connection's second request is not answered.
        slash: redirects to the same path with a slash behind it.
        idle: seconds after which the connection is closed when nothing came; None keeps it.
    """

    greeting: Greeting = Greeting.WELL
    certificate: Certificate = Certificate.GOOD
    interim: bytes = b""
    interim_every: float | None = None
    delay: float = 0.0
    version: bytes = b"HTTP/1.1"
    status: str = "200"
    reason: str | None = None
    headers: tuple[Header, ...] = ()
    framing: Framing = Framing.LENGTH
    body: bytes = b""
    floods: int = 1
    promised: int | None = None
    head_every: float = 0.0
    body_every: float = 0.0
    raw: bytes | None = None
    trailer: bytes = b""
    cut: Cut = Cut.NEVER
    ending: Ending = Ending.KEEP
    unread: bool = False
    dies: bool = False
    idle: float | None = None
    slash: bool = False


@dataclass(frozen=True, slots=True)
class Say:
    """Write bytes: all at once, or one every so many seconds."""

    data: bytes
    every: float = 0.0


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait, in seconds."""

    seconds: float


Act = Say | Pause | Ending


def acts(answer: Answer) -> Iterator[Act]:
    """What to do, in order; the last is an Ending. May go on for ever."""
    if answer.delay:
        yield Pause(answer.delay)
    while answer.interim:
        yield Say(answer.interim)
        if answer.interim_every is None:
            break
        yield Pause(answer.interim_every)
    if answer.cut is Cut.START:
        yield answer.ending
        return
    if answer.raw is not None:
        yield Say(answer.raw)
    else:
        yield from _spoken(answer)
    yield answer.ending


def _spoken(answer: Answer) -> Iterator[Act]:
    head = _head(answer)
    if answer.cut is Cut.HEAD:
        yield Say(head[: len(head) - 4], answer.head_every)
        return
    yield Say(head, answer.head_every)
    if answer.cut is Cut.BODY:
        yield Say(answer.body[: len(answer.body) // 2])
        return
    for _ in range(answer.floods):
        piece = answer.body
        if answer.framing is Framing.CHUNKED:
            piece = b"%x\r\n%b\r\n" % (len(piece), piece)
        yield Say(piece, answer.body_every)
    yield Say((b"0\r\n\r\n" if answer.framing is Framing.CHUNKED else b"") + answer.trailer)


def _head(answer: Answer) -> bytes:
    line = b" ".join((answer.version, answer.status.encode(), *_reason(answer)))
    headers = list(answer.headers)
    bodiless = not answer.body and answer.status in {"204", "304", "101"}
    if answer.framing is Framing.LENGTH and not bodiless:
        length = len(answer.body) * answer.floods if answer.promised is None else answer.promised
        headers.append((b"Content-Length", b"%d" % length))
    elif answer.framing is Framing.CHUNKED:
        headers.append((b"Transfer-Encoding", b"chunked"))
    if answer.ending is not Ending.KEEP:
        headers.append((b"Connection", b"close"))
    return b"".join((line, b"\r\n", *(b"%b: %b\r\n" % header for header in headers), b"\r\n"))


def _reason(answer: Answer) -> tuple[bytes, ...]:
    if answer.reason is not None:
        return (answer.reason.encode(),) if answer.reason else ()
    try:
        return (HTTPStatus(int(answer.status)).phrase.encode(),)
    except ValueError:
        return (b"Odd",)
