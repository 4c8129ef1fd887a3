"""Today's money, from rows by index: what was submitted today and what is set aside.

Each sum is one statement, hence one snapshot: a submission that takes over its reservation meanwhile is counted once.
"""

from __future__ import annotations

from collections.abc import Iterable
from time import perf_counter

from pipeline.db import Tx
from pipeline.spending.caps import DAY_MS, Bound, Cap, Shortage, day_of, next_day
from pipeline.spending.purse import LOOK_SHARE, Purse, Settled

LOCK = 724_503
MANY = 2_000
"""So many submissions of a day are summed again each time; of more, those of the last minutes."""
FRESH_MS = 120_000
SETTLED_MS = 5_000

_SPENT = "SELECT coalesce(sum(coalesce(cost_micros, estimate_micros)), 0) AS micros, count(*) AS calls FROM submission"
_TODAY = " AND intended_at >= :since AND intended_at < :until AND billed <> 'no'"
_RESERVED = "SELECT coalesce(sum(reserved_micros), 0) FROM generation WHERE reserved_micros > 0"
_NAMES = """
WITH RECURSIVE names(name) AS (
  SELECT min(provider) FROM submission
  UNION ALL
  SELECT (SELECT min(s.provider) FROM submission s WHERE s.provider > names.name)
  FROM names WHERE names.name IS NOT NULL
)
SELECT name FROM names WHERE name IS NOT NULL UNION SELECT provider FROM generation WHERE reserved_micros > 0"""
_END = 1 << 62


def lock(tx: Tx) -> None:
    """Nobody else sets money aside until this transaction ends. SQLite's writer is alone anyway."""
    if tx.postgres:
        tx.value("SELECT pg_advisory_xact_lock(:lock)", {"lock": LOCK})


def today(tx: Tx, purse: Purse) -> dict[str, int]:
    """Micro-USD of today by provider: spent, or set aside."""
    money = Money(tx, purse)
    return {name: money.of_provider(name) for name in money.providers()}


