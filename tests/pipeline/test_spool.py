"""The spool stays within its bound, whatever a body announces, and keeps one file per download."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from pipeline.spool import BLOCK, Spool, SpoolFull, TooLarge

pytestmark = pytest.mark.anyio

LIMIT = 4 * BLOCK


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    spool = Spool(tmp_path / "spool", LIMIT)
    yield spool
    spool.close()


def files(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "spool").iterdir())


async def body(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def fetch(spool: Spool, name: str, size: int, *, announced: int | None = None, limit: int = 10 * LIMIT) -> int:
    chunks = [bytes(min(BLOCK, size - at)) for at in range(0, size, BLOCK)]
    return (await spool.fetch(name, body(*chunks), announced=announced, limit=limit)).size


async def test_a_body_is_measured_on_its_way(spool: Spool) -> None:
    whole = await spool.fetch("gen_1-1.part", body(b"ab", b"", b"c"), announced=3, limit=3)
    assert whole.path.read_bytes() == b"abc"
    assert (whole.size, whole.sha256) == (3, hashlib.sha256(b"abc").hexdigest())
    assert whole.md5 == hashlib.md5(b"abc", usedforsecurity=False).digest()
    assert spool.used() == 3


@pytest.mark.parametrize("announced", [None, BLOCK])
async def test_a_body_that_says_nothing_or_lies_cannot_grow_over_the_bound(
    spool: Spool, tmp_path: Path, announced: int | None
) -> None:
    await fetch(spool, "gen_1-1.part", LIMIT - 2 * BLOCK)
    with pytest.raises(SpoolFull, match="SPOOL_BYTES"):
        await fetch(spool, "gen_2-1.part", 3 * BLOCK, announced=announced)
    assert files(tmp_path) == ["gen_1-1.part"]
    assert await fetch(spool, "gen_3-1.part", 2 * BLOCK, announced=announced) == 2 * BLOCK, "up to the bound it may"
    assert spool.used() == LIMIT


async def test_what_has_no_room_is_refused_before_a_byte_is_read(spool: Spool, tmp_path: Path) -> None:
    await fetch(spool, "gen_1-1.part", LIMIT - BLOCK)
    with pytest.raises(SpoolFull, match=f"holds {LIMIT - BLOCK} of {LIMIT} bytes"):
        await fetch(spool, "gen_2-1.part", BLOCK, announced=BLOCK + 1)
    assert files(tmp_path) == ["gen_1-1.part"]


async def test_a_body_over_the_limit_of_a_video_is_too_large_whether_it_says_so_or_not(
    spool: Spool, tmp_path: Path
) -> None:
    for announced in (None, 11):
        with pytest.raises(TooLarge, match="MAX_VIDEO_BYTES"):
            await fetch(spool, "gen_1-1.part", 11, announced=announced, limit=10)
    assert files(tmp_path) == []


async def test_parts_of_earlier_tries_of_the_same_download_go_and_others_stay(spool: Spool, tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    for name in ("gen_1-1.part", "gen_1-2.part", "gen_10-1.part", "gen_2-1.part", "notes"):
        (folder / name).write_bytes(bytes(BLOCK // 2))
    assert await fetch(spool, "gen_1-3.part", 2 * BLOCK, announced=2 * BLOCK) == 2 * BLOCK
    assert files(tmp_path) == ["gen_1-3.part", "gen_10-1.part", "gen_2-1.part", "notes"]


async def test_a_file_that_is_being_written_counts_once_with_what_it_announced(spool: Spool, tmp_path: Path) -> None:
    half, go = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield bytes(BLOCK)
        half.set()
        await go.wait()
        yield bytes(2 * BLOCK)

    writing = asyncio.create_task(spool.fetch("gen_1-1.part", slow(), announced=3 * BLOCK, limit=LIMIT))
    await half.wait()
    assert (tmp_path / "spool" / "gen_1-1.part").stat().st_size > 0
    assert spool.used() == 3 * BLOCK
    with pytest.raises(SpoolFull):
        await fetch(spool, "gen_2-1.part", 1, announced=BLOCK + 1)
    assert await fetch(spool, "gen_3-1.part", BLOCK, announced=BLOCK) == BLOCK
    go.set()
    assert (await writing).size == 3 * BLOCK
    assert spool.used() == LIMIT


async def test_a_download_that_breaks_leaves_nothing_and_gives_its_room_back(spool: Spool, tmp_path: Path) -> None:
    async def breaks() -> AsyncIterator[bytes]:
        yield bytes(BLOCK)
        raise ConnectionResetError("cut")

    with pytest.raises(SpoolFull, match="cut"):
        await spool.fetch("gen_1-1.part", breaks(), announced=LIMIT, limit=LIMIT)
    assert (files(tmp_path), spool.used()) == ([], 0)


async def test_a_download_that_is_stopped_while_its_file_opens_leaves_none_open(spool: Spool, tmp_path: Path) -> None:
    held = threading.Event()
    busy = [spool._threads.submit(held.wait) for _ in range(2)]
    fetching = asyncio.create_task(fetch(spool, "a-1.part", BLOCK))
    await asyncio.sleep(0)
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    held.set()
    await asyncio.gather(*(asyncio.wrap_future(each) for each in busy))
    await asyncio.to_thread(spool.close)
    async with asyncio.timeout(5):
        while files(tmp_path):  # noqa: ASYNC110 - the file goes when the loop hears of its opening
            await asyncio.sleep(0.01)
    gc.collect()
