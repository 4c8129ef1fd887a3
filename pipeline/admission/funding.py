"""Funding: a generation starts only when there is money for it today, which is set aside in the same commit.

What does not fit is passed over and blocks nobody: its job remembers the day, is told so once, and is looked at again
after midnight (UTC), or when there is money again, since something cost less than expected or a cap was raised. Where
no cap binds a provider its lane pays nothing for all this.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from time import perf_counter

from pipeline import spending, timeline
from pipeline.admission.bounds import Bounds
from pipeline.admission.lanes import HAND_PAUSED, Closed
from pipeline.admission.line import Road, line
from pipeline.admission.probes import probes
from pipeline.db import Row, Tx
from pipeline.lifecycle import Fault
from pipeline.spending import Bound, Money, Purse, Shortage

WINDOW = 100
WINDOWS = 5
"""So many waiting jobs are looked at beyond those that can start, so many times in one transaction."""
MOST_FREED = 500
AGAIN = 1
"""The day of a job that was passed over before, and is to be looked at again."""

_TOOK_TIME = (
    "(s.outcome <> 'rejected' OR s.error_code = 'provider_not_found' OR s.error_code = 'resolved_by_person')"
    " AND s.token NOT LIKE '%.%'"
)
"""As `ledger.took_time` says it: the wait begins anew with the end of such a submission."""
_PRICED = f"""
SELECT j.id, j.unfunded, j.fallback, g.id AS generation_id, g.tenant_id, g.user_id, g.provider,
  g.estimate_micros, coalesce(
    (SELECT max(s.closed_at) FROM submission s WHERE s.generation_id = g.id AND {_TOOK_TIME}
      AND s.closed_at > coalesce(g.redriven_at, g.created_at)), g.redriven_at, g.created_at) AS asked_at,
  {HAND_PAUSED.format(lane="j.lane", tenant="j.tenant_id", user="j.user_id")} AS paused_until
FROM job j JOIN generation g ON g.id = j.subject_id WHERE j.id {{among}}"""

_START = """
UPDATE job SET status = 'pending', scheduled_for = :now
WHERE status = 'waiting' AND kind = 'generation' AND subject_id {among} RETURNING subject_id"""
_MARK = """
UPDATE job SET unfunded = :day WHERE status = 'waiting' AND kind = 'generation' AND subject_id {among}"""

_PASSED_OVER = "j.status = 'waiting' AND j.lane = :lane AND j.unfunded = :today"


@dataclass(slots=True)
class _Choice:
    """What a look at the line found: who starts with money, who starts without, to ask somebody else or to be given
    up, and for whom there is none."""

    paid: list[Row] = field(default_factory=list)
    unpaid: list[Row] = field(default_factory=list)
    short: list[tuple[Row, Shortage]] = field(default_factory=list)

    @property
    def starting(self) -> list[Row]:
        """All that start."""
        return self.paid + self.unpaid


def binds(purse: Purse, lane: str) -> bool:
    """Whether any cap bounds the generations of a provider's lane."""
    return bool(purse.caps.binding(lane.partition(":")[2]))


def with_money(tx: Tx) -> Road:
    """Those for whom there may be money today."""
    return Road(" AND j.unfunded <> :today", (("today", spending.day_of(tx.now)),))


def start(tx: Tx, purse: Purse, money: Money, lane: str, bounds: Bounds, free: int, *, probing: bool = False) -> int:
    """Start up to `free` waiting jobs of a lane for which there is money, and set it aside. Returns how many.

    The caller holds `spending.lock`.
    """
    _look_again(tx, purse, money, lane)
    road = with_money(tx)
    started = 0
    for _ in range(WINDOWS):
        most = free - started + WINDOW
        found = probes(tx, lane, bounds, most, road) if probing else line(tx, lane, bounds, most, road)
        rows = _priced(tx, found.jobs)
        choice = _choose(money, rows, free - started, too_late=tx.now - int(purse.patience * 1000))
        started += _begin(tx, choice)
        _pass_over(tx, purse, choice)
        if started >= free or (len(rows) < most and not choice.short):
            return started
    purse.more = True
    return started


def _priced(tx: Tx, jobs: list[Row]) -> list[Row]:
    """What each costs, in the same order."""
    ids = [job["id"] for job in jobs]
    found = {row["id"]: row for row in tx.all(_PRICED.format(among=tx.among), {"ids": tx.of(ids)})} if ids else {}
    return [found[job] for job in ids if job in found]


def _choose(money: Money, rows: list[Row], free: int, *, too_late: int) -> _Choice:
    """Whoever has waited since before `too_late` starts in any case: his turn gives him up, and pays nothing."""
    choice = _Choice()
    for row in rows:
        if len(choice.starting) >= free:
            break
        whose = (row["provider"], row["tenant_id"], row["user_id"], row["estimate_micros"])
        shortage = money.shortage(*whose)
        if shortage is None:
            money.take(*whose)
            choice.paid.append(row)
        elif max(row["asked_at"], row["paused_until"]) < too_late or (
            shortage.bound is Bound.PROVIDER and row["fallback"]
        ):
            choice.unpaid.append(row)
        else:
            choice.short.append((row, shortage))
    return choice


