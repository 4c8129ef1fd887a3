"""Paid calls of which nobody can tell what became: every one that is open and unknown, the oldest first, and every
one that was intended so long ago that whoever made it cannot live any more. Their generation may be gone by now."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.db import Row, Tx
from pipeline.lifecycle import JobKind

Place = tuple[int, str]
"""Where a page ended: when its last call was intended, in milliseconds, and the generation's id."""

_COLUMNS = (
    "s.generation_id, s.tenant_id, s.run, s.provider, s.model, s.estimate_micros, s.intended_at, s.answered_at,"
    " s.carries, s.candidate_operation_id, s.error_message, s.error_code, s.outcome, g.client_id, g.user_id, g.status,"
    " g.stage, g.prompt, g.deleted_at, g.id AS known, g.cancel_requested_at, j.step, coalesce(j.polls, 0) AS looks"
)


def unclear(tx: Tx, tenant: str | None, *, limit: int, after: Place | None = None, lost_before: int = 0) -> list[Row]:
    """Up to `limit` of them behind the place `after`, of one tenant or of all, with what their generation and its job
    say. Tokens are left out. `lost_before`: those that were intended before (milliseconds) and never answered, too.
    """
    where, values = "", {"limit": limit, "kind": JobKind.GENERATION}
    if tenant is not None:
        # not by the tenant's index: what is unclear is little, what a tenant has submitted is much
        where, values = where + " AND coalesce(s.tenant_id, '') = :tenant", values | {"tenant": tenant}
    if after is not None:
        where += " AND (s.intended_at, s.generation_id) > (:at, :id)"
        values |= {"at": after[0], "id": after[1]}
    found = tx.all(_ROWS.format(which="s.outcome = 'unknown'", where=where), values)
    if lost_before:
        found += tx.all(_ROWS.format(which=_LOST, where=where), values | {"before": lost_before})
    return sorted(found, key=lambda row: (row["intended_at"], row["generation_id"]))[:limit]


def unclear_of(tx: Tx, generation_id: str) -> Row | None:
    """The same of one generation; None while the outcome of each of its calls is known."""
    which = "s.generation_id = :id AND s.outcome = 'unknown'"
    sql = _ROWS.format(which=which, where="")
    return tx.one(sql, {"id": generation_id, "kind": JobKind.GENERATION, "limit": 1})


_ROWS = (
    f"SELECT {_COLUMNS} FROM submission s LEFT JOIN generation g ON g.id = s.generation_id"
    " LEFT JOIN job j ON j.kind = :kind AND j.subject_id = s.generation_id AND j.finished_at IS NULL"
    " WHERE {which}{where} ORDER BY s.intended_at, s.generation_id LIMIT :limit"
)
_LOST = "s.outcome IN ('intended', 'accepted', 'unknown') AND s.outcome = 'intended' AND s.intended_at < :before"
"""The first term is that of the index."""


def attempts(tx: Tx, generation_ids: Sequence[str]) -> dict[str, list[Row]]:
    """What the timelines of generations say of trying to find out, by generation: `event`, `times`, `run`."""
    rows = tx.all(
        "SELECT generation_id, run, event, count(*) AS times FROM timeline"
        f" WHERE generation_id {tx.among} AND (event = 'resolve.failed' OR event = 'resolve.unclear')"
        " GROUP BY generation_id, run, event ORDER BY event",
        {"ids": tx.of(generation_ids)},
    )
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["generation_id"], []).append(row)
    return found
