"""Many jobs of one process put off in one statement: what most turns come to, since most polls find nothing new."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.db import Tx
from pipeline.queue.jobs import Claim

_HELD = "status = 'processing' AND locked_by = :worker AND locked_until > :now"

_SNOOZE = f"""
UPDATE job SET status = 'pending', polls = job.polls + 1, attempts = 0, claims_unrecorded = 0, locked_by = NULL,
  locked_until = NULL, scheduled_for = CASE WHEN job.wake_seq = s.wake_seq THEN s.due ELSE :now END
FROM {{rows}} WHERE job.id = s.id AND job.fence = s.fence AND {_HELD}{{free}}
RETURNING job.id, job.wake_seq"""

_ROWS_SQLITE = (
    "(SELECT json_extract(value, '$[0]') AS id, json_extract(value, '$[1]') AS fence,"
    " json_extract(value, '$[2]') AS wake_seq, json_extract(value, '$[3]') AS due FROM json_each(:rows)) AS s"
)
_ROWS_POSTGRES = (
    "unnest(CAST(:ids AS bigint[]), CAST(:fences AS bigint[]), CAST(:wakes AS bigint[]), CAST(:dues AS bigint[]))"
    " AS s(id, fence, wake_seq, due)"
)
_FREE = f" AND job.id IN (SELECT id FROM job WHERE id = ANY(:ids) AND {_HELD} FOR UPDATE SKIP LOCKED)"
"""Nothing is waited for: what somebody renews or wakes just now is put off by a record of its own."""


@dataclass(frozen=True, slots=True)
class Snoozed:
    """A job that was put off. `woken`: its wake-up moved during the turn, so that it is due at once."""

    id: int
    woken: bool


def snooze_all(tx: Tx, claims: Sequence[tuple[Claim, float]]) -> dict[int, Snoozed]:
    """Put off jobs of one process, each by its seconds, under their fences, as `acknowledge` does with a Snooze.

    By job id those that were; of the others the lease is lost, or somebody held the row just then.
    """
    if not claims:
        return {}
    rows = [(claim.id, claim.fence, claim.wake_seq, tx.now + int(delay * 1000)) for claim, delay in claims]
    values: dict[str, object] = {"worker": claims[0][0].worker, "now": tx.now}
    if tx.postgres:
        values |= dict(zip(("ids", "fences", "wakes", "dues"), map(list, zip(*rows, strict=True)), strict=True))
        sql = _SNOOZE.format(rows=_ROWS_POSTGRES, free=_FREE)
    else:
        values["rows"] = json.dumps(rows)
        sql = _SNOOZE.format(rows=_ROWS_SQLITE, free="")
    known = {claim.id: claim.wake_seq for claim, _ in claims}
    return {row["id"]: Snoozed(row["id"], row["wake_seq"] != known[row["id"]]) for row in tx.all(sql, values)}
