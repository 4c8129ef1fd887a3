"""What is due, and when more will be, by step: one question of a few index reads, however much is in flight."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.db import Tx
from pipeline.lifecycle import Step

_AGENDA = """
WITH RECURSIVE lanes(step, lane) AS (
  SELECT s.value, (SELECT min(j.lane) FROM job j WHERE j.status = 'pending' AND j.step = s.value) FROM {steps} s
  UNION ALL
  SELECT step, (SELECT min(j.lane) FROM job j
    WHERE j.status = 'pending' AND j.step = lanes.step AND j.lane > lanes.lane)
  FROM lanes WHERE lanes.lane IS NOT NULL
)
SELECT step, min((SELECT min(j.scheduled_for) FROM job j
    WHERE j.status = 'pending' AND j.step = lanes.step AND j.lane = lanes.lane)) AS first,
  min((SELECT min(j.scheduled_for) FROM job j
    WHERE j.status = 'pending' AND j.step = lanes.step AND j.lane = lanes.lane AND j.scheduled_for > :now)) AS later
FROM lanes WHERE lane IS NOT NULL GROUP BY step"""

_LEASES = """
SELECT step, min(locked_until) AS first, min(CASE WHEN locked_until > :now THEN locked_until END) AS later
FROM job WHERE status = 'processing' GROUP BY step"""


@dataclass(frozen=True, slots=True)
class Agenda:
    """`due`: the steps of which something can be claimed now, expired leases among it. `later`: when the first of what
    is not due yet will be, in the database's milliseconds, or None."""

    due: frozenset[Step]
    later: int | None


def agenda(tx: Tx, steps: Iterable[Step]) -> Agenda:
    """What is due of these steps, and when more will be. In the lanes of one step each costs a few index reads, so
    that the step whose lanes are endpoints is asked by `next_due` instead."""
    wanted = [str(step) for step in steps]
    named = "(SELECT unnest(CAST(:steps AS text[])) AS value)" if tx.postgres else "json_each(:steps)"
    asked = {"steps": wanted if tx.postgres else json.dumps(wanted), "now": tx.now}
    pending = tx.all(_AGENDA.format(steps=named), asked)
    leased = [row for row in tx.all(_LEASES, {"now": tx.now}) if row["step"] in wanted]
    rows = pending + leased
    due = frozenset(Step(row["step"]) for row in rows if row["first"] <= tx.now)
    return Agenda(due, min((int(row["later"]) for row in rows if row["later"] is not None), default=None))
