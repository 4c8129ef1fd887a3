"""What a body may have been turned into on its way, each with what did it if the signature fits what it was. Pure."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

BOM = b"\xef\xbb\xbf"
RAW = "verify the raw bytes of the body, before any parser sees them"
PARSED = f"the body was parsed and written again: {RAW} (`await request.text()`, `express.raw`, `await request.body()`)"


@dataclass(frozen=True, slots=True)
class Form:
    """The bytes that a body may have had when it was signed; `mend` is None for the body as it is."""

    body: bytes
    mend: str | None


def forms(body: bytes) -> Iterator[Form]:
    """Every form, the body itself first, none twice."""
    seen: set[bytes] = set()
    for made, mend in _made(body):
        if made is not None and made not in seen:
            seen.add(made)
            yield Form(made, mend)


def _made(body: bytes) -> Iterator[tuple[bytes | None, str | None]]:
    yield body, None
    yield body.rstrip(b"\r\n"), "line ends were added to the body (an editor or echo does that): save it byte by byte"
    yield body.strip(), f"white space was added around the body: {RAW}"
    for end in (b"\n", b"\r\n"):
        yield body + end, f"a line's end was cut off the body: {RAW}, untrimmed"
    yield body.removeprefix(BOM), "a byte order mark was put before the body: save and read it as UTF-8 without one"
    yield BOM + body, f"a byte order mark was cut off the body: {RAW}"
    yield body.replace(b"\r\n", b"\n"), "line ends were turned into CRLF: read and save the body as binary"
    yield body.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"), "CRLF was turned into LF: read the body as binary"
    yield from _reparsed(body)
    yield from _recoded(body)
    yield b"", f"the body was empty where it was signed or verified: something had read it already; {RAW}"


def _reparsed(body: bytes) -> Iterator[tuple[bytes | None, str | None]]:
    try:
        value: Any = json.loads(body)
    except (ValueError, RecursionError):
        return
    if isinstance(value, str):
        yield value.encode("utf-8", "replace"), "the body is a JSON text with the JSON inside: it was stringified twice"
    plain: dict[str, Any] = {"separators": (",", ":"), "ensure_ascii": False}
    styles: tuple[tuple[dict[str, Any], str], ...] = (
        (plain, PARSED),
        ({"ensure_ascii": False}, PARSED),
        ({}, PARSED),
        ({"separators": (",", ":")}, PARSED),
        (plain | {"sort_keys": True}, f"{PARSED}, with its keys sorted"),
        ({"indent": 2, "ensure_ascii": False}, PARSED),
        ({"indent": 4}, PARSED),
    )
    for style, mend in styles:
        for each in (value, _whole(value)):
            try:
                yield json.dumps(each, **style).encode(), mend
            except (ValueError, RecursionError):  # lone surrogates have no bytes
                continue
    slashes = json.dumps(value, separators=(",", ":")).replace("/", "\\/")
    yield slashes.encode(), f"{PARSED} (PHP's json_encode escapes slashes)"


def _whole(value: Any) -> Any:
    """Numbers as JavaScript writes them: 8.0 is 8."""
    if isinstance(value, dict):
        return {name: _whole(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_whole(member) for member in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 1e21 else value


def _recoded(body: bytes) -> Iterator[tuple[bytes | None, str | None]]:
    wrong = "the body was read in another charset than UTF-8: " + RAW
    yield _try(lambda: body.decode().encode("latin-1")), wrong
    yield _try(lambda: body.decode().encode("cp1252")), wrong
    yield _try(lambda: body.decode("latin-1").encode()), wrong
    yield (
        _try(lambda: base64.b64decode(body.strip(), validate=True)),
        "the body is base64 (a gateway set isBase64Encoded): decode it before verifying",
    )
    yield _try(lambda: unquote_plus(body.decode()).encode()), f"a form parser took the body: {RAW}"


def _try(make: Any) -> bytes | None:
    try:
        made: bytes = make()
    except (UnicodeError, binascii.Error, ValueError):
        return None
    return made