class Money:
    """Today's money as one transaction sees it, and what that transaction itself sets aside."""

    def __init__(self, tx: Tx, purse: Purse) -> None:
        self._tx = tx
        self._purse = purse
        self._caps = purse.caps
        self._providers: dict[str, int] = {}
        self._names: list[str] | None = None
        self._users: dict[tuple[str, str | None], int] = {}
        self._tenants: dict[str, int] = {}

    def shortage(self, provider: str, tenant: str, user: str | None, micros: int) -> Shortage | None:
        """The first cap that a sum more would break, or None if it fits."""
        for bound, cap in self._caps.binding(provider, tenant):
            spent = self._spent(bound, cap, provider, tenant, user)
            if spent + micros > cap.micros:
                name = {Bound.PROVIDER: provider, Bound.USER: user}.get(bound)
                left = max(0, cap.micros - spent)
                return Shortage(bound, name, cap.micros, left, micros, next_day(self._tx.now), tenant)
        return None

    def take(self, provider: str, tenant: str, user: str | None, micros: int) -> None:
        """This transaction sets a sum aside."""
        self._providers[provider] = self.of_provider(provider) + micros
        if tenant in self._tenants and self._caps.tenant is not None and self._caps.counts(self._caps.tenant, provider):
            self._tenants[tenant] += micros
        counted = self._caps.user is None or self._caps.counts(self._caps.user, provider)
        if counted and (tenant, user) in self._users:
            self._users[tenant, user] += micros

    def _spent(self, bound: Bound, cap: Cap, provider: str, tenant: str, user: str | None) -> int:
        if bound is Bound.PROVIDER:
            return self.of_provider(provider)
        if bound is Bound.USER:
            return self.of_user(tenant, user)
        if bound is Bound.TENANT:
            return self.of_tenant(tenant)
        return sum(self.of_provider(name) for name in self.providers() if self._caps.counts(cap, name))

    def providers(self) -> list[str]:
        """Everyone who was ever paid, or is about to be."""
        if self._names is None:
            self._names = sorted(row["name"] for row in self._tx.all(_NAMES))
        return sorted({*self._names, *self._providers})

    def of_provider(self, provider: str) -> int:
        """Micro-USD of today at a provider."""
        if provider not in self._providers:
            self._providers[provider] = self._sum(
                "provider = :provider", "provider = :provider", {"provider": provider}, provider
            )
        return self._providers[provider]

    def of_tenant(self, tenant: str) -> int:
        """Micro-USD of today of a tenant, as the cap of tenants counts. Read provider by provider, by the day."""
        if tenant not in self._tenants:
            cap = self._caps.tenant
            asked = [name for name in self.providers() if cap is None or self._caps.counts(cap, name)]
            names = {f"provider{number}": name for number, name in enumerate(asked)}
            among = ", ".join(f":{name}" for name in names) or "NULL"
            whose = f"provider IN ({among}) AND (tenant_id || '') = :tenant"
            self._tenants[tenant] = self._sum(whose, whose, {"tenant": tenant} | names, ("tenant", tenant, *asked))
        return self._tenants[tenant]

    def of_user(self, tenant: str, user: str | None) -> int:
        """Micro-USD of today of a user, as the cap of users counts."""
        if (tenant, user) not in self._users:
            whose = "user_id IS NULL" if user is None else "user_id = :user"
            # of what is set aside there is little: the index of that, not the user's whole history
            aside = "user_id IS NULL" if user is None else "(user_id || '') = :user"
            play = {} if self._caps.user is None or self._caps.user.play else self._play()
            but = f" AND provider NOT IN ({', '.join(f':{name}' for name in play)})" if play else ""
            self._users[tenant, user] = self._sum(
                f"tenant_id = :tenant AND {whose}{but}",
                f"(tenant_id || '') = :tenant AND {aside}{but}",
                {"tenant": tenant} | ({} if user is None else {"user": user}) | play,
                (tenant, user),
            )
        return self._users[tenant, user]

    def _play(self) -> dict[str, str]:
        return {f"play{number}": name for number, name in enumerate(sorted(self._caps.play))}

    def _sum(self, where: str, aside: str, values: dict[str, str], key: object) -> int:
        """Of a day with many submissions those of the last minutes are counted each time, the others now and then."""
        known = self._purse.settled.get(key)
        fresh = known is not None and known.day == day_of(self._tx.now) and self._tx.now <= known.until
        settled = known if fresh else None
        started = perf_counter()
        row = self._tx.one(
            f"SELECT spent.micros + ({_RESERVED} AND {aside}) AS micros, spent.calls AS calls"
            f" FROM ({_SPENT} WHERE {where}{_TODAY}) AS spent",
            {**values, "since": settled.border if settled else day_of(self._tx.now) * DAY_MS, "until": _END},
        )
        assert row is not None
        if settled is None and row["calls"] >= MANY:
            self._settle(where, values, key, took=perf_counter() - started)
        return int(row["micros"]) + (settled.micros if settled else 0)

    def _settle(self, where: str, values: dict[str, str], key: object, took: float) -> None:
        """Remember the sum of what is older than a few minutes; what changes of it is seen a little later."""
        day, border = day_of(self._tx.now), self._tx.now - FRESH_MS
        sql = f"SELECT spent.micros AS micros FROM ({_SPENT} WHERE {where}{_TODAY}) AS spent"
        micros = int(self._tx.value(sql, {**values, "since": day * DAY_MS, "until": border}))
        until = self._tx.now + int(max(SETTLED_MS, took * 1000 * LOOK_SHARE))
        self._purse.settled[key] = Settled(day, max(border, day * DAY_MS), micros, until)


def unaffordable(
    tx: Tx,
    purse: Purse,
    tenant: str,
    user: str | None,
    prices: Iterable[tuple[str, int]],
    money: Money | None = None,
) -> Shortage | None:
    """Why a generation cannot be paid today, or None if it can.

    `prices` are (provider, micro-USD) of its chain: only the cap of a provider sends it on to the next one. With
    `money` what fits counts there, so that several that are asked for together count each other.
    """
    own, first = money or Money(tx, purse), None
    for provider, micros in prices:
        shortage = own.shortage(provider, tenant, user, micros)
        if shortage is None:
            if money is not None and purse.caps.binding(provider, tenant):
                money.take(provider, tenant, user, micros)
            return None
        first = first or shortage
        if shortage.bound is not Bound.PROVIDER:
            return shortage
    return first
