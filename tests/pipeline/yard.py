"""A database, a folder of files, and what cleans both, for tests."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline import queue, timeline
from pipeline.clock import Clock
from pipeline.db import Database, Row, Tx
from pipeline.ids import new_id
from pipeline.lifecycle import JobKind, Step
from pipeline.maintenance import Keep, Maintenance, Round
from pipeline.names import input_key, video_key
from pipeline.outbox import Outbox
from pipeline.spool import Spool
from pipeline.storage import LocalStorage
from tests.pipeline.engines import Time

DAY = 86_400.0


@dataclass
class Yard:
    """A database, a folder of files, and what cleans both."""

    db: Database
    storage: LocalStorage
    folder: Path
    outbox: Outbox
    clock: Clock
    time: Time
    pauses: list[float] = field(default_factory=list)

    def cleaner(self, **keep: float) -> Maintenance:
        async def pause(seconds: float) -> None:
            self.pauses.append(seconds)
            await asyncio.sleep(0)

        return Maintenance(
            self.db, self.storage, Spool(self.folder / "spool", 1_000), self.outbox, self.clock, Keep(**keep),
            sleep=pause,
        )  # fmt: skip

    async def clean(self, *, dry_run: bool = False, **keep: float) -> dict[str, int]:
        """What a round counted, by kind; nothing that is nothing."""
        done = await self.round(dry_run=dry_run, **keep)
        assert done.problems == []
        return {kind: count for kind, count in done.counts.items() if count}

    async def round(self, *, dry_run: bool = False, **keep: float) -> Round:
        return await self.cleaner(**keep).run(dry_run=dry_run)

    async def put(self, key: str) -> None:
        path = self.storage.local_path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"video")

    async def ended(self, status: str = "completed", *, picture: bool = False, **values: Any) -> str:
        """A generation that ends now, with its files, its line and its finished job."""
        row = await self.db.write(lambda tx: _insert(tx, status, picture, values))
        for key in (row["video_key"], row["input_key"]):
            if key is not None:
                await self.put(key)
        return str(row["id"])

    async def row(self, generation_id: str) -> Row | None:
        return await self.db.read(lambda tx: tx.one("SELECT * FROM generation WHERE id = :id", {"id": generation_id}))

    async def count(self, table: str) -> int:
        return int(await self.db.read(lambda tx: tx.value(f"SELECT count(*) FROM {table}")))

    def files(self) -> list[str]:
        root = self.folder / "files"
        return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def _insert(tx: Tx, status: str, picture: bool, values: Row) -> Row:
    generation_id, token = new_id("gen", tx.now), new_id("sub", tx.now)
    done = status == "completed"
    row: Row = {
        "id": generation_id,
        "tenant_id": "default",
        "request_hash": "",
        "prompt": "a fox",
        "parameters": "{}",
        "labels": "{}",
        "provider": "mock",
        "priority": 5,
        "status": status,
        "run": 1,
        "sequence": 1,
        "video_key": video_key("default", generation_id, token) if done else None,
        "video_sha256": "00" if done else None,
        "video_bytes": 5 if done else None,
        "input_key": input_key("default", generation_id) if picture else None,
        "input_type": "image/png" if picture else None,
        "created_at": tx.now,
        "updated_at": tx.now,
        "finished_at": tx.now if status in {"completed", "failed", "cancelled"} else None,
    } | values
    tx.insert("generation", row)
    timeline.note(tx, row, status)
    job = queue.NewJob(JobKind.GENERATION, generation_id, "default", "provider:mock", Step.POLL)
    queue.enqueue(tx, job)
    if row["finished_at"] is not None:
        tx.update("job", {"status": "done", "finished_at": row["finished_at"]}, "subject_id = :id", row)
    return row
