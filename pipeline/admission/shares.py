"""Shares: what is set for single users, each in a row of `lane` of his own, and how it stands with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.admission.lanes import hold_lane, user_lane
from pipeline.db import Row, Tx

USERS = "user:"
Whose = tuple[str, str]
"""A tenant, and a user of it; '' are all its requests that name nobody."""


@dataclass(frozen=True, slots=True)
class Share:
    """A user, what is set for him, and how many of his generations wait and are in flight.

    `lane` is his row; None where nothing is set.
    """

    whose: Whose
    lane: Row | None
    waiting: int
    in_flight: int


def is_user(lane: str) -> bool:
    """Whether a lane is one user's share and no road to anybody."""
    return lane.startswith(USERS)


def whose(lane: str) -> Whose:
    """The tenant and the user of such a lane. Tenants' names have no `/`, users' may."""
    tenant, _, user = lane.removeprefix(USERS).partition("/")
    return tenant, user


def set_share(tx: Tx, of: Whose, *, weight: float | None, max_in_flight: int | None) -> None:
    """Set a user's weight (places against others, 1 if None) and how much he may have in flight."""
    name = user_lane(*of)
    hold_lane(tx, name)
    tx.update("lane", {"weight": weight, "max_in_flight": max_in_flight}, "name = :name", {"name": name})


_ROWS = f"SELECT * FROM lane WHERE substr(name, 1, {len(USERS)}) = '{USERS}'"
_SET = f"{_ROWS} AND (weight IS NOT NULL OR max_in_flight IS NOT NULL OR paused_until > :now)"
_WAITING = (
    "SELECT tenant_id, user_id, count(*) AS jobs FROM job WHERE status = 'waiting'{of} GROUP BY tenant_id, user_id"
)
_RUNNING = (
    "SELECT tenant_id, user_id, count(*) AS jobs FROM job WHERE status = '{status}'"
    " AND step IN ('submit', 'poll', 'store'){of} GROUP BY tenant_id, user_id"
)


def share(tx: Tx, of: Whose) -> Share:
    """How it stands with one user."""
    one, values = " AND tenant_id = :tenant AND user_id = :user", {"tenant": of[0], "user": of[1]}
    counted = _counted(tx, one, values)
    row = tx.one("SELECT * FROM lane WHERE name = :name", {"name": user_lane(*of)})
    return Share(of, row, counted[0].get(of, 0), counted[1].get(of, 0))


def shares(tx: Tx, tenant: str | None, *, limit: int, after: Whose | None = None) -> Sequence[Share]:
    """Up to `limit` users, of one tenant or of all, by tenant and name behind `after`: all for whom something is set,
    who wait, or who have something in flight."""
    one: tuple[str, dict[str, object]] = (
        ("", {}) if tenant is None else (" AND tenant_id = :tenant", {"tenant": tenant})
    )
    waiting, running = _counted(tx, *one)
    rows = {whose(row["name"]): row for row in tx.all(_SET, {"now": tx.now})}
    known = {each for each in rows if tenant in {None, each[0]}} | waiting.keys() | running.keys()
    chosen = sorted(each for each in known if after is None or each > after)[:limit]
    return [Share(each, rows.get(each), waiting.get(each, 0), running.get(each, 0)) for each in chosen]


def paused_users(tx: Tx, tenant: str | None, *, limit: int) -> list[Row]:
    """The rows of up to `limit` users that are paused just now, of one tenant or of all."""
    rows = tx.all(f"{_ROWS} AND paused_until > :now ORDER BY name", {"now": tx.now})
    return [row for row in rows if tenant in {None, whose(row["name"])[0]}][:limit]


def _counted(tx: Tx, of: str, values: Mapping[str, object]) -> tuple[dict[Whose, int], dict[Whose, int]]:
    """How many generations wait, and how many are in flight, by whose they are."""
    waiting = {(row["tenant_id"], row["user_id"]): int(row["jobs"]) for row in tx.all(_WAITING.format(of=of), values)}
    running: dict[Whose, int] = {}
    for status in ("pending", "processing"):
        for row in tx.all(_RUNNING.format(of=of, status=status), values):
            who = row["tenant_id"], row["user_id"]
            running[who] = running.get(who, 0) + int(row["jobs"])
    return waiting, running
