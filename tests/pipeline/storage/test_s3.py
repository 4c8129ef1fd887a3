"""What only an S3 can do wrong: keys, buckets, networks, parts, trailers."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from pipeline.config import Settings
from pipeline.ids import new_id
from pipeline.names import is_ours, video_key
from pipeline.storage import (
    MAX_LINK_LIFETIME,
    Account,
    IntegrityError,
    LocalStorage,
    ObjectMissing,
    S3Storage,
    StorageDenied,
    StorageError,
    StorageUnavailable,
    create_storage,
)
from pipeline.storage.multipart import MAX_PARTS, part_size
from pipeline.storage.refusals import read_refusal, refusal

MIB = 1024 * 1024
KEY = "tenant/gen_1/a.mp4"
ROOT = Path(__file__).parents[3]


def plain_boto(account: Account, **options: Any) -> Any:
    """boto3's client as it comes, to look at what is stored and to show what it does by itself."""
    import boto3

    keys = {"aws_access_key_id": account.access_key_id, "aws_secret_access_key": account.secret_access_key}
    settings = {"region_name": "auto", "verify": account.authority, **keys, **options}
    return boto3.session.Session().client("s3", endpoint_url=account.endpoint, **settings)


@pytest.mark.anyio
@pytest.mark.parametrize("size", [1000, 6 * MIB])
async def test_type_caching_and_hash_are_stored_beside_the_bytes(moto, open_s3, sample: Callable, size: int) -> None:
    video = sample(size)
    await video.put_to(open_s3(moto, prefix="headers/"), KEY)
    head = await asyncio.to_thread(plain_boto(moto).head_object, Bucket=moto.bucket, Key=f"headers/{KEY}")
    assert head["ContentType"] == "video/mp4"
    assert head["CacheControl"] == "public, max-age=31536000, immutable"
    assert head["Metadata"] == {"sha256": video.sha256}


@pytest.mark.anyio
async def test_a_wrong_secret_says_which_variable(rclone, open_s3, sample: Callable) -> None:
    storage = open_s3(replace(rclone, secret_access_key="wrong"))
    for size in (1000, 6 * MIB):
        with pytest.raises(StorageDenied, match="R2_SECRET_ACCESS_KEY"):
            await sample(size).put_to(storage, KEY)
    with pytest.raises(StorageDenied, match="R2_SECRET_ACCESS_KEY"):
        await storage.check()
    with pytest.raises(StorageDenied, match="Object Read & Write"):
        await storage.size(KEY)


@pytest.mark.anyio
async def test_a_missing_bucket_says_so(moto, open_s3, sample: Callable, waits) -> None:
    storage = open_s3(replace(moto, bucket="elsewhere"))
    for size in (1000, 6 * MIB):
        with pytest.raises(StorageDenied, match="create it, or correct R2_BUCKET"):
            await sample(size).put_to(storage, KEY)
    with pytest.raises(StorageDenied, match="create it, or correct R2_BUCKET"):
        await storage.check()
    assert waits.seconds == []


@pytest.mark.anyio
@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9", "https://127.0.0.1:9", "http://nowhere.invalid"])
async def test_an_unreachable_endpoint_is_unavailable_after_a_few_tries(
    open_s3, sample: Callable, waits, endpoint: str
) -> None:
    storage = open_s3(Account(endpoint, "videos", "key", "secret"))
    for call in (
        sample(100).put_to(storage, KEY),
        storage.read(KEY, 10),
        storage.check(),
        sample(2 * MIB).put_to(storage),
    ):
        with pytest.raises(StorageUnavailable, match="R2_ENDPOINT_URL") as caught:
            await call
        assert caught.value.retryable
    assert len(waits.seconds) >= 6
    assert max(waits.seconds) <= 4


@pytest.mark.anyio
async def test_an_endpoint_that_is_no_url_is_the_operators_to_correct(open_s3, sample: Callable) -> None:
    with pytest.raises(StorageDenied, match="settings cannot be used"):
        await sample(100).put_to(open_s3(Account("not a url", "videos", "key", "secret")), KEY)


