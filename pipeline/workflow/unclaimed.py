"""Which submissions of a generation may have been taken although nobody counts on it. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.db import Row


def strays_of(submissions: Sequence[Row], *, ended: bool) -> list[Row]:
    """Those of a generation's submissions that may have been taken although nobody counts on it, and that nobody has
    looked into yet: closed, and named by a callback; closed, and answered late; or named with a second operation.

    Of a generation that has ended also those that are open and named: no other turn clears them up. Pure.
    """
    return [row for row in submissions if _is_stray(row, ended)]


def _is_stray(row: Row, ended: bool) -> bool:
    candidate, known = row["candidate_operation_id"], row["operation_id"]
    if known is None:
        return candidate is not None and (ended or row["outcome"] not in {"intended", "unknown"})
    return _is_another(candidate, known) or row["outcome"] in {"rejected", "abandoned"}


def is_news(row: Row, named: str | None) -> bool:
    """Whether an operation that was named for a submission says more of it than its own answer did."""
    return named is not None and (row["operation_id"] is None or _is_another(named, row["operation_id"]))


def _is_another(candidate: str | None, known: str) -> bool:
    """Whether a name is another operation's, and not the short form of a path or the like."""
    return candidate is not None and not known.endswith(candidate) and not candidate.endswith(known)
