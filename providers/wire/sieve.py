"""Files inside JSON: strings of tens of megabytes that are passed over, or taken out, without being held. Pure.

Some providers put a video as base64 into the answer of a poll. The strings of the members that may hold one are
numbered from 0 in the order of the text, so that a poll can say which one is the video and a download can find it.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable

_MARK = "inline:"
_LONGEST_NAME = 64
_SPACE = b" \t\r\n"
_END_OR_ESCAPE = re.compile(rb'["\\]')
_ESCAPE = re.compile(rb"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_OPEN_ESCAPE = re.compile(rb"\\(?:u[0-9a-fA-F]{0,3})?\Z")
_URL_SAFE = bytes.maketrans(b"-_", b"+/")


def inline_index(value: object) -> int | None:
    """The number of the string that a mark of `Sieve` stands for; None for anything else."""
    text = value.removeprefix(_MARK) if isinstance(value, str) and value.startswith(_MARK) else ""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else None


class Sieve:
    """Reads JSON in pieces and leaves out the strings of the named members: a mark stands in their places.

    Args:
        members: their names; one that is written with escapes is not recognised.
        take: is handed the pieces of the strings that are left out, as they are in the text: (number, bytes).
    """

    def __init__(self, members: frozenset[str], take: Callable[[int, bytes], None] | None = None) -> None:
        self._members = frozenset(name.encode() for name in members)
        self._take = take
        self._inside = self._taking = self._escaped = False
        self._between, self._text = b"", b""
        self._count = 0

    def passed(self, index: int) -> bool | None:
        """Whether the string of that number has been read to its end; None when it has not begun."""
        if self._count <= index:
            return None
        return self._count > index + 1 or not self._taking

    def feed(self, piece: bytes) -> bytes:
        """What is kept of the next piece."""
        kept, at = bytearray(), 0
        while at < len(piece):
            at = self._within(piece, at, kept) if self._inside else self._outside(piece, at, kept)
        return bytes(kept)

    def _outside(self, piece: bytes, at: int, kept: bytearray) -> int:
        """Up to the next string and into it. What stands before it tells whether it is a member's value."""
        quote = piece.find(b'"', at)
        stop = len(piece) if quote < 0 else quote
        kept += piece[at:stop]
        self._between = (self._between + piece[at:stop].translate(None, _SPACE))[:2]
        if quote < 0:
            return stop
        self._inside, self._taking = True, self._between == b":" and self._text in self._members
        if self._taking:
            kept += f'"{_MARK}{self._count}"'.encode()
            self._count += 1
        else:
            kept += b'"'
        self._between, self._text = b"", b""
        return quote + 1

    def _within(self, piece: bytes, at: int, kept: bytearray) -> int:
        stop = self._end_of_string(piece, at)
        part = piece[at:stop]
        if not self._taking:
            kept += part
            self._text = (self._text + part)[: _LONGEST_NAME + 1]
        elif self._take:
            self._take(self._count - 1, part)
        if stop == len(piece):
            return stop
        if not self._taking:
            kept += b'"'
        self._inside = self._taking = False
        return stop + 1

    def _end_of_string(self, piece: bytes, at: int) -> int:
        """Where the string's closing quote is; the piece's length when it is not in it."""
        at += self._escaped
        while match := _END_OR_ESCAPE.search(piece, at):
            if match[0] == b'"':
                self._escaped = False
                return match.start()
            at = match.end() + 1
        self._escaped = at > len(piece)
        return len(piece)


class Base64:
    """Decodes a JSON string of base64 in pieces, in either alphabet, with escapes and line breaks.

    `feed` and `end` return bytes as they become known; they raise ValueError for what is no base64.
    """

    def __init__(self) -> None:
        self._raw, self._digits = b"", b""
        self._padded = False

    def feed(self, piece: bytes) -> bytes:
        """The bytes that the next piece of the string completes."""
        raw = self._raw + piece
        cut = match.start() if (match := _OPEN_ESCAPE.search(raw)) else len(raw)
        raw, self._raw = raw[:cut], raw[cut:]
        if b"\\" in raw:
            raw = _ESCAPE.sub(_unescaped, raw)
        digits = self._digits + raw.translate(_URL_SAFE, _SPACE)
        whole = len(digits) // 4 * 4
        self._digits = digits[whole:]
        return self._decoded(digits[:whole])

    def end(self) -> bytes:
        """The last bytes, where padding was left away."""
        if self._raw:
            raise ValueError("the string ends within an escape")
        return self._decoded(self._digits + b"=" * (-len(self._digits) % 4))

    def _decoded(self, digits: bytes) -> bytes:
        if digits and self._padded:
            raise ValueError("base64 goes on after its end")
        self._padded = digits.endswith(b"=") or self._padded
        return binascii.a2b_base64(digits, strict_mode=True)


def _unescaped(match: re.Match[bytes]) -> bytes:
    if match[1] is not None:
        return chr(int(match[1], 16)).encode("utf-8", "replace")
    return {b"n": b"\n", b"r": b"\r", b"t": b"\t"}.get(match[2], match[2])
