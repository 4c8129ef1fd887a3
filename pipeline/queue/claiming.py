"""Claiming: who takes which due job, and how long it is held."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.db import Row, Tx
from pipeline.lifecycle import JobKind, Step
from pipeline.queue.jobs import Claim

_LANES = """
WITH RECURSIVE lanes(lane) AS (
  SELECT min(lane) FROM job WHERE status = 'pending' AND step = :step
  UNION ALL
  SELECT (SELECT min(j.lane) FROM job j WHERE j.status = 'pending' AND j.step = :step AND j.lane > lanes.lane)
  FROM lanes WHERE lanes.lane IS NOT NULL
)
"""

_DUE_OF_LANE = """
SELECT j.id, j.lane, j.scheduled_for FROM job j
  WHERE j.status = 'pending' AND j.step = :step AND j.lane = lanes.lane AND j.scheduled_for <= :now
  ORDER BY j.scheduled_for, j.id LIMIT :per_lane"""

_DUE_SQLITE = f"""
SELECT job.id, job.lane, job.scheduled_for FROM lanes JOIN job ON job.id IN (SELECT id FROM ({_DUE_OF_LANE}))
ORDER BY job.scheduled_for, job.id"""

_DUE_POSTGRES = f"""
SELECT job.id, job.lane, job.scheduled_for FROM lanes CROSS JOIN LATERAL ({_DUE_OF_LANE}
  FOR UPDATE SKIP LOCKED) job
ORDER BY job.scheduled_for, job.id"""
"""PostgreSQL would try every job with every lane, were it asked as SQLite is, which has no LATERAL."""

_EXPIRED = """
SELECT id, lane, locked_until AS scheduled_for FROM job
WHERE status = 'processing' AND step = :step AND locked_until <= :now ORDER BY locked_until, id LIMIT :rescues"""

RESCUES = 1_000
"""Expired leases that one claim looks at: enough that those of a lane without a free place hide no others."""

_TAKE = """
UPDATE job SET status = 'processing', fence = fence + 1, claims_unrecorded = claims_unrecorded + 1,
  locked_by = :worker, locked_until = :until
WHERE id {among} AND step = :step
  AND ((status = 'pending' AND scheduled_for <= :now) OR (status = 'processing' AND locked_until <= :now))
