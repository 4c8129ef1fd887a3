"""R2 and any S3: boto3 signs, the bytes travel by the HTTP client that we are given."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from urllib.parse import quote

import httpx

from pipeline.storage.base import MAX_LINK_LIFETIME, IntegrityError, ObjectMissing, StoredObject, valid_key
from pipeline.storage.hashing import digest, expect
from pipeline.storage.listing import list_page
from pipeline.storage.multipart import Multipart, abort_older, part_size
from pipeline.storage.repeat import Repeat
from pipeline.storage.signer import Account, Signer
from pipeline.storage.source import Source
from pipeline.storage.threads import Threads
from pipeline.storage.wire import FileSlice, ObjectHeaders, Wire, content_length

MIB = 1024 * 1024


class S3Storage:
    """A `Storage` in a bucket.

    Args:
        account: endpoint, bucket and keys.
        client: carries the bytes; its transport and limits are the caller's.
        public_url: where the bucket is public, if it is; links are then plain and do not expire.
        prefix: goes before every key, for a bucket that others use too; nothing outside is listed or touched.
        single_up_to: bytes up to which a file goes in one request (S3 allows 5 GiB, a repetition costs all of it).
        smallest_part: bytes of a part of a larger file (S3 wants 5 MiB, R2 equal ones).
        at_once: parts of one file under way together.
        page: objects of one page of a listing (1000 at most).
        attempts: tries of one request within this call.
        sleep: waits between them.
        clock: seconds since the epoch, for the age of unfinished uploads.
    """

    def __init__(
        self,
        account: Account,
        client: httpx.AsyncClient,
        *,
        public_url: str | None = None,
        prefix: str = "",
        single_up_to: int = 64 * MIB,
        smallest_part: int = 8 * MIB,
        at_once: int = 3,
        page: int = 1000,
        attempts: int = 3,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._signer = Signer(account)
        self._files = Threads("files", 2)
        self._wire = Wire(client)
        self._repeat = Repeat(attempts, sleep)
        self._public_url = public_url.rstrip("/") if public_url else None
        self._prefix = prefix
        self._single_up_to = single_up_to
        self._smallest_part = smallest_part
        self._at_once = at_once
        self._page = page
        self._clock = clock

    async def put(self, key: str, source: Path, *, content_type: str, sha256: str, md5: bytes | None = None) -> None:
        """See `Storage.put`. A large file that is there already is not sent again."""
        name, headers = self._name(key), ObjectHeaders(content_type, sha256.lower())
        file = await self._files.run(Source, source)
        try:
            if file.size <= self._single_up_to:
                await self._put_whole(name, file, headers, md5)
            elif await self._stored(name, file.size, headers.sha256):
                return
            else:
                await self._put_parts(name, file, headers)
        finally:
            self._files.start(file.close)
        if not await self._stored(name, file.size, headers.sha256):
            raise IntegrityError(f"{name} is not what was stored: of another length, or written by somebody else")

    async def size(self, key: str) -> int | None:
        """See `Storage.size`."""
        try:
            return content_length(await self._head(self._name(key)), key)
        except ObjectMissing:
            return None

    async def read(self, key: str, limit: int) -> bytes:
        """See `Storage.read`."""
        name = self._name(key)

        async def once() -> bytes:
            return await self._wire.get(await self._signer.sign("get_object", Key=name), limit, f"GET {name}")

        return await self._repeat(once)

    async def delete(self, key: str) -> None:
        """See `Storage.delete`. One by one: the call for many needs a checksum that not every S3 takes."""
        name = self._name(key)

        async def once() -> None:
            await self._wire.send("DELETE", await self._signer.sign("delete_object", Key=name), f"DELETE {name}")

        try:
            await self._repeat(once)
        except ObjectMissing:
            return

    async def link(
        self, key: str, *, expires: int, content_type: str | None = None, filename: str | None = None
    ) -> str | None:
        """See `Storage.link`. A public bucket's link has neither end nor file name."""
        name = self._name(key)
        if self._public_url:
            return f"{self._public_url}/{name}"
        disposition = f"attachment; filename*=UTF-8''{quote(filename, safe='')}" if filename else None
        wishes = {"ResponseContentType": content_type, "ResponseContentDisposition": disposition}
        given = {wish: value for wish, value in wishes.items() if value}
        return await self._signer.sign("get_object", min(max(expires, 1), MAX_LINK_LIFETIME), Key=name, **given)

    def local_path(self, key: str) -> None:
        """None: the bytes are elsewhere."""
        valid_key(key)

    async def check(self) -> None:
        """See `Storage.check`. boto3 writes the object and our own client reads it, so that both ways are tried."""
        key = f"check/{secrets.token_hex(8)}"
        name = self._name(key)
        await self._signer.call(
            lambda client, bucket: client.put_object(Bucket=bucket, Key=name, Body=b"ok", ContentType="text/plain"),
            f"PUT {name}",
        )
        if await self.read(key, 10) != b"ok":
            raise IntegrityError(f"the storage does not give back what was written to {name}")
        await self.delete(key)

    async def keys(self, prefix: str = "") -> AsyncIterator[StoredObject]:
        """See `Storage.keys`."""
        token: str | None = None
        while True:
            work = partial(list_page, prefix=self._prefix + prefix, count=self._page, token=token)
            page, token = await self._repeat(partial(self._signer.call, work, f"list {self._prefix}{prefix}"))
            for stored in page:
                yield replace(stored, key=stored.key.removeprefix(self._prefix))
            if token is None:
                return

    async def abort_unfinished(self, older_than: float, ours: Callable[[str], bool]) -> int:
        """See `Storage.abort_unfinished`."""
        work = partial(
            abort_older,
            prefix=self._prefix,
            before=self._clock() - older_than,
            ours=lambda name: ours(name.removeprefix(self._prefix)),
        )
        return await self._signer.call(work, "abort unfinished uploads")

    async def close(self) -> None:
        """See `Storage.close`. The HTTP client stays the caller's."""
        await self._files.close()
        await self._signer.close()

    def _name(self, key: str) -> str:
        return self._prefix + valid_key(key)

    async def _put_whole(self, name: str, file: Source, headers: ObjectHeaders, md5: bytes | None) -> None:
        if md5 is None:
            (md5,) = await self._digests(file, max(file.size, 1), headers.sha256)
        body = FileSlice(file, 0, file.size, md5, self._files)

        async def once() -> None:
            url = await self._signer.sign("put_object", Key=name, **headers.parameters, **body.parameters)
            await self._wire.put(url, body, f"PUT {name}", headers.lines)

        await self._repeat(once)

    async def _put_parts(self, name: str, file: Source, headers: ObjectHeaders) -> None:
        length = part_size(file.size, self._smallest_part)
        digests = await self._digests(file, length, headers.sha256)
        slices = [
            FileSlice(file, start, min(length, file.size - start), md5, self._files)
            for start, md5 in zip(range(0, file.size, length), digests, strict=True)
        ]
        await Multipart(self._signer, self._wire, self._repeat, name).put(slices, headers, self._at_once)

    async def _digests(self, file: Source, part: int, sha256: str) -> tuple[bytes, ...]:
        """Read the file once before: nothing wrong is ever sent, and the server can check every part."""
        found = await self._files.run(digest, file.read, file.size, part)
        expect(found.sha256, sha256)
        return found.parts

    async def _stored(self, name: str, size: int, sha256: str) -> bool:
        """Whether the object is there with this length and, where the server keeps metadata, this hash."""
        try:
            found = await self._head(name)
        except ObjectMissing:
            return False
        return content_length(found, name) == size and found.get("x-amz-meta-sha256", sha256) == sha256

    async def _head(self, name: str) -> httpx.Headers:
        async def once() -> httpx.Headers:
            return await self._wire.send("HEAD", await self._signer.sign("head_object", Key=name), f"HEAD {name}")

        return await self._repeat(once)
