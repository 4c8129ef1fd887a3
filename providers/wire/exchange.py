"""One request and its answer, read whole and bounded."""

from __future__ import annotations

import contextlib
import json
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from providers.wire.sieve import Sieve

MAX_ANSWER = 1 << 20
MAX_INLINE = 1 << 29
"""Bytes of an answer that may hold a file: base64 of 15 s in 4K is some 150 MB."""
_GZIP_OR_ZLIB = 47
_PLAIN = frozenset({"", "identity"})

WIRE_ERRORS = (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError, OverflowError, ExceptionGroup)
"""What a request may raise on its way: ValueError comes of names (IDNA) and headers that cannot be written,
OverflowError of ports, alone or in a group."""


@dataclass(frozen=True, slots=True)
class Clients:
    """The three clients that an adapter is handed.

    Args:
        submit: for possibly-paid calls: a new connection each, no retry; its errors say truly whether bytes were sent.
        calls: for polls, cancels and lookups: connections are reused.
        fetch: for downloads: refuses addresses that a provider has no business naming.
        clock: Unix seconds, for what is signed with a time.
    """

    submit: httpx.AsyncClient
    calls: httpx.AsyncClient
    fetch: httpx.AsyncClient
    clock: Callable[[], float] = time.time


@dataclass(frozen=True, slots=True)
class Call:
    """A request as a value, which pure `build_*` functions return. `json` None means: no JSON body.

    `form` (a text or several by name) makes a multipart body, with `files` as name -> (file name, bytes, MIME type) in
    it; `urlencoded` makes the body of a plain HTML form.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    json: Any = None
    params: Mapping[str, str] = field(default_factory=dict)
    form: Mapping[str, str | Sequence[str]] | None = None
    files: Mapping[str, tuple[str, bytes, str]] = field(default_factory=dict)
    urlencoded: Mapping[str, str] | None = None

    def request(self, client: httpx.AsyncClient) -> httpx.Request:
        """The request for this client. Raises httpx.InvalidURL; TypeError and ValueError for what cannot be written."""
        headers = {"accept": "application/json", "accept-encoding": "identity", **self.headers}
        params = dict(self.params) or None
        if self.urlencoded is not None:
            return client.build_request(
                self.method, self.url, headers=headers, data=dict(self.urlencoded), params=params
            )
        if self.form is None:
            return client.build_request(self.method, self.url, headers=headers, json=self.json, params=params)
        parts: list[tuple[str, tuple[str | None, bytes] | tuple[str, bytes, str]]] = [
            (name, (None, text.encode()))
            for name, texts in self.form.items()
            for text in ([texts] if isinstance(texts, str) else texts)
        ]
        parts += list(self.files.items())
        return client.build_request(self.method, self.url, headers=headers, files=parts, params=params)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. `content` is None when the body was cut, too long or could not be unpacked."""

    status: int
    headers: Mapping[str, str]
    content: bytes | None

    def json(self) -> object:
        """The body as JSON. Raises ValueError when it is none."""
        if self.content is None:
            raise ValueError("the body is not complete")
        try:
            parsed: object = json.loads(self.content)
        except RecursionError as error:
            raise ValueError("the body is nested too deeply") from error
        return parsed

    def document(self) -> dict[str, Any]:
        """The body as a JSON object. Raises ValueError when it is none."""
        parsed = self.json()
        if not isinstance(parsed, dict):
            raise ValueError("the body is not a JSON object")
        return parsed

    def json_or_none(self) -> object:
        """The body as JSON, or None when it is none."""
        try:
            return self.json()
        except ValueError:
            return None


async def exchange(
    client: httpx.AsyncClient, request: httpx.Request, *, inline: frozenset[str] = frozenset()
) -> Answer:
    """Send once, follow nothing, read at most MAX_ANSWER bytes. Raises httpx.HTTPError when no status line came.

    The strings of the members named by `inline` count only up to MAX_INLINE: see `providers.wire.sieve`.
    """
    response = await client.send(request, stream=True, follow_redirects=False)
    try:
        content = await read_body(response, inline)
    finally:
        with contextlib.suppress(httpx.HTTPError):
            await response.aclose()
    return Answer(response.status_code, response.headers, content)


async def read_body(response: httpx.Response, inline: frozenset[str] = frozenset()) -> bytes | None:
    """The body, unpacked and without the strings of `inline`; None when it was cut, is too long or cannot be
    unpacked."""
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    sieve = Sieve(inline) if inline and encoding in _PLAIN else None
    body, received = bytearray(), 0
    try:
        async for chunk in response.aiter_raw():
            received += len(chunk)
            body += sieve.feed(chunk) if sieve else chunk
            if len(body) > MAX_ANSWER or received > MAX_INLINE:
                return None
        unpacked = _unpack(bytes(body), encoding)
    except (httpx.HTTPError, zlib.error):
        return None
    return Sieve(inline).feed(unpacked) if inline and unpacked and sieve is None else unpacked


def _unpack(body: bytes, encoding: str) -> bytes | None:
    if encoding in _PLAIN:
        return body
    if encoding not in {"gzip", "deflate"}:
        return None
    unpacked = zlib.decompressobj(_GZIP_OR_ZLIB).decompress(body, MAX_ANSWER + 1)
    return unpacked if len(unpacked) <= MAX_ANSWER else None
