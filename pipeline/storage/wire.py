"""The bytes' way: presigned requests by the HTTP client that we are given, with nothing of a file held but a chunk."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from pipeline.storage.base import ObjectTooLarge, StorageError, StorageUnavailable
from pipeline.storage.refusals import read_refusal
from pipeline.storage.source import CHUNK, Source
from pipeline.storage.threads import Threads

IMMUTABLE = "public, max-age=31536000, immutable"
"""A key is written once, so whoever has the bytes may keep them."""

_TIMEOUT = httpx.Timeout(60.0, connect=10.0)
_ERROR_BYTES = 4096


@dataclass(frozen=True, slots=True)
class ObjectHeaders:
    """What is stored beside the bytes: type, caching, hash; as boto3's parameters and as headers to send."""

    content_type: str
    sha256: str

    @property
    def parameters(self) -> dict[str, Any]:
        """For boto3."""
        return {"ContentType": self.content_type, "CacheControl": IMMUTABLE, "Metadata": {"sha256": self.sha256}}

    @property
    def lines(self) -> dict[str, str]:
        """For the request."""
        return {"content-type": self.content_type, "cache-control": IMMUTABLE, "x-amz-meta-sha256": self.sha256}


@dataclass(frozen=True, slots=True)
class FileSlice:
    """`size` bytes of an open file from `start`, whose MD5 the server is to check."""

    file: Source
    start: int
    size: int
    md5: bytes
    threads: Threads

    @property
    def parameters(self) -> dict[str, Any]:
        """For boto3: signed, so that nobody on the way can change length or bytes."""
        return {"ContentLength": self.size, "ContentMD5": b64encode(self.md5).decode()}

    @property
    def lines(self) -> dict[str, str]:
        """For the request."""
        return {"content-length": str(self.size), "content-md5": b64encode(self.md5).decode()}

    async def chunks(self, faults: list[StorageError]) -> AsyncIterator[bytes]:
        """The bytes. What goes wrong with the file is also left in `faults`: a transport may report it as its own."""
        for offset in range(self.start, self.start + self.size, CHUNK):
            count = min(CHUNK, self.start + self.size - offset)
            try:
                yield await self.threads.run(self.file.read, count, offset)
            except StorageError as error:
                faults.append(error)
                raise


class Wire:
    """One presigned request at a time. Every method raises StorageError for a refusal and for the network."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def send(self, method: str, url: str, what: str) -> httpx.Headers:
        """A request without a body; the answer's headers."""
        return await self._headers(self._client.build_request(method, url, headers=_PLAIN, timeout=_TIMEOUT), what)

    async def put(self, url: str, body: FileSlice, what: str, lines: Mapping[str, str]) -> httpx.Headers:
        """Send a slice of a file with the headers that were signed; the answer's headers."""
        faults: list[StorageError] = []
        headers = {**_PLAIN, **lines, **body.lines}
        content = body.chunks(faults) if body.size else b""
        request = self._client.build_request("PUT", url, headers=headers, content=content, timeout=_TIMEOUT)
        try:
            return await self._headers(request, what)
        except StorageUnavailable:
            if faults:
                raise faults[0] from None
            raise

    async def get(self, url: str, limit: int, what: str) -> bytes:
        """The whole body. Raises ObjectTooLarge above `limit` bytes, without reading on."""
        async with self._answer(
            self._client.build_request("GET", url, headers=_PLAIN, timeout=_TIMEOUT), what
        ) as answer:
            body = bytearray()
            async for chunk in answer.aiter_raw():
                body += chunk
                if len(body) > limit:
                    raise ObjectTooLarge(f"{what}: larger than {limit} bytes")
            return bytes(body)

    async def _headers(self, request: httpx.Request, what: str) -> httpx.Headers:
        async with self._answer(request, what) as answer:
            await _beginning(answer)  # to its end: a connection whose answer is not read cannot be used again
            return answer.headers

    @asynccontextmanager
    async def _answer(self, request: httpx.Request, what: str) -> AsyncIterator[httpx.Response]:
        try:
            answer = await self._client.send(request, stream=True, auth=None, follow_redirects=False)
            try:
                if not answer.is_success:
                    raise read_refusal(answer.status_code, await _beginning(answer), what)
                yield answer
            finally:
                await answer.aclose()
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise StorageUnavailable(
                f"the storage cannot be reached: is R2_ENDPOINT_URL right? ({what}: {reason})"
            ) from error


_PLAIN = {"accept-encoding": "identity"}
"""The stored bytes and their length: R2 compresses what looks like text and then names no length."""


async def _beginning(answer: httpx.Response) -> bytes:
    body = b""
    async for chunk in answer.aiter_raw():
        body += chunk
        if len(body) >= _ERROR_BYTES:
            break
    return body[:_ERROR_BYTES]


def content_length(headers: httpx.Headers, what: str) -> int:
    """The length that an answer to HEAD announces. Raises StorageUnavailable when it does not."""
    length = headers.get("content-length", "")
    if not length.isdecimal():
        raise StorageUnavailable(f"the storage did not say how long {what} is")
    return int(length)
