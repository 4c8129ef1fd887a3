"""Generations after their end: videos that expire, pictures and rows that go, and who owns which file.

A file is always deleted before its row says so: whoever dies in between leaves a row that still names the file, and
the next round deletes it again, which is harmless. The other way round nobody would know of the file any more.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline import outbox, queue, timeline
from pipeline.db import Row, Tx
from pipeline.lifecycle import JobKind
from pipeline.outbox import Outbox
from webhooks.events import EventType

_DUE = "expires_at <= :now AND expires_at IS NOT NULL AND expired_at IS NULL AND deleted_at IS NULL"
_HAS_VIDEO = (
    "(status = 'completed' OR (finished_at IS NOT NULL AND video_key IS NOT NULL))"
    " AND expired_at IS NULL AND deleted_at IS NULL"
)
_OLD_INPUT = (
    "finished_at < :before AND (input_key IS NOT NULL OR last_input_key IS NOT NULL) AND finished_at IS NOT NULL"
)
_OLD = (
    "finished_at < :before AND finished_at IS NOT NULL"
    " AND NOT EXISTS (SELECT 1 FROM job WHERE job.kind = 'generation' AND job.subject_id = generation.id"
    " AND job.finished_at IS NULL)"
    " AND NOT EXISTS (SELECT 1 FROM webhook_event e JOIN webhook_delivery d ON d.event_id = e.id"
    " WHERE e.generation_id = generation.id AND d.finished_at IS NULL)"
)


def due_videos(tx: Tx, limit: int) -> list[Row]:
    """Generations whose video has expired, the longest first."""
    return tx.all(
        f"SELECT id, video_key FROM generation WHERE {_DUE} ORDER BY expires_at LIMIT :limit",
        {"now": tx.now, "limit": limit},
    )


def count_due_videos(tx: Tx) -> int:
    """How many videos have expired and are still kept."""
    return int(tx.value(f"SELECT count(*) FROM generation WHERE {_DUE}", {"now": tx.now}))


def end_video(tx: Tx, generation_id: str, events: Outbox, *, note: str = "video.expired") -> bool:
    """Say that a generation's video is gone, and tell those who asked to be told. False if that was done before."""
    row = tx.one(
        f"SELECT * FROM generation WHERE id = :id AND {_HAS_VIDEO}{tx.for_update}",
        {"id": generation_id},
    )
    if row is None:
        return False
    told = events.wanted(tx, row, EventType.EXPIRED)
    changed = {"expired_at": tx.now, "updated_at": tx.now, "sequence": row["sequence"] + int(told)}
    tx.update("generation", changed, "id = :id", {"id": generation_id})
    timeline.note(tx, row, note)
    if told:
        events.record(tx, row | changed, EventType.EXPIRED)
    return True


def old_inputs(tx: Tx, before: int, limit: int) -> list[Row]:
    """Generations that ended before a time and still have a picture that came with the request."""
    return tx.all(
        f"SELECT id, input_key, last_input_key FROM generation WHERE {_OLD_INPUT} ORDER BY finished_at LIMIT :limit",
        {"before": before, "limit": limit},
    )


def count_old_inputs(tx: Tx, before: int) -> int:
    """How many such there are."""
    return int(tx.value(f"SELECT count(*) FROM generation WHERE {_OLD_INPUT}", {"before": before}))


def forget_input(tx: Tx, generation_id: str, before: int) -> bool:
    """Say that the pictures are gone. False if the generation runs again by now: it will miss it before it pays."""
    return bool(
        tx.run(
            f"UPDATE generation SET input_key = NULL, last_input_key = NULL WHERE id = :id AND {_OLD_INPUT}",
            {"id": generation_id, "before": before},
        )
    )


def old(tx: Tx, before: int, limit: int) -> list[Row]:
    """Generations that ended before a time and of which nothing is to be told any more."""
    return tx.all(
        "SELECT id, video_key, input_key, last_input_key FROM generation"
        f" WHERE {_OLD} ORDER BY finished_at LIMIT :limit",
        {"before": before, "limit": limit},
    )


def count_old(tx: Tx, before: int) -> int:
    """How many such there are."""
    return int(tx.value(f"SELECT count(*) FROM generation WHERE {_OLD}", {"before": before}))


def forget(tx: Tx, generation_id: str, before: int) -> bool:
    """Delete a generation with its events, deliveries, timeline and job; what was paid stays in the ledger."""
    values = {"id": generation_id, "before": before}
    if tx.one(f"SELECT id FROM generation WHERE id = :id AND {_OLD}{tx.for_update}", values) is None:
        return False
    outbox.forget(tx, generation_id)
    timeline.forget(tx, generation_id)
    queue.forget(tx, JobKind.GENERATION, [generation_id])
    tx.run("DELETE FROM generation WHERE id = :id", values)
    return True


def owners(tx: Tx, generation_ids: Sequence[str]) -> dict[str, Row]:
    """What is to be known of generations to say whose a file is, by id."""
    columns = "id, finished_at, video_key, input_key, last_input_key, expired_at, deleted_at"
    rows = tx.all(f"SELECT {columns} FROM generation WHERE id {tx.among}", {"ids": tx.of(generation_ids)})
    return {row["id"]: row for row in rows}


def owns(row: Row | None, key: str) -> bool:
    """Whether a generation has, or may still come to have, this file. Pure."""
    if row is None:
        return False
    if row["finished_at"] is None:
        return True
    if row["deleted_at"] is not None:
        return False
    return key in {row["input_key"], row["last_input_key"]} or (key == row["video_key"] and row["expired_at"] is None)


def with_video(tx: Tx, after: str, limit: int) -> list[Row]:
    """Generations that should have a video, by id, behind `after`."""
    return tx.all(
        f"SELECT id, video_key FROM generation WHERE id > :after AND {_HAS_VIDEO} ORDER BY id LIMIT :limit",
        {"after": after, "limit": limit},
    )
