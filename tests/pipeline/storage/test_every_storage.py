"""What every storage keeps to, whichever it is."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from pipeline.storage import IntegrityError, InvalidKey, ObjectMissing, ObjectTooLarge, Storage

pytestmark = pytest.mark.anyio
KEY = "tenant/gen_1/a.mp4"
SIZES = pytest.mark.parametrize("size", [0, 1, 200_000, 11 * 1024 * 1024 + 7])


@SIZES
async def test_what_is_put_is_there_whole(storage: Storage, sample: Callable, size: int) -> None:
    video = sample(size)
    await video.put_to(storage, KEY)
    assert await storage.size(KEY) == size
    assert await storage.read(KEY, size) == video.data


async def test_nothing_is_there_before_and_after(storage: Storage, sample: Callable) -> None:
    assert await storage.size(KEY) is None
    with pytest.raises(ObjectMissing):
        await storage.read(KEY, 10)
    await sample(10).put_to(storage, KEY)
    await storage.delete(KEY)
    await storage.delete(KEY)
    assert await storage.size(KEY) is None


async def test_reading_stops_at_the_limit(storage: Storage, sample: Callable) -> None:
    await sample(1000).put_to(storage, KEY)
    with pytest.raises(ObjectTooLarge):
        await storage.read(KEY, 999)


async def test_putting_again_is_harmless_and_putting_other_bytes_replaces(storage: Storage, sample: Callable) -> None:
    first, second = sample(2000, "first"), sample(3000, "second")
    for video in (first, first, second):
        await video.put_to(storage, KEY)
        assert await storage.read(KEY, 5000) == video.data
    assert first.path.read_bytes() == first.data


@SIZES
async def test_other_bytes_than_announced_are_never_visible(storage: Storage, sample: Callable, size: int) -> None:
    video = sample(size)
    with pytest.raises(IntegrityError):
        await video.put_to(storage, KEY, sha256="0" * 64)
    assert await storage.size(KEY) is None
    await video.put_to(storage, KEY)
    assert await storage.size(KEY) == size


async def test_a_known_md5_saves_a_reading(storage: Storage, sample: Callable) -> None:
    video = sample(5000)
    await video.put_to(storage, KEY, md5=hashlib.md5(video.data).digest())
    assert await storage.read(KEY, 5000) == video.data


async def test_no_source_is_the_callers_error(storage: Storage, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await storage.put(KEY, tmp_path / "none", content_type="video/mp4", sha256="0" * 64)


async def test_many_at_once(storage: Storage, sample: Callable) -> None:
    video = sample(30_000)
    keys = [f"tenant/gen_{number}/a.mp4" for number in range(12)]
    await asyncio.gather(*(video.put_to(storage, key) for key in keys))
    assert await asyncio.gather(*(storage.size(key) for key in keys)) == [30_000] * 12
    await asyncio.gather(*(storage.delete(key) for key in keys))


async def test_a_link_or_a_path_leads_to_the_bytes(
    storage: Storage, sample: Callable, client: httpx.AsyncClient
) -> None:
    video = sample(5000)
    await video.put_to(storage, KEY)
    link, path = await storage.link(KEY, expires=60), storage.local_path(KEY)
    if link is None:
        assert path is not None
        assert path.read_bytes() == video.data
    else:
        assert path is None
        answer = await client.get(link)
        assert (answer.status_code, answer.content) == (200, video.data)
        assert answer.headers["content-type"] == "video/mp4"


@pytest.mark.parametrize(
    "key", ["", "/etc/passwd", "a/../b", "..", "a//b", "a/", ".parts/x", "a b", "ä", "a\n", "a/.hid"]
)
async def test_keys_cannot_leave_their_place(storage: Storage, sample: Callable, key: str) -> None:
    with pytest.raises(InvalidKey):
        await sample(1).put_to(storage, key)
    for call in (storage.size(key), storage.read(key, 1), storage.delete(key), storage.link(key, expires=1)):
        with pytest.raises(InvalidKey):
            await call
    with pytest.raises(InvalidKey):
        storage.local_path(key)


async def test_a_working_storage_passes_its_check(storage: Storage) -> None:
    await storage.check()
    assert await storage.abort_unfinished(0, lambda _: True) == 0


async def listed(storage: Storage, prefix: str = "") -> dict[str, int]:
    return {stored.key: stored.size async for stored in storage.keys(prefix)}


async def test_everything_that_is_stored_is_listed_with_its_age(storage: Storage, sample: Callable) -> None:
    assert await listed(storage) == {}
    before = time.time()
    video = sample(1000)
    keys = [f"tenant/gen_{number}/a.mp4" for number in range(5)] + ["inputs/tenant/gen_1"]
    for key in keys:
        await video.put_to(storage, key)
    assert await listed(storage) == dict.fromkeys(keys, 1000)
    assert await listed(storage, "inputs/") == {"inputs/tenant/gen_1": 1000}
    assert await listed(storage, "elsewhere") == {}
    ages = [stored.modified async for stored in storage.keys("")]
    assert all(before - 2 <= modified <= time.time() + 2 for modified in ages)