@pytest.mark.anyio
@pytest.mark.parametrize("size", [900_000, 11 * MIB])
async def test_a_put_that_is_cut_half_way_leaves_nothing_and_works_when_repeated(
    proxy, open_s3, sample: Callable, size: int
) -> None:
    video, storage = sample(size), open_s3(proxy.account, prefix=f"cut{size}/")
    proxy.cut_after, proxy.cuts = size // 2 if size < MIB else 3 * MIB, 100
    with pytest.raises(StorageUnavailable):
        await video.put_to(storage, KEY)
    proxy.cuts = 0
    assert await storage.size(KEY) is None
    await video.put_to(storage, KEY)
    assert await storage.read(KEY, size) == video.data


@pytest.mark.anyio
@pytest.mark.parametrize("size", [900_000, 11 * MIB])
async def test_one_blip_is_ridden_out(proxy, open_s3, sample: Callable, waits, size: int) -> None:
    video, storage = sample(size), open_s3(proxy.account, prefix=f"blip{size}/")
    proxy.cut_after, proxy.cuts = size // 2 if size < MIB else 3 * MIB, 1
    await video.put_to(storage, KEY)
    assert await storage.read(KEY, size) == video.data
    assert len(waits.seconds) == 1


@pytest.mark.anyio
@pytest.mark.parametrize("size", [900_000, 40 * MIB])
async def test_a_put_that_is_cancelled_leaves_nothing_half(proxy, rclone, open_s3, sample: Callable, size: int) -> None:
    video, storage = sample(size), open_s3(proxy.account, prefix=f"cancelled{size}/")
    proxy.mark_at = size // 2 if size < MIB else 3 * MIB
    task = asyncio.create_task(video.put_to(storage, KEY))
    await asyncio.wait_for(proxy.mark.wait(), 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await storage.close()
    after = open_s3(rclone, prefix=f"cancelled{size}/")
    assert await after.size(KEY) in ((None, size) if size < MIB else (None,))
    assert await after.abort_unfinished(-3600, lambda _: True) == 0


@pytest.mark.anyio
async def test_a_large_file_that_is_there_is_not_sent_again(proxy, open_s3, sample: Callable) -> None:
    video, storage = sample(11 * MIB), open_s3(proxy.account, prefix="again/")
    await video.put_to(storage, KEY)
    proxy.heard.clear()
    await video.put_to(storage, KEY)
    assert len(proxy.heard) < 10_000


@pytest.mark.anyio
async def test_connections_are_used_again(proxy, open_s3, sample: Callable) -> None:
    storage = open_s3(proxy.account, prefix="connections/")
    for name in ("a", "b", "c"):
        await sample(1000).put_to(storage, name)
        await storage.read(name, 1000)
        await storage.delete(name)
        assert await storage.size(name) is None
    assert proxy.connections == 1


@pytest.mark.anyio
async def test_no_request_has_a_trailer_over_tls(proxy, open_s3, sample: Callable) -> None:
    storage = open_s3(proxy.account, prefix="trailer/")
    await storage.check()
    await sample(1000).put_to(storage, KEY)
    await sample(6 * MIB).put_to(storage, KEY)
    await storage.delete(KEY)
    assert b"PUT /videos/trailer/check/" in proxy.heard
    assert b"content-md5:" in proxy.heard.lower()
    assert b"aws-chunked" not in proxy.heard
    assert b"STREAMING-UNSIGNED-PAYLOAD-TRAILER" not in proxy.heard


@pytest.mark.anyio
async def test_the_test_above_would_hear_a_trailer(proxy) -> None:
    import botocore.exceptions

    client = plain_boto(proxy.account)
    with pytest.raises(botocore.exceptions.ClientError):
        await asyncio.to_thread(client.put_object, Bucket="videos", Key="plain", Body=b"x" * 100)
    assert b"aws-chunked" in proxy.heard
    assert b"STREAMING-UNSIGNED-PAYLOAD-TRAILER" in proxy.heard


@pytest.mark.anyio
async def test_a_link_has_an_end_a_type_and_a_name(moto, open_s3, sample: Callable, client: httpx.AsyncClient) -> None:
    storage = open_s3(moto, prefix="links/")
    await sample(100).put_to(storage, KEY)
    link = await storage.link(KEY, expires=10**9, content_type="video/quicktime", filename='Fünf "Katzen".mp4')
    assert parse_qs(urlsplit(link).query)["X-Amz-Expires"] == [str(MAX_LINK_LIFETIME)]
    answer = await client.get(link)
    assert answer.headers["content-type"] == "video/quicktime"
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''F%C3%BCnf%20%22Katzen%22.mp4"


@pytest.mark.anyio
async def test_a_changed_link_is_refused(rclone, open_s3, sample: Callable, client: httpx.AsyncClient) -> None:
    storage = open_s3(rclone, prefix="changed/")
    await sample(100).put_to(storage, KEY)
    link = await storage.link(KEY, expires=60)
    assert (await client.get(link.replace("gen_1", "gen_2"))).status_code == 403


@pytest.mark.anyio
async def test_a_public_bucket_has_plain_links(moto, open_s3) -> None:
    storage = open_s3(moto, public_url="https://videos.example.com/")
    assert await storage.link(KEY, expires=60) == f"https://videos.example.com/{KEY}"


@pytest.mark.anyio
async def test_unfinished_uploads_under_our_prefix_are_aborted_once_old(rclone, open_s3) -> None:
    boto = plain_boto(rclone)
    for key in ("ours/a", "ours/b", "theirs/a"):
        await asyncio.to_thread(boto.create_multipart_upload, Bucket=rclone.bucket, Key=key)
    storage = open_s3(rclone, prefix="ours/")
    assert await storage.abort_unfinished(3600, lambda _: True) == 0
    assert (
        await open_s3(rclone, prefix="ours/", clock=lambda: time.time() + 7200).abort_unfinished(3600, lambda _: True)
        == 2
    )
    assert await storage.abort_unfinished(-3600, lambda _: True) == 0
    left = await asyncio.to_thread(boto.list_multipart_uploads, Bucket=rclone.bucket)
    assert [upload["Key"] for upload in left["Uploads"]] == ["theirs/a"]


@pytest.mark.parametrize("size", [1, 64 * MIB, 5 * 1024**3, 100 * 1024**3, 5 * 1024**4])
def test_parts_are_few_and_large_enough(size: int) -> None:
    length = part_size(size, 8 * MIB)
    assert length >= 8 * MIB
    assert length % MIB == 0
    assert -(-size // length) <= MAX_PARTS
    assert length == 8 * MIB or -(-size // (length - MIB)) > MAX_PARTS


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (403, "SignatureDoesNotMatch", StorageDenied),
        (403, "RequestTimeTooSkewed", StorageDenied),
        (401, "Unauthorized", StorageDenied),
        (403, "", StorageDenied),
        (404, "NoSuchBucket", StorageDenied),
        (301, "PermanentRedirect", StorageDenied),
        (501, "NotImplemented", StorageUnavailable),
        (404, "NoSuchKey", ObjectMissing),
        (404, "", ObjectMissing),
        (404, "NoSuchUpload", StorageUnavailable),
        (400, "BadDigest", IntegrityError),
        (400, "RequestTimeout", StorageUnavailable),
        (200, "InternalError", StorageUnavailable),
        (429, "", StorageUnavailable),
        (503, "SlowDown", StorageUnavailable),
        (400, "Whatever", StorageDenied),
    ],
)
def test_every_refusal_has_a_meaning(status: int, code: str, error: type[StorageError]) -> None:
    assert type(refusal(status, code, "said so", "PUT a")) is error
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>said so</Message></Error>".encode()
    found = read_refusal(status, body, "PUT a")
    assert type(found) is error
    assert "PUT a" in str(found)


@pytest.mark.parametrize("body", [b"", b"<html>", b"\xff\xfe", b"<Code>"])
def test_an_unreadable_refusal_goes_by_its_status(body: bytes) -> None:
    assert type(read_refusal(502, body, "GET a")) is StorageUnavailable


@pytest.mark.parametrize(
    ("endpoint", "region"),
    [
        ("https://abc.r2.cloudflarestorage.com", "auto"),
        ("http://127.0.0.1:9000", "auto"),
        ("https://s3.eu-central-1.amazonaws.com", "eu-central-1"),
        ("https://s3.us-west-004.backblazeb2.com", "us-west-004"),
    ],
)
def test_the_region_is_in_the_endpoint_or_automatic(endpoint: str, region: str) -> None:
    assert Account(endpoint, "b", "k", "s").region == region


def test_an_account_does_not_show_its_secret() -> None:
    assert "hidden" not in repr(Account("https://x", "b", "k", "hidden"))


@pytest.mark.anyio
async def test_the_settings_choose(tmp_path: Path, client: httpx.AsyncClient) -> None:
    keys = {"r2_access_key_id": "AK", "r2_secret_access_key": "SK", "r2_bucket": "b", "r2_account_id": "abc"}
    local = create_storage(Settings(_env_file=None, data_dir=tmp_path), client)
    remote = create_storage(Settings(_env_file=None, data_dir=tmp_path, **keys), client)
    assert isinstance(local, LocalStorage)
    assert local.local_path("a/b") == tmp_path / "files" / "a" / "b"
    assert isinstance(remote, S3Storage)
    link = await remote.link("a/b", expires=60)
    assert link is not None
    assert link.startswith("https://abc.r2.cloudflarestorage.com/b/a/b?")
    for storage in (local, remote):
        await storage.close()


def test_memory_does_not_grow_with_the_file(rclone, tmp_path: Path) -> None:
    source = tmp_path / "large.mp4"
    with source.open("wb") as file:
        file.truncate(int(os.environ.get("STORAGE_TEST_BYTES", 96 * MIB)))
    given = {"account": asdict(rclone), "source": str(source), "part": 32 * MIB}
    command = [sys.executable, str(Path(__file__).with_name("rss.py")), json.dumps(given)]
    grown = int(subprocess.run(command, check=True, capture_output=True, env={"PYTHONPATH": str(ROOT)}).stdout)
    print(f"{source.stat().st_size / MIB:.0f} MiB: {grown} kB")
    assert grown < 40_000  # a part held whole would be 32 MiB, three at once 96


@pytest.mark.anyio
async def test_a_listing_goes_on_over_pages(moto, open_s3, sample: Callable) -> None:
    storage, video = open_s3(moto, prefix="paged/", page=3), sample(10)
    for number in range(8):
        await video.put_to(storage, f"tenant/{number}")
    assert [stored.key async for stored in storage.keys("tenant/")] == [f"tenant/{number}" for number in range(8)]


@pytest.mark.anyio
async def test_unfinished_uploads_of_others_are_left_alone(moto, open_s3) -> None:
    client = plain_boto(moto)
    names = [video_key("default", new_id("gen", 1), new_id("sub", 1)), "somebody/else.mp4"]
    for name in names:
        await asyncio.to_thread(client.create_multipart_upload, Bucket=moto.bucket, Key=f"shared/{name}")
    storage = open_s3(moto, prefix="shared/", clock=lambda: time.time() + 7200)
    assert await storage.abort_unfinished(3600, is_ours) == 1
    left = await asyncio.to_thread(client.list_multipart_uploads, Bucket=moto.bucket, Prefix="shared/")
    assert [upload["Key"] for upload in left["Uploads"]] == ["shared/somebody/else.mp4"]
