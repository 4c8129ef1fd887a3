"""What is new about generations that are being watched: one question to the database, however many watch.

Whoever asks has been allowed to see each of these generations: `read.visible` was asked when the watch began.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any

from pipeline.db import Row, Tx

LINES_AT_ONCE = 2_000
"""Lines that one look returns at most: what a timeline of years holds is read in several."""

State = tuple[Any, ...]
"""What is compared to find out whether a generation is shown otherwise than before."""

_STATE = "status, stage, progress, sequence, run, error_code, cancel_requested_at, expires_at, expired_at, deleted_at"


@dataclass(frozen=True, slots=True)
class News:
    """What one look found.

    Attributes:
        lines: of the timelines, oldest first.
        states: of every generation that is there.
        rows: the generations whose state is not the one that was known.
        more: there are more lines: look again at once.
    """

    lines: list[Row]
    states: dict[str, State]
    rows: dict[str, Row]
    more: bool


def look(
    tx: Tx, cursors: Mapping[str, int], known: Mapping[str, Set[State | None]], *, limit: int = LINES_AT_ONCE
) -> News:
    """The lines behind each generation's cursor, and the states that are not the only one known."""
    asked = {"asked": json.dumps(cursors)}
    lines = tx.all(
        f"SELECT t.id, t.generation_id, t.run, t.at, t.event, t.detail FROM {tx.each('asked')} AS w"
        " JOIN timeline t ON t.generation_id = w.key AND t.id > CAST(w.value AS bigint) ORDER BY t.id LIMIT :limit",
        asked | {"limit": limit},
    )
    found = tx.all(f"SELECT g.id, {_STATE} FROM {tx.each('asked')} AS w JOIN generation g ON g.id = w.key", asked)
    states = {row.pop("id"): tuple(row.values()) for row in found}
    changed = {"asked": json.dumps(dict.fromkeys(key for key, state in states.items() if known[key] != {state}))}
    rows = tx.all(f"SELECT g.* FROM {tx.each('asked')} AS w JOIN generation g ON g.id = w.key", changed)
    return News(lines, states, {row["id"]: row for row in rows}, len(lines) == limit)
