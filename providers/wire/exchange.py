"""One request and its answer, read whole and bounded."""

from __future__ import annotations

import contextlib
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

MAX_ANSWER = 1 << 20
_GZIP_OR_ZLIB = 47


@dataclass(frozen=True, slots=True)
class Clients:
    """The three clients that an adapter is handed.

    Args:
        submit: for possibly-paid calls: a new connection each, no retry; its errors say truly whether bytes were sent.
        calls: for polls, cancels and lookups: connections are reused.
        fetch: for downloads: refuses addresses that a provider has no business naming.
    """

    submit: httpx.AsyncClient
    calls: httpx.AsyncClient
    fetch: httpx.AsyncClient


@dataclass(frozen=True, slots=True)
class Call:
    """A request as a value, which pure `build_*` functions return. `json` None means: no JSON body.

    `form` (texts by name) makes a multipart body, with `files` as name -> (file name, bytes, MIME type) in it.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    json: Any = None
    params: Mapping[str, str] = field(default_factory=dict)
    form: Mapping[str, str] | None = None
    files: Mapping[str, tuple[str, bytes, str]] = field(default_factory=dict)

    def request(self, client: httpx.AsyncClient) -> httpx.Request:
        """The request for this client. Raises httpx.InvalidURL; TypeError and ValueError for what cannot be written."""
        headers = {"accept": "application/json", "accept-encoding": "identity", **self.headers}
        params = dict(self.params) or None
        if self.form is None:
            return client.build_request(self.method, self.url, headers=headers, json=self.json, params=params)
        parts: list[tuple[str, tuple[str | None, bytes] | tuple[str, bytes, str]]] = [
            (name, (None, text.encode())) for name, text in self.form.items()
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


async def exchange(client: httpx.AsyncClient, request: httpx.Request) -> Answer:
    """Send once, follow nothing, read at most MAX_ANSWER bytes. Raises httpx.HTTPError when no status line came."""
    response = await client.send(request, stream=True, follow_redirects=False)
    try:
        content = await _read(response)
    finally:
        with contextlib.suppress(httpx.HTTPError):
            await response.aclose()
    return Answer(response.status_code, response.headers, content)


async def _read(response: httpx.Response) -> bytes | None:
    body = bytearray()
    try:
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > MAX_ANSWER:
                return None
        return _unpack(bytes(body), response.headers.get("content-encoding", "identity").strip().lower())
    except (httpx.HTTPError, zlib.error):
        return None


def _unpack(body: bytes, encoding: str) -> bytes | None:
    if encoding in {"", "identity"}:
        return body
    if encoding not in {"gzip", "deflate"}:
        return None
    unpacked = zlib.decompressobj(_GZIP_OR_ZLIB).decompress(body, MAX_ANSWER + 1)
    return unpacked if len(unpacked) <= MAX_ANSWER else None
