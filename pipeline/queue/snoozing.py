"""Many jobs of one process put off by two statements: what most turns come to, since most polls find nothing new."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.db import Row, Tx
from pipeline.queue.jobs import Claim

_LOOK = "SELECT id, fence, wake_seq, status, locked_by, locked_until FROM job WHERE id {among}{skip_locked}"
"""By the primary key alone: asked together with the lease, PostgreSQL takes its index, since it believes that next to
nothing is being worked on, and reads all of it once for each job."""

_SNOOZE = """
UPDATE job SET status = 'pending', polls = polls + 1, attempts = 0, claims_unrecorded = 0, locked_by = NULL,
  locked_until = NULL, scheduled_for = s.due FROM {rows} WHERE job.id = s.id"""
_ROWS_SQLITE = (
    "(SELECT json_extract(value, '$[0]') AS id, json_extract(value, '$[1]') AS due FROM json_each(:rows)) AS s"
)
_ROWS_POSTGRES = "unnest(CAST(:ids AS bigint[]), CAST(:dues AS bigint[])) AS s(id, due)"


@dataclass(frozen=True, slots=True)
class Snoozed:
    """A job that was put off. `woken`: its wake-up moved during the turn, so that it is due at once."""

    id: int
    woken: bool


def snooze_all(tx: Tx, claims: Sequence[tuple[Claim, float]]) -> dict[int, Snoozed]:
    """Put off jobs of one process, each by its seconds, under their fences, as `acknowledge` does with a Snooze.

    By job id those that were; of the others the lease is lost, or somebody held the row just then: nothing is waited
    for.
    """
    if not claims:
        return {}
    held = _hold(tx, [claim for claim, _ in claims])
    put_off = {claim.id: Snoozed(claim.id, held[claim.id] != claim.wake_seq) for claim, _ in claims if claim.id in held}
    dues = {claim.id: tx.now + int(delay * 1000) for claim, delay in claims}
    _put_off(tx, [(job.id, tx.now if job.woken else dues[job.id]) for job in put_off.values()])
    return put_off


def _hold(tx: Tx, claims: Sequence[Claim]) -> dict[int, int]:
    """Hold the rows that are still ours and that nobody else holds: their `wake_seq` as it is now, by job id."""
    ids = [claim.id for claim in claims]
    sql = _LOOK.format(among=tx.among, skip_locked=tx.skip_locked)
    rows = {row["id"]: row for row in tx.all(sql, {"ids": ids if tx.postgres else json.dumps(ids)})}
    return {
        claim.id: rows[claim.id]["wake_seq"]
        for claim in claims
        if claim.id in rows and _ours(rows[claim.id], claim, tx)
    }


def _ours(row: Row, claim: Claim, tx: Tx) -> bool:
    held = (row["status"], row["fence"], row["locked_by"]) == ("processing", claim.fence, claim.worker)
    return held and bool(row["locked_until"] > tx.now)


def _put_off(tx: Tx, rows: Sequence[tuple[int, int]]) -> None:
    if tx.postgres:
        ids, dues = ([row[at] for row in rows] for at in (0, 1))
        tx.run(_SNOOZE.format(rows=_ROWS_POSTGRES), {"ids": ids, "dues": dues})
    else:
        tx.run(_SNOOZE.format(rows=_ROWS_SQLITE), {"rows": json.dumps(rows)})
