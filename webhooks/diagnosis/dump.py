"""A request as somebody saved it: raw HTTP, what curl prints or is called with, JSON, `dailies receive`'s lines."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

MAX_DUMP = 4 << 20
PARTS = ("id", "timestamp", "signature")

_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_STAMP = re.compile(r"\d\d:\d\d:\d\d  (?=[A-Z]+ )")
_REQUEST = re.compile(r"[A-Z]{3,10} \S+( HTTP/\d(\.\d)?)?( |$)")


class UnreadableDump(ValueError):
    """What was given is no request; the message says what is expected."""


@dataclass(frozen=True, slots=True)
class Dump:
    """A request as it was saved.

    Args:
        headers: names in lower case with dashes, each with every value that it came with.
        body: None if there was none.
        indented: the body was printed for people, so that its bytes are not those that came.
    """

    headers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    body: bytes | None = None
    indented: bool = False

    def values(self, part: str) -> tuple[str, ...]:
        """Of `id`, `timestamp` or `signature`, under the names of the standard or of Svix."""
        return self.headers.get(f"webhook-{part}") or self.headers.get(f"svix-{part}") or ()

    def merged(self, headers: Iterable[tuple[str, str]], body: bytes | None) -> Dump:
        """With headers and a body that were given beside it, which count more."""
        given = _grouped(headers)
        return Dump({**self.headers, **given}, self.body if body is None else body, self.indented and body is None)


def read_dump(raw: bytes) -> Dump:
    """Read it, whatever its form. Raises UnreadableDump."""
    if len(raw) > MAX_DUMP:
        raise UnreadableDump(f"the request is over {MAX_DUMP} bytes")
    start = raw.lstrip(b"\xef\xbb\xbf \t\r\n")
    if not start:
        return Dump()
    if start.startswith(b"curl "):
        return _from_command(start.decode("utf-8", "replace"))
    if start.startswith(b"{"):
        return _from_json(start)
    return _from_lines(start)


def _from_lines(raw: bytes) -> Dump:
    """A first line, headers up to an empty line, and the body as it is. `>` before lines is curl's own."""
    lines = raw.splitlines(keepends=True)
    if spoken := [line[1:].decode("latin-1").strip() for line in lines if line.startswith(b"> ")]:
        return Dump(_grouped(_pairs(spoken)), None)
    shown = _STAMP.match(lines[0].decode("latin-1")) is not None
    pairs: list[tuple[str, str]] = []
    rest = iter(range(len(lines)))
    for at in rest:
        text = lines[at].decode("latin-1").strip()
        if at == 0 and _REQUEST.match(_STAMP.sub("", text)):
            continue
        pair = _pair(text)
        if pair is None:
            rest = iter(range(at + (not text), len(lines)))
            break
        pairs.append(pair)
    if not pairs:
        raise UnreadableDump(_EXPECTED)
    body = b"".join(lines[at] for at in rest)
    return Dump(_grouped(pairs), body or None, indented=shown)


_EXPECTED = (
    "this is no request: a first line, headers one a line, an empty line and the body are expected;"
    ' or a curl command; or JSON like {"headers": {...}, "body": "..."}'
)


def _from_json(raw: bytes) -> Dump:
    try:
        read = json.loads(raw)
    except (ValueError, RecursionError):
        raise UnreadableDump(_EXPECTED) from None
    headers = read.get("headers")
    if isinstance(headers, dict):
        pairs = [(str(name), _joined(value)) for name, value in headers.items()]
    elif isinstance(headers, list):
        pairs = [(str(each[0]), _joined(each[1])) for each in headers if isinstance(each, list) and len(each) == 2]
    else:
        raise UnreadableDump(f"{_EXPECTED} (it is JSON without headers: give them with -H, and this by --body)")
    body = read.get("body", read.get("rawBody"))
    if body is None or isinstance(body, str):
        return Dump(_grouped(pairs), None if body is None else body.encode("utf-8", "surrogatepass"))
    return Dump(_grouped(pairs), json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode(), indented=True)


def _joined(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _from_command(text: str) -> Dump:
    """`curl -H 'name: value' -d BODY URL`, also over several lines."""
    try:
        words = shlex.split(text.replace("\\\n", " ").replace("\\\r\n", " "))
    except ValueError as error:
        raise UnreadableDump(f"the curl command cannot be read: {error}") from None
    headers, body = [], None
    for option, value in pairwise(words):
        if option in {"-H", "--header"} and (pair := _pair(value)):
            headers.append(pair)
        elif option in {"-d", "--data", "--data-raw", "--data-binary"} and not value.startswith("@"):
            body = value.encode("utf-8", "surrogateescape")
    if not headers:
        raise UnreadableDump("the curl command has no -H; the webhook's headers are needed")
    return Dump(_grouped(headers), body)


def _pairs(lines: Iterable[str]) -> list[tuple[str, str]]:
    return [pair for line in lines if (pair := _pair(line))]


def _pair(line: str) -> tuple[str, str] | None:
    """`name: value`, also with quotes and a comma as programs print their maps."""
    name, colon, value = line.rstrip(",").partition(":")
    name, value = name.strip("'\" "), value.strip()
    if not colon or not _NAME.fullmatch(name):
        return None
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        value = value[1:-1]
    return name, value


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    """By name as HTTP writes it: CGI's HTTP_WEBHOOK_ID is webhook-id."""
    grouped: dict[str, tuple[str, ...]] = {}
    for name, value in pairs:
        plain = name.lower().replace("_", "-").removeprefix("http-")
        grouped[plain] = (*grouped.get(plain, ()), value)
    return grouped
