"""boto3 as the signer and the bookkeeper of multipart uploads: the only file that knows it.

It is imported when first used: half a second and 30 MB that a local store need not spend. Its own retries are off,
because it sleeps in a thread that nobody can call back; `S3Storage` repeats what may be repeated.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING, TypeVar

from pipeline.storage.base import StorageDenied, StorageError, StorageUnavailable
from pipeline.storage.refusals import refusal
from pipeline.storage.threads import Threads

if TYPE_CHECKING:
    from boto3.session import Session
    from mypy_boto3_s3 import S3Client

T = TypeVar("T")
_SETUP = Lock()

SIGNED_FOR = 3600
"""Seconds within which a signed request of our own must begin."""

_REGION = re.compile(r"https?://s3[.-]([a-z]{2,}-[a-z0-9-]+)\.")


@dataclass(frozen=True, slots=True)
class Account:
    """Where the bucket is, and the keys to it. `authority`: a file of certificates to trust, not the usual ones."""

    endpoint: str
    bucket: str
    access_key_id: str
    secret_access_key: str = field(repr=False)
    authority: str | None = None

    @property
    def region(self) -> str:
        """R2 calls it `auto`; other stores write it into the endpoint's name."""
        found = _REGION.match(self.endpoint)
        return found.group(1) if found else "auto"


class Signer:
    """Signs URLs without the network, and makes the few calls that are boto3's."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._threads = Threads("s3", 4)
        self._client: S3Client | None = None

    async def sign(self, operation: str, expires: int = SIGNED_FOR, **parameters: object) -> str:
        """A presigned URL for a call on our bucket; whatever of `parameters` is a header must be sent as given."""
        client = self._client
        if client is None:
            client = await self.call(lambda connected, _: connected, "set up")
        return client.generate_presigned_url(
            operation, Params={"Bucket": self._account.bucket, **parameters}, ExpiresIn=expires
        )

    async def call(self, work: Callable[[S3Client, str], T], what: str) -> T:
        """Run `work(client, bucket)` in a thread. Raises StorageError for what boto3 raises."""
        return await self._threads.run(self._call, work, what)

    def start(self, work: Callable[[S3Client, str], object], what: str) -> None:
        """The same without waiting."""
        self._threads.start(lambda: self._call(work, what))

    async def close(self) -> None:
        """Wait for the calls that run, close the connections."""
        await self._threads.close()
        if self._client is not None:
            self._client.close()

    def _call(self, work: Callable[[S3Client, str], T], what: str) -> T:
        try:
            return work(self._connect(), self._account.bucket)
        except StorageError:
            raise
        except Exception as error:
            known = _translate(error, what)
            if known is None:
                raise
            raise known from error

    def _connect(self) -> S3Client:
        with _SETUP:
            if self._client is None:
                self._client = _connect(self._account)
            return self._client


def _connect(account: Account) -> S3Client:
    """What R2 needs: without `when_required` every upload over TLS goes out as aws-chunked with a trailer."""
    from botocore.config import Config  # noqa: PLC0415 - see the module

    config = Config(
        signature_version="s3v4",
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        retries={"mode": "standard", "total_max_attempts": 1},
        connect_timeout=5,
        read_timeout=60,
        s3={"addressing_style": "path"},
    )
    return _session().client(
        "s3",
        endpoint_url=account.endpoint,
        region_name=account.region,
        aws_access_key_id=account.access_key_id,
        aws_secret_access_key=account.secret_access_key,
        config=config,
        verify=account.authority,
    )


@cache
def _session() -> Session:
    """One for the process: it holds the service's description, which takes 0.2 s to read. Used under `_SETUP` only."""
    from boto3.session import Session  # noqa: PLC0415 - see the module

    return Session()


def _translate(error: Exception, what: str) -> StorageError | None:
    from botocore import exceptions as boto  # noqa: PLC0415 - see the module

    if isinstance(error, boto.ClientError):
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        said = error.response.get("Error", {})
        return refusal(status, said.get("Code", ""), said.get("Message", ""), what)
    if isinstance(error, boto.HTTPClientError | boto.ConnectionError):
        return StorageUnavailable(f"the storage cannot be reached: is R2_ENDPOINT_URL right? ({what}: {error})")
    if isinstance(error, boto.BotoCoreError | ValueError):
        return StorageDenied(f"the storage's settings cannot be used ({what}: {error})")
    return None
