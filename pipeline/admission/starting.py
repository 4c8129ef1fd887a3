"""Starting: who is next. It alone moves jobs from `waiting` to `pending`; deliveries do not pass here.

Who is next says `line`, for all roads: into an open lane, into one that is probed, with money and without, and out of a
paused lane to another provider.
"""

from __future__ import annotations

from time import perf_counter

from pipeline import spending
from pipeline.admission import funding
from pipeline.admission.bounds import Bounds, at_submit, in_flight, next_call, room, used
from pipeline.admission.lanes import EVERYTHING, Closed, closed, hold_lane, is_paused, some_user_is_capped
from pipeline.admission.line import ELSEWHERE, line
from pipeline.admission.probes import probes
from pipeline.db import Row, Tx
from pipeline.lifecycle import Fault
from pipeline.spending import Purse

_WAITING_LANES = """
WITH RECURSIVE lanes(lane) AS (
  SELECT min(lane) FROM job WHERE status = 'waiting'
  UNION ALL
  SELECT (SELECT min(j.lane) FROM job j WHERE j.status = 'waiting' AND j.lane > lanes.lane)
  FROM lanes WHERE lanes.lane IS NOT NULL
)
SELECT lane FROM lanes WHERE lane IS NOT NULL"""


_COUNTING = 724_504
"""The lock under which PostgreSQL's processes count what a user has in flight, which may be in several lanes."""


def admit(tx: Tx, *, limit: int, bounds: Bounds, purse: Purse | None = None) -> int:
    """Start up to `limit` waiting jobs per lane, within the bounds of the lane and of users and the caps of the purse,
    unless it is paused. Returns how many."""
    if is_paused(tx, EVERYTHING):
        return 0
    purse = purse or Purse()
    names = [row["lane"] for row in tx.all(_WAITING_LANES)]
    if tx.postgres and names and (bounds.user is not None or some_user_is_capped(tx)):
        tx.value("SELECT pg_advisory_xact_lock(:lock)", {"lock": _COUNTING})
    paying = {name for name in names if funding.binds(purse, name)}
    if paying:
        spending.lock(tx)
    money, purse.more = spending.Money(tx, purse), False
    return sum(_admit_lane(tx, name, limit, bounds, (purse, money) if name in paying else None) for name in names)


def _admit_lane(tx: Tx, name: str, limit: int, bounds: Bounds, funds: tuple[Purse, spending.Money] | None) -> int:
    lane = hold_lane(tx, name)
    if (lane["paused_until"] or 0) > tx.now:
        return _let_through(tx, name, bounds, limit)
    if tx.now < bounds.memory.rests.get(name, 0):
        return 0
    free = min(limit, room(tx, lane, bounds))
    if free <= 0:
        return 0
    if funds is not None:
        return funding.start(tx, *funds, name, bounds, free, probing=bool(lane["probing"]))
    began = perf_counter()
    found = probes(tx, name, bounds, free) if lane["probing"] else line(tx, name, bounds, free)
    if found.costly and len(found.jobs) < free:
        bounds.memory.rest(name, tx.now, (perf_counter() - began) * 1000)
    return start(tx, found.jobs)


def _let_through(tx: Tx, name: str, bounds: Bounds, limit: int) -> int:
    """Of a paused lane those go on that can ask somebody else: their submit turn sends them there, and pays nobody.

    At most `limit` are on their way at once, whatever the lane's bounds.
    """
    free = limit - at_submit(tx, name)
    return start(tx, line(tx, name, bounds, free, ELSEWHERE).jobs) if free > 0 else 0


def start(tx: Tx, jobs: list[Row]) -> int:
    """They wait no longer, unless they were taken back meanwhile; how many that is."""
    if not jobs:
        return 0
    return tx.run(
        f"UPDATE job SET status = 'pending', scheduled_for = :now WHERE status = 'waiting' AND id {tx.among}",
        {"now": tx.now, "ids": tx.of([job["id"] for job in jobs])},
    )


def gate(tx: Tx, lane: str, bounds: Bounds, *, strict: bool) -> Closed | None:
    """Why a turn may not pay now, in the transaction of its intent; None if it may.

    `strict` is for a job that did not pass the bounds on its way to this turn: one that is tried again, or that was let
    through a paused lane. The others were counted when they started.
    """
    shut = closed(tx, lane)
    if shut is not None:
        return shut
    row = tx.one("SELECT * FROM lane WHERE name = :name", {"name": lane})
    if row is not None and row["probing"] and at_submit(tx, lane) > 1:
        return Closed(Fault("lane_probing", "one call at a time until the provider works again"))
    if not strict or row is None:
        return None
    if in_flight(tx, lane, bounds.unclear_seconds) > bounds.of(row):
        return Closed(Fault("lane_full", "the provider has as much in flight as it may have"))
    if lane in bounds.per_minute and used(tx, lane) > bounds.per_minute[lane]:
        return Closed(Fault("lane_rate", f"{bounds.per_minute[lane]} calls a minute are made (REQUESTS_PER_MINUTE)"))
    return None


def next_opening(tx: Tx, bounds: Bounds, purse: Purse | None = None) -> int | None:
    """When the next pause of a lane or of a user ends, or a lane may be called again within its rate, or there is money
    again, in the database's milliseconds.

    Lanes that are merely full are left out: a place that becomes free wakes the worker by itself.
    """
    times = [tx.value("SELECT min(paused_until) FROM lane WHERE paused_until > :now", {"now": tx.now})]
    if bounds.per_minute:
        waiting = {row["lane"] for row in tx.all(_WAITING_LANES)}
        times += [next_call(tx, lane, rate) for lane, rate in bounds.per_minute.items() if lane in waiting]
    times.append(None if purse is None else funding.next_funds(tx, purse))
    times.append(min((at for at in bounds.memory.rests.values() if at > tx.now), default=None))
    return min((int(time) for time in times if time is not None), default=None)