RETURNING id, kind, subject_id, tenant_id, lane, step, attempts, polls, claims_unrecorded, fence, wake_seq"""


def claim(
    tx: Tx,
    *,
    worker: str,
    step: Step,
    limit: int,
    lease: float,
    busy: Mapping[str, int] | None = None,
    per_lane: int = 0,
    rooms: Mapping[str, int] | None = None,
    proven: Collection[str] = (),
) -> list[Claim]:
    """Take up to `limit` due jobs of a step, expired leases first, then lanes in turn.

    `busy` counts the turns that this process already runs per lane, of which `per_lane` are allowed (0: no bound), so
    that one slow receiver or provider cannot fill the slots. Where `rooms` are given, nothing is taken of other lanes,
    and of each no more than it says; and many slow receivers together leave places for the others, above all for those
    that are `proven`: see `_SHARES`.
    """
    lanes = dict(busy or {})
    if rooms is not None:
        rooms = _sharing(rooms, lanes, _Places(sum(lanes.values()), limit, proven))
    bounds = None if rooms is None else {lane: lanes.get(lane, 0) + room for lane, room in rooms.items()}
    unbound = limit + max(lanes.values(), default=0)
    most = per_lane or unbound if rooms is None else max(rooms.values(), default=0)
    if not most:
        return []
    rescued = tx.all(_EXPIRED + tx.skip_locked, {"step": step, "now": tx.now, "rescues": RESCUES})
    expired = {row["id"] for row in rescued}
    due = rescued + _due(tx, step, min(limit, most), rooms)
    places = _Places(sum(lanes.values()), limit, None if rooms is None else proven)
    chosen = _in_turn(due, lanes, lambda lane: most if bounds is None else bounds.get(lane, 0), places)
    got = _take(tx, [row["id"] for row in chosen], step=step, worker=worker, lease=lease)
    return [
        _as_claim(
            got[row["id"]],
            worker=worker,
            late_ms=max(0, tx.now - row["scheduled_for"]),
            rescued=row["id"] in expired,
        )
        for row in chosen
        if row["id"] in got
    ]


def _due(tx: Tx, step: Step, per_lane: int, rooms: Mapping[str, int] | None) -> list[Row]:
    """Up to `per_lane` due jobs of every lane, or of those that have room."""
    asked = {"step": step, "now": tx.now, "per_lane": per_lane}
    lanes, named = _LANES, {}
    if rooms is not None:
        lanes, named = f"WITH lanes(lane) AS (SELECT key FROM {tx.each('rooms')} r)", {"rooms": json.dumps(dict(rooms))}
    return tx.all(lanes + (_DUE_POSTGRES if tx.postgres else _DUE_SQLITE), asked | named)


def _take(tx: Tx, ids: list[int], *, step: Step, worker: str, lease: float) -> dict[int, Row]:
    """Take those that are still to be had, all in one statement; by id."""
    if not ids:
        return {}
    among = "= ANY(:ids)" if tx.postgres else "IN (SELECT value FROM json_each(:ids))"
    values = {
        "ids": ids if tx.postgres else json.dumps(ids),
        "step": step,
        "worker": worker,
        "until": tx.now + int(lease * 1000),
        "now": tx.now,
    }
    return {row["id"]: row for row in tx.all(_TAKE.format(among=among), values)}


_SHARES = {True: (1.0, 1.0, 0.75), False: (1.0, 0.5, 0.5)}
"""Of a process's places, so much may be taken before a lane gets its first, its second, and any more; the first row is
for lanes whose last attempt was taken. A hundred receivers that hang would hold every place for as long as
WEBHOOK_TIMEOUT, before anything is known of them."""
_FEW = 16
"""Places that are not shared out like that: two lanes may fill them."""


@dataclass(frozen=True, slots=True)
class _Places:
    """The places of a process for a step: in use and free, and the proven lanes if they are shared by `_SHARES`."""

    used: int
    free: int
    proven: Collection[str] | None

    def has(self, taken: int, lane: str, rank: int) -> bool:
        """Whether there is one, after so many were taken, for the `rank`-th (from 0) of a lane."""
        if self.proven is None or taken >= self.free:
            return taken < self.free
        share = _SHARES[lane in self.proven][min(rank, 2)]
        return self.used + taken < max(_FEW, (self.used + self.free) * share)


def _sharing(rooms: Mapping[str, int], busy: Mapping[str, int], places: _Places) -> dict[str, int]:
    """The rooms of which something could come: others need not be looked at."""
    left = {}
    for lane, room in rooms.items():
        has = busy.get(lane, 0)
        ranks = range(has, has + room)
        left[lane] = next((rank - has for rank in ranks if not places.has(0, lane, rank)), room)
    return {lane: room for lane, room in left.items() if room}


def _in_turn(due: Sequence[Row], busy: dict[str, int], bound: Callable[[str], int], places: _Places) -> list[Row]:
    """One job of each lane, then a second of each, and so on while there are places; a lane stops at its bound."""
    ranked = []
    for order, row in enumerate(due):
        rank = busy.get(row["lane"], 0)
        if rank < bound(row["lane"]):
            busy[row["lane"]] = rank + 1
            ranked.append((rank, order, row))
    chosen: list[Row] = []
    for rank, _, row in sorted(ranked, key=lambda item: item[:2]):
        if places.has(len(chosen), row["lane"], rank):
            chosen.append(row)
    return chosen


def _as_claim(row: Row, *, worker: str, late_ms: int, rescued: bool) -> Claim:
    values = dict(row)
    values["kind"], values["step"] = JobKind(row["kind"]), Step(row["step"])
    return Claim(**values, worker=worker, late_ms=late_ms, rescued=rescued)


_OPEN = " AND NOT EXISTS (SELECT 1 FROM lane l WHERE l.name = lanes.lane AND l.paused_until > :now)"
"""What waits in the closed lane of an endpoint comes due with its opening, of which admission knows."""


def next_due(tx: Tx, steps: Sequence[Step]) -> int | None:
    """When the next job of these steps comes due, in the database's milliseconds; leases that end count too.

    What is due already is left out: whoever just claimed and did not get it has no place for it, and the end of one of
    its turns is what to wait for.
    """
    times = []
    for step in steps:
        pending = (
            _LANES
            + (
                "SELECT min((SELECT min(j.scheduled_for) FROM job j WHERE j.status = 'pending' AND j.step = :step"
                " AND j.lane = lanes.lane AND j.scheduled_for > :now)) FROM lanes WHERE lanes.lane IS NOT NULL"
            )
            + (_OPEN if step is Step.DELIVER else "")
        )
        leased = (
            "SELECT min(locked_until) FROM job WHERE status = 'processing' AND step = :step AND locked_until > :now"
        )
        times += [tx.value(sql, {"step": step, "now": tx.now}) for sql in (pending, leased)]
    return min((time for time in times if time is not None), default=None)


def extend(tx: Tx, worker: str, job_ids: Iterable[int], lease: float) -> set[int]:
    """Renew the leases of the turns that a process runs; returns the ids of the jobs that it still holds.

    What is leased to it but not run (a turn that crashed, a claim whose commit was not answered) is left to expire.
    On PostgreSQL the rows are locked in the order in which records lock them, and then renewed by their ids alone: as
    one statement with a subquery it would look for each of them anew, among all.
    """
    ids: list[int] = sorted(job_ids)
    if not ids:
        return set()
    held = f"status = 'processing' AND locked_by = :worker AND locked_until > :now AND id {tx.among}"
    asked = {"worker": worker, "now": tx.now, "ids": ids if tx.postgres else json.dumps(ids)}
    until = tx.now + int(lease * 1000)
    if not tx.postgres:
        renewed = tx.all(f"UPDATE job SET locked_until = :until WHERE {held} RETURNING id", asked | {"until": until})
        return {row["id"] for row in renewed}
    ours = [row["id"] for row in tx.all(f"SELECT id FROM job WHERE {held} ORDER BY id{tx.for_update}", asked)]
    tx.run("UPDATE job SET locked_until = :until WHERE id = ANY(:ids)", {"until": until, "ids": ours})
    return set(ours)
