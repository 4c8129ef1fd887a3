"""Both ways: files that no row owns, and completed rows whose file is gone. Looked at first; acted on when told to.

Never done by itself: after the restore of an older backup, or with the settings of another installation, every paid
video looks like an orphan.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from pipeline import retention
from pipeline.clock import Clock
from pipeline.db import Database, Row
from pipeline.names import generation_of
from pipeline.outbox import Outbox
from pipeline.storage import Storage, StoredObject

OLD_SECONDS = 86_400.0
"""A file that is younger may belong to a turn whose record is still to come."""
CHUNK = 500
AT_ONCE = 8
FEW = 10
"""So many are acted on whatever their share is."""


@dataclass(slots=True)
class Orphans:
    """What a sweep found, and did unless it was a dry run.

    Attributes:
        files: objects under names of ours, those that are owned among them.
        foreign: objects that we would never call so; nobody touches them.
        orphans: files that no row owns.
        videos: completed generations that should have a file.
        lost: the ids of those that have none.
        deleted, marked: how many orphans were deleted, and lost videos written down.
        refused: why nothing was done although it was asked for.
    """

    dry_run: bool
    files: int = 0
    foreign: int = 0
    orphans: list[StoredObject] = field(default_factory=list)
    videos: int = 0
    lost: list[str] = field(default_factory=list)
    deleted: int = 0
    marked: int = 0
    refused: str | None = None

    @property
    def orphan_bytes(self) -> int:
        """How much the orphans take."""
        return sum(stored.size for stored in self.orphans)


class Sweep:
    """One sweep over the storage and the table of generations. Raises StorageError and DatabaseError."""

    def __init__(self, db: Database, storage: Storage, outbox: Outbox, clock: Clock, *, dry_run: bool) -> None:
        self._db = db
        self._storage = storage
        self._outbox = outbox
        self._before = clock.now() - OLD_SECONDS
        self._found = Orphans(dry_run)

    async def run(self, *, force: bool) -> Orphans:
        """Look at everything; then act, if that was asked for and does not look like a mistake, or `force` is set."""
        await self._list_files()
        await self._look_for_files()
        found = self._found
        if found.dry_run:
            return found
        found.refused = None if force else _doubt(found)
        if found.refused is None:
            await self._delete_orphans()
            await self._mark_lost()
        return found

    async def _list_files(self) -> None:
        chunk: list[StoredObject] = []
        async for stored in self._storage.keys():
            if generation_of(stored.key) is None:
                self._found.foreign += 1
                continue
            self._found.files += 1
            if stored.modified < self._before:
                chunk.append(stored)
            if len(chunk) == CHUNK:
                self._found.orphans += await self._unowned(chunk)
                chunk.clear()
        self._found.orphans += await self._unowned(chunk)

    async def _unowned(self, files: Sequence[StoredObject]) -> list[StoredObject]:
        ids = {stored.key: generation_of(stored.key) or "" for stored in files}
        rows = await self._db.read(lambda tx: retention.owners(tx, sorted(set(ids.values()))))
        return [stored for stored in files if not retention.owns(rows.get(ids[stored.key]), stored.key)]

    async def _look_for_files(self) -> None:
        after = ""
        while rows := await self._rows_behind(after):
            after = rows[-1]["id"]
            self._found.videos += len(rows)
            sizes = await self._sizes(rows)
            self._found.lost += [row["id"] for row, size in zip(rows, sizes, strict=True) if size is None]

    async def _rows_behind(self, after: str) -> list[Row]:
        return await self._db.read(lambda tx: retention.with_video(tx, after, CHUNK))

    async def _sizes(self, rows: Sequence[Row]) -> list[int | None]:
        places = asyncio.Semaphore(AT_ONCE)

        async def one(row: Row) -> int | None:
            async with places:
                return await self._storage.size(row["video_key"])

        return await asyncio.gather(*(one(row) for row in rows))

    async def _delete_orphans(self) -> None:
        """Whose a file is, is asked again right before: a redrive may have begun meanwhile."""
        for start in range(0, len(self._found.orphans), AT_ONCE):
            still = await self._unowned(self._found.orphans[start : start + AT_ONCE])
            await asyncio.gather(*(self._storage.delete(stored.key) for stored in still))
            self._found.deleted += len(still)

    async def _mark_lost(self) -> None:
        for generation_id in self._found.lost:
            self._found.marked += await self._mark(generation_id)

    async def _mark(self, generation_id: str) -> bool:
        return await self._db.write(lambda tx: retention.end_video(tx, generation_id, self._outbox, note="video.lost"))


def _doubt(found: Orphans) -> str | None:
    """Why this looks like the wrong bucket or database rather than like litter. Pure."""
    if len(found.orphans) > max(FEW, found.files // 2):
        return f"{len(found.orphans)} of {found.files} files have no row: is this the right database?"
    if len(found.lost) > max(FEW, found.videos // 2):
        return f"{len(found.lost)} of {found.videos} videos have no file: is this the right bucket?"
    return None