def _begin(tx: Tx, choice: _Choice) -> int:
    if not choice.starting:
        return 0
    values = {"ids": tx.of([row["generation_id"] for row in choice.starting]), "now": tx.now}
    begun = {row["subject_id"] for row in tx.all(_START.format(among=tx.among), values)}
    paid = [row["generation_id"] for row in choice.paid if row["generation_id"] in begun]
    if paid:
        sql = f"UPDATE generation SET reserved_micros = estimate_micros WHERE id {tx.among}"
        tx.run(sql, {"ids": tx.of(paid)})
    return len(begun)


def _pass_over(tx: Tx, purse: Purse, choice: _Choice) -> None:
    """They wait until tomorrow, or until there is money again; the first time their timelines tell it."""
    if not choice.short:
        return
    ids = tx.of([row["generation_id"] for row, _ in choice.short])
    tx.run(_MARK.format(among=tx.among), {"ids": ids, "day": spending.day_of(tx.now)})
    news = {
        row["generation_id"]: {"scope": shortage.bound, "reason": str(shortage)}
        for row, shortage in choice.short
        if not row["unfunded"]
    }
    timeline.note_each(tx, "waiting.spend", news)
    for row, shortage in choice.short:
        if purse.first(shortage, row["tenant_id"], tx.now):
            _tell(tx, row, shortage)


def _tell(tx: Tx, row: Row, shortage: Shortage) -> None:
    user = shortage.bound in {Bound.USER, Bound.TENANT}
    tx.emit(
        "spend.capped",
        level=logging.INFO if user else logging.WARNING,
        scope=shortage.bound,
        name=shortage.name,
        tenant=row["tenant_id"] if user else None,
        limit_micros=shortage.limit_micros,
        left_micros=shortage.left_micros,
        estimate_micros=shortage.estimate_micros,
    )


_WANTING = f"""
SELECT g.provider, g.tenant_id, g.user_id, min(g.estimate_micros) AS least
FROM job j JOIN generation g ON g.id = j.subject_id WHERE {_PASSED_OVER}
GROUP BY g.provider, g.tenant_id, g.user_id"""
_FIRST_OF = f"""
SELECT j.subject_id FROM job j JOIN generation g ON g.id = j.subject_id WHERE {_PASSED_OVER}
AND g.tenant_id = :tenant AND {{whose}} ORDER BY j.sort_at, j.id LIMIT {MOST_FREED}"""


def _look_again(tx: Tx, purse: Purse, money: Money, lane: str) -> None:
    """Now and then: is there money again for somebody who was passed over today? Then the first of his come back."""
    if not purse.may_look(lane, tx.now):
        return
    started = perf_counter()
    values = {"lane": lane, "today": spending.day_of(tx.now)}
    for row in tx.all(_WANTING, values):
        if money.shortage(row["provider"], row["tenant_id"], row["user_id"], row["least"]) is not None:
            continue
        user = {} if row["user_id"] is None else {"user": row["user_id"]}
        sql = _FIRST_OF.format(whose="g.user_id = :user" if user else "g.user_id IS NULL")
        found = tx.all(sql, {**values, **user, "tenant": row["tenant_id"]})
        ids = tx.of([each["subject_id"] for each in found])
        tx.run(_MARK.format(among=tx.among), {"ids": ids, "day": AGAIN})
    purse.looked(lane, tx.now, (perf_counter() - started) * 1000)


def cover(tx: Tx, purse: Purse, generation: Row, micros: int) -> Closed | None:
    """Whether the money for a paid call is there, in the transaction of its intent; else why it may not be made.

    What was set aside suffices as a rule. It does not for a call that follows a refused one without passing admission,
    or where caps or prices have changed meanwhile: that is taken from what is left, under the lock.
    """
    provider = generation["provider"]
    lacking = micros - generation["reserved_micros"]
    if lacking <= 0 or not purse.caps.binding(provider, generation["tenant_id"]):
        return None
    spending.lock(tx)
    shortage = Money(tx, purse).shortage(provider, generation["tenant_id"], generation["user_id"], lacking)
    if shortage is None:
        return None
    return Closed(Fault("spend_cap", str(shortage), retryable=True), alone=shortage.bound is Bound.PROVIDER)


def unfunded(tx: Tx, tenant: str | None = None) -> int:
    """How many generations wait for money today, of all or of one tenant."""
    of = "" if tenant is None else " AND tenant_id = :tenant"
    return int(
        tx.value(
            f"SELECT count(*) FROM job WHERE status = 'waiting' AND unfunded = :today{of}",
            {"today": spending.day_of(tx.now)} | ({} if tenant is None else {"tenant": tenant}),
        )
    )


def next_funds(tx: Tx, purse: Purse) -> int | None:
    """When admission should look again, in milliseconds: now if it did not see all, at midnight if somebody waits for
    money."""
    if purse.more:
        return tx.now
    if not purse.looks or not unfunded(tx):  # no lane of this process was ever bound by a cap
        return None
    return spending.next_day(tx.now)
