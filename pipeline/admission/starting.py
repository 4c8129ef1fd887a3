"""Starting: who is next. It alone moves jobs from `waiting` to `pending`; deliveries do not pass here.

Order: by `sort_at`, which is the time of arrival minus a head start for priority. So a high priority goes first, and
nothing that arrives later than the largest head start can overtake: whatever waits is taken in the end.
"""

from __future__ import annotations

from pipeline import spending
from pipeline.admission import funding
from pipeline.admission.bounds import Bounds, at_submit, in_flight, next_call, room, used
from pipeline.admission.lanes import EVERYTHING, Closed, closed, hold_lane, is_paused
from pipeline.admission.probes import last_refused, never_refused
from pipeline.db import Tx
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


def admit(tx: Tx, *, limit: int, bounds: Bounds, purse: Purse | None = None) -> int:
    """Start up to `limit` waiting jobs per lane, within the lane's bounds and the caps of the purse, unless it is
    paused. Returns how many."""
    if is_paused(tx, EVERYTHING):
        return 0
    purse = purse or Purse()
    names = [row["lane"] for row in tx.all(_WAITING_LANES)]
    paying = {name for name in names if funding.binds(purse, name)}
    if paying:
        spending.lock(tx)
    money, purse.more = spending.Money(tx, purse), False
    return sum(_admit_lane(tx, name, limit, bounds, (purse, money) if name in paying else None) for name in names)


def _admit_lane(tx: Tx, name: str, limit: int, bounds: Bounds, funds: tuple[Purse, spending.Money] | None) -> int:
    lane = hold_lane(tx, name)
    if (lane["paused_until"] or 0) > tx.now:
        return _let_through(tx, name, limit)
    free = min(limit, room(tx, lane, bounds))
    if free <= 0:
        return 0
    if funds is not None:
        return funding.start(tx, *funds, name, free, probing=bool(lane["probing"]))
    return _probe(tx, name, free) if lane["probing"] else _start(tx, _NEXT, name, free)


def _probe(tx: Tx, name: str, free: int) -> int:
    """Who was never refused goes first; then who was refused longest ago."""
    return _start(tx, _NEXT_NEW, name, free) or _start(tx, _NEXT_REFUSED, name, free)


def _let_through(tx: Tx, name: str, limit: int) -> int:
    """Of a paused lane those go on that can ask somebody else: their submit turn sends them there, and pays nobody.

    At most `limit` are on their way at once, whatever the lane's bounds.
    """
    free = limit - at_submit(tx, name)
    chosen = _NEXT_WITH_FALLBACK.format(index="" if tx.postgres else "INDEXED BY job_fallback")
    return _start(tx, chosen, name, free) if free > 0 else 0


_NEXT = "SELECT id FROM job WHERE status = 'waiting' AND lane = :lane ORDER BY sort_at, id LIMIT :free"
_NEXT_NEW = f"""
SELECT id FROM job j WHERE status = 'waiting' AND lane = :lane AND {never_refused("j.subject_id")}
ORDER BY sort_at, id LIMIT :free"""
_NEXT_REFUSED = f"""
SELECT id FROM job j WHERE status = 'waiting' AND lane = :lane
ORDER BY {last_refused("j.subject_id")}, sort_at, id LIMIT :free"""
"""Of those there are few when it is asked: each has had a probe."""
_NEXT_WITH_FALLBACK = """
SELECT id FROM job {index} WHERE status = 'waiting' AND fallback = 1 AND lane = :lane
ORDER BY sort_at, id LIMIT :free"""
"""SQLite would read all that waits in the lane, were it not told."""


def _start(tx: Tx, chosen: str, lane: str, free: int) -> int:
    return tx.run(
        f"UPDATE job SET status = 'pending', scheduled_for = :now WHERE status = 'waiting' AND id IN ({chosen})",
        {"now": tx.now, "lane": lane, "free": free}
        | ({"provider": lane.partition(":")[2]} if ":provider" in chosen else {}),
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
    """When the next paused lane opens, or may be called again within its rate, or there is money again, in the
    database's milliseconds.

    Lanes that are merely full are left out: a place that becomes free wakes the worker by itself.
    """
    times = [tx.value("SELECT min(paused_until) FROM lane WHERE paused_until > :now", {"now": tx.now})]
    if bounds.per_minute:
        waiting = {row["lane"] for row in tx.all(_WAITING_LANES)}
        times += [next_call(tx, lane, rate) for lane, rate in bounds.per_minute.items() if lane in waiting]
    times.append(None if purse is None else funding.next_funds(tx, purse))
    return min((int(time) for time in times if time is not None), default=None)
