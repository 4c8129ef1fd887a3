"""Checks of the storage: write, read, delete, and the way by which others get the video."""

from __future__ import annotations

import hashlib
import secrets
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC
from email.utils import parsedate_to_datetime
from pathlib import Path
from time import time

import httpx

from pipeline.cli.doctor.verdict import Check, failure, ok, warning
from pipeline.config import Settings
from pipeline.outbound import Outbound
from pipeline.storage import Storage, StorageDenied, StorageError, create_storage

LINK_SECONDS = 60
SIGV4_SECONDS = 900.0
"""How far a clock may be off before signed requests are refused (RequestTimeTooSkewed, Amazon S3's error codes)."""
SLACK_SECONDS = 60.0
MEND_PUBLIC = "make the bucket public (R2: Settings, Public access), or correct or remove R2_PUBLIC_URL"


async def storage_checks(settings: Settings, outbound: Outbound) -> list[Check]:
    """Store, read and delete a small object; with a bucket also fetch it as a browser would."""
    try:
        storage = create_storage(settings, outbound.storage)
    except (OSError, ValueError) as error:
        return [failure("storage", str(error), "correct the R2_ variables")]
    try:
        await storage.check()
        found = [ok("storage", f"writes, reads and deletes in {_where(settings)}")]
        if settings.uses_r2:
            found += await _fetched(settings, storage, outbound)
        return found
    except StorageError as error:
        # the storage's own words say what to do
        mend = (
            "do what is said there"
            if isinstance(error, StorageDenied)
            else "see whether the storage is up, and the address right"
        )
        return [failure("storage", str(error), mend)]
    finally:
        await storage.close()


def _where(settings: Settings) -> str:
    return f"bucket {settings.r2_bucket}" if settings.uses_r2 else str(settings.data_dir / "files")


async def _fetched(settings: Settings, storage: Storage, outbound: Outbound) -> list[Check]:
    async with _probe(storage) as (key, content):
        url = await storage.link(key, expires=LINK_SECONDS)
        if url is None:
            return []
        what = "R2_PUBLIC_URL" if settings.r2_public_url else "a signed link"
        try:
            answer = await outbound.calls.get(url)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            mend = MEND_PUBLIC if settings.r2_public_url else "correct R2_ENDPOINT_URL"
            return [failure("storage", f"{what} cannot be fetched from: {str(error) or type(error).__name__}", mend)]
    if answer.status_code == 200 and answer.content == content:
        return [ok("storage", f"{what} gives what was stored"), *_development_url(settings)]
    return [
        failure(
            "storage",
            f"{what} {_unfit(answer)}",
            MEND_PUBLIC if settings.r2_public_url else "correct the R2_ variables",
        )
    ]


def _unfit(answer: httpx.Response) -> str:
    match answer.status_code:
        case 200:
            return "answers with something else than was stored: it is not this bucket's"
        case 404:
            return "answers 404 to what was just stored: it is not this bucket's, or lacks a path"
        case 401 | 403:
            return f"answers {answer.status_code}: the bucket is not public"
    return f"answers {answer.status_code}"


def _development_url(settings: Settings) -> list[Check]:
    host = httpx.URL(settings.r2_public_url or "").host
    if not host.endswith(".r2.dev"):
        return []
    mend = "connect a domain of your own to the bucket and set R2_PUBLIC_URL to it"
    return [warning("storage", f"{host} is Cloudflare's address for development: it is slowed down under load", mend)]


@asynccontextmanager
async def _probe(storage: Storage) -> AsyncIterator[tuple[str, bytes]]:
    """A small object that is there for a moment: its key and its bytes."""
    content = secrets.token_hex(16).encode()
    key = f"doctor/{secrets.token_hex(8)}.txt"
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "probe"
        source.write_bytes(content)
        await storage.put(key, source, content_type="text/plain", sha256=hashlib.sha256(content).hexdigest())
    try:
        yield key, content
    finally:
        await storage.delete(key)


async def clock_checks(settings: Settings, outbound: Outbound) -> list[Check]:
    """This machine's clock against the storage's, whose signatures depend on it."""
    if not settings.uses_r2:
        return []
    url = settings.r2_endpoint_url or f"https://{settings.r2_account_id}.r2.cloudflarestorage.com"
    try:
        answer = await outbound.storage.head(url)
        theirs = parsedate_to_datetime(answer.headers["date"])
    except (httpx.HTTPError, KeyError, ValueError):
        return []  # that it cannot be reached is told by the check of the storage
    off = time() - (theirs if theirs.tzinfo else theirs.replace(tzinfo=UTC)).timestamp()
    if abs(off) <= SLACK_SECONDS:
        return [ok("clock", f"{abs(off):.0f} s from the storage's")]
    judge = failure if abs(off) >= SIGV4_SECONDS else warning
    side = "ahead of" if off > 0 else "behind"
    return [
        judge("clock", f"this machine is {abs(off):.0f} s {side} the storage's clock", "set this machine's clock (NTP)")
    ]
