"""Standing: why a waiting job waits now, and where it stands in line."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from pipeline import spending
from pipeline.admission import funding
from pipeline.admission.bounds import Bounds, in_flight, next_call, room, unclear_of_users
from pipeline.admission.lanes import EVERYTHING, user_lane
from pipeline.admission.line import IN_FLIGHT, PLAIN, line
from pipeline.db import Row, Tx
from pipeline.spending import Purse

FAR = 300
"""So far down the line a place is counted exactly."""


class Why(StrEnum):
    """What keeps a job waiting; of several the first of this list, but of pauses the one that ends last."""

    SERVICE_PAUSED = "service_paused"
    LANE_PAUSED = "lane_paused"
    USER_PAUSED = "user_paused"
    SPEND = "spend"
    USER_FULL = "user_full"
    LANE_PROBING = "lane_probing"
    LANE_FULL = "lane_full"
    MINUTE_USED = "minute_used"
    BEHIND = "behind"
    NEXT = "next"


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a waiting job stands.

    Attributes:
        lane: the provider's lane in which it waits.
        position: its place in the fair order among all that may start, from 1; None where it may not start whoever
            goes before it (`user_paused`, `user_full`, `spend`).
        exact: False if it is at least `position`: it was not counted further.
        retry_at: when what keeps it ends by itself, in the database's milliseconds; None if that hangs on others' work.
        detail: a pause's reason, or which money is used up, in words.
        lane_in_flight, lane_places: generations under way in the lane, and how many may be.
        per_minute: calls that may begin in a minute, None without such a bound.
        user_in_flight: of its user in this lane, as the order counts them.
        user_total, user_places: of its user over all lanes, and how many may be; None without a cap.
        ahead: of its user's own, how many wait before it in this lane.
        weight: its user's.
    """

    reason: Why
    lane: str
    position: int | None = None
    exact: bool = True
    retry_at: int | None = None
    detail: str | None = None
    lane_in_flight: int = 0
    lane_places: int = 0
    per_minute: int | None = None
    user_in_flight: int = 0
    user_total: int = 0
    user_places: int | None = None
    ahead: int = 0
    weight: float = 1.0


def standing(tx: Tx, job: Row, bounds: Bounds, purse: Purse | None = None) -> Standing:
    """Why a waiting job (its row) waits now. What is told of it may have changed by the time that it is read."""
    lanes = {row["name"]: row for row in tx.all(*_rows(tx, job))}
    lane = lanes.get(job["lane"], {"name": job["lane"], "max_in_flight": None, "probing": 0})
    user = lanes.get(user_lane(job["tenant_id"], job["user_id"]), {})
    told = _facts(tx, job, lane, user, bounds)
    if (why := _closed(tx, lanes, job, told)) is not None:
        if why.reason is Why.SPEND and purse is not None:
            return replace(why, detail=_lacking(tx, job, purse))
        position, exact = _place(tx, job, bounds, purse) if why.reason in _IN_LINE else (None, True)
        return replace(why, position=position, exact=exact)
    if told.user_places is not None and told.user_total >= told.user_places:
        return replace(told, reason=Why.USER_FULL)
    position, exact = _place(tx, job, bounds, purse)
    return _of_lane(tx, lane, bounds, replace(told, position=position, exact=exact))


_IN_LINE = {Why.SERVICE_PAUSED, Why.LANE_PAUSED}


def _rows(tx: Tx, job: Row) -> tuple[str, dict[str, object]]:
    names = [EVERYTHING, job["lane"], user_lane(job["tenant_id"], job["user_id"])]
    return f"SELECT * FROM lane WHERE name {tx.among}", {"ids": tx.of(names)}


_OWN = f"SELECT count(*) FROM job WHERE {IN_FLIGHT} AND tenant_id = :tenant AND user_id = :user"
_AHEAD = """
SELECT count(*) FROM job WHERE status = 'waiting' AND lane = :lane AND tenant_id = :tenant AND user_id = :user
  AND (sort_at < :sort_at OR (sort_at = :sort_at AND id < :id))"""


def _facts(tx: Tx, job: Row, lane: Row, user: Row, bounds: Bounds) -> Standing:
    whose = {"tenant": job["tenant_id"], "user": job["user_id"]}
    here = whose | {"lane": job["lane"]}
    cap = user.get("max_in_flight")
    unclear = unclear_of_users(tx, bounds).get((job["tenant_id"], job["user_id"]), 0)
    return Standing(
        Why.NEXT,
        job["lane"],
        lane_in_flight=in_flight(tx, job["lane"], bounds.unclear_seconds),
        lane_places=bounds.of(lane),
        per_minute=bounds.per_minute.get(job["lane"]),
        user_in_flight=int(tx.value(f"{_OWN} AND lane = :lane", here)),
        user_total=int(tx.value(_OWN, whose)) + unclear,
        user_places=bounds.user if cap is None else int(cap),
        ahead=int(tx.value(_AHEAD, here | {"sort_at": job["sort_at"], "id": job["id"]})),
        weight=float(user.get("weight") or 1.0),
    )


def _closed(tx: Tx, lanes: dict[str, Row], job: Row, told: Standing) -> Standing | None:
    """A pause, or money, keeps it, whatever is in flight."""
    kinds = (
        (Why.SERVICE_PAUSED, EVERYTHING),
        (Why.LANE_PAUSED, job["lane"]),
        (Why.USER_PAUSED, user_lane(job["tenant_id"], job["user_id"])),
    )
    pauses = [(why, row) for why, name in kinds if ((row := lanes.get(name, {})).get("paused_until") or 0) > tx.now]
    if pauses:
        why, row = max(pauses, key=lambda pause: int(pause[1]["paused_until"]))
        return replace(told, reason=why, retry_at=int(row["paused_until"]), detail=row["paused_reason"])
    if job["unfunded"] == spending.day_of(tx.now):
        return replace(told, reason=Why.SPEND, retry_at=spending.next_day(tx.now))
    return None


def _lacking(tx: Tx, job: Row, purse: Purse) -> str | None:
    sql = "SELECT provider, tenant_id, user_id, estimate_micros FROM generation WHERE id = :id"
    row = tx.one(sql, {"id": job["subject_id"]})
    shortage = row and spending.Money(tx, purse).shortage(*row.values())
    return str(shortage) if shortage else None


def _place(tx: Tx, job: Row, bounds: Bounds, purse: Purse | None) -> tuple[int | None, bool]:
    """Its place in line; all that are counted further, if it is not among the first."""
    funded = purse is not None and funding.binds(purse, job["lane"])
    jobs = line(tx, job["lane"], bounds, FAR, funding.with_money(tx) if funded else PLAIN, single=True).jobs
    places = {each["id"]: number for number, each in enumerate(jobs, 1)}
    return (places[job["id"]], True) if job["id"] in places else (len(jobs) + 1, False)


def _of_lane(tx: Tx, lane: Row, bounds: Bounds, told: Standing) -> Standing:
    free = room(tx, lane, bounds)
    if free > 0:
        return replace(told, reason=Why.NEXT if (told.position or 0) <= free else Why.BEHIND)
    if lane["probing"]:
        return replace(told, reason=Why.LANE_PROBING)
    if told.lane_in_flight >= told.lane_places:
        return replace(told, reason=Why.LANE_FULL)
    return replace(told, reason=Why.MINUTE_USED, retry_at=next_call(tx, told.lane, told.per_minute or 0))
