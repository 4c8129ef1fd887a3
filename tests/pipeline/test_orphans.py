"""Files that no row owns and rows whose file is gone: found, and mended only when told to."""

from __future__ import annotations

import pytest

from pipeline.ids import new_id
from pipeline.names import video_key
from tests.pipeline.yard import DAY, Yard

pytestmark = pytest.mark.anyio


def age(yard: Yard, days: float = 2) -> None:
    """The files are as old as if these days had passed."""
    yard.clock.sync(yard.clock.now_ms() + int(days * DAY * 1000))


async def test_files_without_rows_and_rows_without_files_are_found_and_mended(yard: Yard) -> None:
    for _ in range(3):
        await yard.ended(picture=True)
    running = await yard.ended("processing")
    lost = await yard.ended()
    row = await yard.row(lost)
    assert row is not None
    await yard.storage.delete(row["video_key"])
    orphan = video_key("acme", new_id("gen", 1), new_id("sub", 1))
    late = video_key("default", running, new_id("sub", 2))
    for key in (orphan, late, "somebody/else.mp4"):
        await yard.put(key)
    cleaner = yard.cleaner()
    assert (await cleaner.sweep_orphans()).orphans == []
    age(yard)
    seen = await cleaner.sweep_orphans()
    assert [stored.key for stored in seen.orphans] == [orphan]
    assert (seen.lost, seen.foreign, seen.files, seen.orphan_bytes) == ([lost], 1, 8, 5)
    assert (seen.deleted, seen.marked) == (0, 0)
    assert orphan in yard.files()
    done = await cleaner.sweep_orphans(dry_run=False)
    assert (done.deleted, done.marked, done.refused) == (1, 1, None)
    assert orphan not in yard.files()
    assert {late, "somebody/else.mp4"} <= set(yard.files())
    row = await yard.row(lost)
    assert row is not None
    assert row["expired_at"] is not None
    again = await cleaner.sweep_orphans(dry_run=False)
    assert (again.orphans, again.lost) == ([], [])


async def test_the_wrong_database_or_bucket_deletes_and_marks_nothing(yard: Yard) -> None:
    for number in range(20):
        await yard.put(video_key("default", new_id("gen", number), new_id("sub", 1)))
    age(yard)
    done = await yard.cleaner().sweep_orphans(dry_run=False)
    assert (done.deleted, len(yard.files())) == (0, 20)
    assert done.refused == "20 of 20 files have no row: is this the right database?"
    forced = await yard.cleaner().sweep_orphans(dry_run=False, force=True)
    assert (forced.deleted, yard.files()) == (20, [])
    for _ in range(20):
        await yard.ended()
    for name in yard.files():
        await yard.storage.delete(name)
    done = await yard.cleaner().sweep_orphans(dry_run=False)
    assert (done.marked, done.refused) == (0, "20 of 20 videos have no file: is this the right bucket?")
