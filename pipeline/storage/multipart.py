"""A large file in equal parts, a few at once; complete or nowhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from pipeline.storage.base import StorageUnavailable
from pipeline.storage.repeat import Repeat
from pipeline.storage.signer import Signer
from pipeline.storage.wire import FileSlice, ObjectHeaders, Wire

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

MAX_PARTS = 10_000
"""Parts of one upload, of S3 and R2 alike."""

_MIB = 1024 * 1024


def part_size(size: int, smallest: int) -> int:
    """Bytes of each part but the last: `smallest`, or as many whole MiB as keep a file within MAX_PARTS."""
    return max(smallest, -(-size // (MAX_PARTS * _MIB)) * _MIB)


class Multipart:
    """One upload of one object. `repeat` rides out blips of single parts."""

    def __init__(self, signer: Signer, wire: Wire, repeat: Repeat, name: str) -> None:
        self._signer = signer
        self._wire = wire
        self._repeat = repeat
        self._name = name

    async def put(self, slices: Sequence[FileSlice], headers: ObjectHeaders, at_once: int) -> None:
        """Send all `slices`, `at_once` together, and complete. Raises StorageError, and then nothing is visible."""
        upload = await self._create(headers)
        try:
            tags: dict[int, str] = {}
            queue = iter(enumerate(slices, start=1))
            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(at_once):
                        group.create_task(self._send_from(queue, upload, tags))
            except ExceptionGroup as failures:
                raise failures.exceptions[0] from None
            await self._complete(upload, tags)
        except BaseException:
            self._abort(upload)
            raise

    async def _send_from(self, queue: Iterator[tuple[int, FileSlice]], upload: str, tags: dict[int, str]) -> None:
        for number, body in queue:
            tags[number] = await self._send(upload, number, body)

    async def _send(self, upload: str, number: int, body: FileSlice) -> str:
        what = f"PUT {self._name} part {number}"

        async def once() -> str:
            url = await self._signer.sign(
                "upload_part", Key=self._name, UploadId=upload, PartNumber=number, **body.parameters
            )
            answer = await self._wire.put(url, body, what, {})
            if "etag" not in answer:
                raise StorageUnavailable(f"the storage did not acknowledge ({what})")
            return answer["etag"]

        return await self._repeat(once)

    async def _create(self, headers: ObjectHeaders) -> str:
        def create(client: S3Client, bucket: str) -> str:
            return client.create_multipart_upload(Bucket=bucket, Key=self._name, **headers.parameters)["UploadId"]

        return str(await self._repeat(lambda: self._signer.call(create, f"create {self._name}")))

    async def _complete(self, upload: str, tags: dict[int, str]) -> None:
        parts: list[CompletedPartTypeDef] = [{"PartNumber": number, "ETag": tags[number]} for number in sorted(tags)]

        def complete(client: S3Client, bucket: str) -> None:
            client.complete_multipart_upload(
                Bucket=bucket, Key=self._name, UploadId=upload, MultipartUpload={"Parts": parts}
            )

        await self._repeat(lambda: self._signer.call(complete, f"complete {self._name}"))

    def _abort(self, upload: str) -> None:
        """Not waited for: the caller may be on its way out, and maintenance finds what stays behind."""
        self._signer.start(
            lambda client, bucket: client.abort_multipart_upload(Bucket=bucket, Key=self._name, UploadId=upload),
            f"abort {self._name}",
        )


def abort_older(client: S3Client, bucket: str, *, prefix: str, before: float, ours: Callable[[str], bool]) -> int:
    """Abort the uploads under `prefix` that are `ours` by name and began before this time (seconds since the epoch);
    how many. Blocking."""
    aborted = 0
    for key, upload, initiated in list(_unfinished(client, bucket, prefix)):
        if initiated < before and ours(key):
            with suppress(client.exceptions.NoSuchUpload):  # completed, or aborted by another process
                client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload)
                aborted += 1
    return aborted


def _unfinished(client: S3Client, bucket: str, prefix: str) -> Iterator[tuple[str, str, float]]:
    with suppress(client.exceptions.NoSuchUpload):  # how rclone says that there are none
        for page in client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=prefix):
            for upload in page.get("Uploads", ()):
                yield upload["Key"], upload["UploadId"], upload["Initiated"].timestamp()
