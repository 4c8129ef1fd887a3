"""What came to the sink: read within bounds, and whether its signature is right."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from webhooks.signing import InvalidSignature, verify

MAX_HEAD = 65_536
MAX_BODY = 1 << 20


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as it came.

    Args:
        at: Unix seconds of its arrival.
        headers: names in lower case; of a repeated one the last.
        body: empty if it was not read.
        problem: what is wrong with its signature, None if it is right.
        behaviours: what it is met with.
        connection: which connection of the sink it came on, from 1; `encrypted` says whether over TLS.
    """

    at: float
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    problem: str | None
    behaviours: tuple[str, ...]
    connection: int
    encrypted: bool


@dataclass(frozen=True, slots=True)
class Head:
    """The first line and the headers of a request."""

    method: str
    path: str
    headers: Mapping[str, str]

    @property
    def length(self) -> int:
        """Bytes of the body; 0 where none or no readable number is announced."""
        text = self.headers.get("content-length", "")
        return min(int(text), MAX_BODY) if text.isascii() and text.isdigit() and len(text) < 10 else 0


async def read_head(reader: asyncio.StreamReader) -> Head | None:
    """The head of the next request; None when the peer has gone, or says what is no request."""
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return None
    first, *lines = raw.decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3:
        return None
    pairs = (line.partition(":") for line in lines if line)
    return Head(words[0], words[1], {name.strip().lower(): value.strip() for name, _, value in pairs})


def problem_of(secrets: Sequence[str], head: Head, body: bytes, now: float) -> str | None:
    """What is wrong with the signature, for people; None if it is right."""
    if not secrets:
        return "not checked: no secret is known"
    try:
        verify(secrets, head.headers, body, now=now)
    except InvalidSignature as error:
        return str(error)
    return None
