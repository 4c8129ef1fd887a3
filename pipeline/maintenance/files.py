"""Files that were kept for their time, with the rows that name them: first the file, then the row (see
`retention`)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

from pipeline import retention
from pipeline.clock import Clock
from pipeline.db import Database, Row, Tx
from pipeline.maintenance.keep import Keep, Round, Sleep, breathe
from pipeline.outbox import Outbox
from pipeline.storage import Storage, StorageError

FILES = 100
"""Generations of one commit at most: each takes several statements."""
BATCHES = 50
AT_ONCE = 8
_KEYS = ("video_key", "input_key", "last_input_key")

Find = Callable[[Tx, int], list[Row]]
End = Callable[[Tx, Row], bool]


class Files:
    """Deletes files whose time is over and writes it down."""

    def __init__(self, db: Database, storage: Storage, outbox: Outbox, clock: Clock, sleep: Sleep) -> None:
        self._db = db
        self._storage = storage
        self._outbox = outbox
        self._clock = clock
        self._sleep = sleep

    async def prune(self, keep: Keep, done: Round) -> None:
        """Videos that have expired, whatever KEEP_VIDEOS says today; then pictures, then whole generations."""
        await self._videos(done)
        if keep.inputs:
            await self._inputs(int(keep.inputs * 1000), done)
        if keep.generations:
            await self._generations(int(keep.generations * 1000), done)

    async def _videos(self, done: Round) -> None:
        if done.dry_run:
            done.add("videos", await self._db.read(retention.count_due_videos))
            return
        await self._batches("videos", done, retention.due_videos, self._end_video)

    def _end_video(self, tx: Tx, row: Row) -> bool:
        return retention.end_video(tx, row["id"], self._outbox)

    async def _inputs(self, keep_ms: int, done: Round) -> None:
        if done.dry_run:
            done.add("inputs", await self._db.read(lambda tx: retention.count_old_inputs(tx, tx.now - keep_ms)))
            return
        await self._batches(
            "inputs",
            done,
            lambda tx, limit: retention.old_inputs(tx, tx.now - keep_ms, limit),
            lambda tx, row: retention.forget_input(tx, row["id"], tx.now - keep_ms),
        )

    async def _generations(self, keep_ms: int, done: Round) -> None:
        if done.dry_run:
            done.add("generations", await self._db.read(lambda tx: retention.count_old(tx, tx.now - keep_ms)))
            return
        await self._batches(
            "generations",
            done,
            lambda tx, limit: retention.old(tx, tx.now - keep_ms, limit),
            lambda tx, row: retention.forget(tx, row["id"], tx.now - keep_ms),
        )

    async def _batches(self, kind: str, done: Round, find: Find, end: End) -> None:
        """Find some, delete their files, write that down; again until none is left or the storage fails."""
        for _ in range(BATCHES):
            began = self._clock.monotonic()
            rows = await self._db.read(lambda tx: find(tx, FILES))
            gone = await self._delete(rows, done)
            ended = await self._write(end, gone)
            done.add(kind, ended)
            if not ended or len(gone) < len(rows):
                return
            await breathe(self._sleep, self._clock.monotonic() - began)
        done.unfinished = True

    async def _write(self, end: End, rows: Sequence[Row]) -> int:
        return await self._db.write(lambda tx: sum(end(tx, row) for row in rows)) if rows else 0

    async def _delete(self, rows: Sequence[Row], done: Round) -> list[Row]:
        """Delete the files of these generations; those of which nothing is left."""
        places = asyncio.Semaphore(AT_ONCE)

        async def one(row: Row) -> StorageError | None:
            async with places:
                return await self._delete_all(row.get(name) for name in _KEYS)

        failures = await asyncio.gather(*(one(row) for row in rows))
        if failed := [failure for failure in failures if failure is not None]:
            done.problems.append(f"{len(failed)} files could not be deleted: {failed[0]}")
        return [row for row, failure in zip(rows, failures, strict=True) if failure is None]

    async def _delete_all(self, keys: Iterable[str | None]) -> StorageError | None:
        try:
            for key in keys:
                if key is not None:
                    await self._storage.delete(key)
        except StorageError as error:
            return error
        return None
