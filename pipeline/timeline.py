"""The timeline of a generation: what happened, in words for people. Append-only; prompts and secrets never enter it."""

from __future__ import annotations

import json

from pipeline.db import Row, Tx


def note(tx: Tx, generation: Row, event: str, **detail: object) -> None:
    """Add one line. Details that are None are left out."""
    known = {key: value for key, value in detail.items() if value is not None}
    tx.insert(
        "timeline",
        {
            "generation_id": generation["id"],
            "tenant_id": generation["tenant_id"],
            "run": generation["run"],
            "at": tx.now,
            "event": event,
            "detail": json.dumps(known, default=str) if known else None,
        },
    )


def read(tx: Tx, generation_id: str, *, after: int = 0, limit: int = 1000) -> list[Row]:
    """The lines of a generation, oldest first, behind the line `after`."""
    return tx.all(
        "SELECT id, run, at, event, detail FROM timeline WHERE generation_id = :id AND id > :after"
        " ORDER BY id LIMIT :limit",
        {"id": generation_id, "after": after, "limit": limit},
    )
