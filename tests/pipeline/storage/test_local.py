"""What only a folder can do wrong."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from pipeline.storage import LocalStorage, StorageUnavailable

pytestmark = pytest.mark.anyio
KEY = "tenant/gen_1/a.mp4"


@pytest.fixture
async def local(tmp_path: Path) -> AsyncIterator[LocalStorage]:
    storage = LocalStorage(tmp_path / "files")
    yield storage
    await storage.close()


def left_behind(local: LocalStorage) -> list[Path]:
    root = local.local_path("x").parent
    return sorted(path for path in root.rglob("*") if path.is_file())


async def test_a_file_of_the_same_disk_is_not_copied(local: LocalStorage, sample: Callable) -> None:
    video = sample(5000)
    await video.put_to(local, KEY)
    assert local.local_path(KEY).stat().st_ino == video.path.stat().st_ino
    video.path.unlink()
    assert await local.read(KEY, 5000) == video.data


async def test_putting_the_same_file_twice_leaves_one_name(local: LocalStorage, sample: Callable) -> None:
    video = sample(5000)
    await video.put_to(local, KEY)
    await video.put_to(local, KEY)
    assert left_behind(local) == [local.local_path(KEY)]


async def test_deleting_takes_empty_folders_along(local: LocalStorage, sample: Callable) -> None:
    await sample(10).put_to(local, "tenant/gen_1/a.mp4")
    await sample(10).put_to(local, "tenant/gen_2/a.mp4")
    await local.delete("tenant/gen_1/a.mp4")
    assert not local.local_path("tenant/gen_1").exists()
    assert await local.size("tenant/gen_2/a.mp4") == 10


async def test_a_key_that_is_a_folder_holds_nothing(local: LocalStorage, sample: Callable) -> None:
    await sample(10).put_to(local, "tenant/gen_1/a.mp4")
    assert await local.size("tenant/gen_1") is None
    await local.delete("tenant/gen_1")
    await local.delete("tenant/gen_1/a.mp4/deeper")
    assert await local.size("tenant/gen_1/a.mp4/deeper") is None
    assert await local.size("tenant/gen_1/a.mp4") == 10


async def test_what_a_crash_left_is_swept_once_old(tmp_path: Path) -> None:
    now = time.time()
    local = LocalStorage(tmp_path / "files", clock=lambda: now)
    await local.check()
    part = tmp_path / "files" / ".parts" / "a.mp4.0011.part"
    part.write_bytes(b"half")
    assert await local.abort_unfinished(3600, lambda _: True) == 0
    now += 7200
    assert await local.abort_unfinished(3600, lambda _: True) == 1
    assert not part.exists()
    await local.close()


async def test_a_cancelled_put_leaves_no_half(tmp_path: Path, sample: Callable) -> None:
    local = LocalStorage(tmp_path / "files", hard_links=False)
    video = sample(30_000_000)
    task = asyncio.create_task(video.put_to(local, KEY))
    async with asyncio.timeout(10):
        while not list(tmp_path.glob("files/.parts/*")):  # noqa: ASYNC110 - a folder has no event
            await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await local.close()
    assert left_behind(local) == []


async def test_a_root_that_cannot_be_one_says_what_to_change(tmp_path: Path, sample: Callable) -> None:
    (tmp_path / "taken").write_text("a file")
    local = LocalStorage(tmp_path / "taken" / "files")
    with pytest.raises(StorageUnavailable, match="DATA_DIR"):
        await local.check()
    with pytest.raises(StorageUnavailable, match="DATA_DIR"):
        await sample(10).put_to(local, KEY)
    await local.close()
