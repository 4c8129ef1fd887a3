"""The timeline of a generation: what happened, in words for people. Append-only; prompts and secrets never enter it."""

from __future__ import annotations

import json
from collections.abc import Mapping

from pipeline.db import Row, Tx
from pipeline.queue import Claim


def note(tx: Tx, generation: Row, event: str, **detail: object) -> None:
    """Add one line. Details that are None are left out.

    The lines of one generation are committed in the order of their ids, so that who has seen one has seen all before
    it: SQLite has one writer, PostgreSQL draws the id under a lock on the generation's row.
    """
    _write(tx, generation, event, detail, {"fence": None, "worker": None})


def note_turn(tx: Tx, turn: Claim, generation: Row, event: str, **detail: object) -> None:
    """The same, written by a turn: who has seen the lines of a generation can tell whether its turns came one after the
    other."""
    _write(tx, generation, event, detail, {"fence": turn.fence, "worker": turn.worker})


def _write(tx: Tx, generation: Row, event: str, detail: Mapping[str, object], by: Mapping[str, object]) -> None:
    known = {key: value for key, value in detail.items() if value is not None}
    line = {
        "id": generation["id"],
        "tenant": generation["tenant_id"],
        "run": generation["run"],
        "at": tx.now,
        "event": event,
        "detail": json.dumps(known, default=str) if known else None,
    }
    tx.run(_NOTE + (_IN_ORDER if tx.postgres else ""), line | dict(by))


_NOTE = (
    "INSERT INTO timeline (generation_id, tenant_id, run, at, event, detail, fence, worker)"
    " SELECT id, :tenant, :run, :at, :event, :detail, CAST(:fence AS BIGINT), CAST(:worker AS TEXT)"
    " FROM generation WHERE id = :id"
)
_IN_ORDER = " FOR NO KEY UPDATE"


def note_each(tx: Tx, event: str, details: Mapping[str, Mapping[str, object]]) -> None:
    """Add one line to each of many generations, by their ids, in one statement."""
    if details:
        lines = json.dumps({name: json.dumps(detail, default=str) for name, detail in details.items()})
        sql = _NOTE_EACH.format(each=tx.each("lines"))
        tx.run(sql + (f"{_IN_ORDER} OF g" if tx.postgres else ""), {"lines": lines, "at": tx.now, "event": event})


_NOTE_EACH = (
    "INSERT INTO timeline (generation_id, tenant_id, run, at, event, detail)"
    " SELECT g.id, g.tenant_id, g.run, CAST(:at AS BIGINT), CAST(:event AS TEXT), line.value"
    " FROM {each} AS line JOIN generation g ON g.id = line.key"
)


def read(tx: Tx, generation_id: str, *, after: int = 0, limit: int = 1000) -> list[Row]:
    """The lines of a generation, oldest first, behind the line `after`."""
    return tx.all(
        "SELECT id, run, at, event, detail FROM timeline WHERE generation_id = :id AND id > :after"
        " ORDER BY id LIMIT :limit",
        {"id": generation_id, "after": after, "limit": limit},
    )


def prune(tx: Tx, *, before: int, limit: int, dry: bool = False) -> int:
    """Delete the oldest lines from before a time, or count them all."""
    if dry:
        return int(tx.value("SELECT count(*) FROM timeline WHERE at < :before", {"before": before}))
    oldest = "SELECT id FROM (SELECT id, at FROM timeline ORDER BY id LIMIT :limit) AS oldest WHERE at < :before"
    return tx.run(f"DELETE FROM timeline WHERE id IN ({oldest})", {"before": before, "limit": limit})


def forget(tx: Tx, generation_id: str) -> None:
    """Delete the lines of a generation."""
    tx.run("DELETE FROM timeline WHERE generation_id = :id", {"id": generation_id})
