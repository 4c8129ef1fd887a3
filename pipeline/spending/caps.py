"""Caps: what may be spent in a day, by a user, by a tenant, at a provider, by the service. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from pipeline.money import caps_of, micros_of, usd

DAY_MS = 86_400_000
OTHERS = "*"
OWN_TENANT = "default"
"""The operator's own: it has no cap of its own, and may know what the service has left."""


class Bound(StrEnum):
    """Whose spending a cap bounds."""

    USER = "user"
    TENANT = "tenant"
    PROVIDER = "provider"
    SERVICE = "service"


@dataclass(frozen=True, slots=True)
class Cap:
    """A bound of a day in micro-USD; `play` says that play money (of the mock) counts as well."""

    micros: int
    play: bool = False


@dataclass(frozen=True, slots=True)
class Caps:
    """All bounds; None is no bound.

    Args:
        user: of each user of each tenant; requests that name none are one user of their tenant together.
        tenant: of each tenant but the operator's own.
        providers: of those that are named; `others` of each one else.
        play: the providers whose money is play money.
    """

    user: Cap | None = None
    tenant: Cap | None = None
    service: Cap | None = None
    providers: Mapping[str, Cap | None] = field(default_factory=dict)
    others: Cap | None = None
    play: frozenset[str] = frozenset()

    @classmethod
    def of_texts(
        cls,
        *,
        user: str,
        providers: str,
        service: str,
        chosen: Iterable[Bound],
        play: Iterable[str],
        tenant: str = "none",
    ) -> Caps:
        """Caps as settings write them. Those that were `chosen` count play money too. Raises ValueError."""
        on_purpose = set(chosen)

        def cap(micros: int | None, bound: Bound) -> Cap | None:
            return None if micros is None else Cap(micros, play=bound in on_purpose)

        named = {name: cap(micros, Bound.PROVIDER) for name, micros in caps_of(providers).items()}
        return cls(
            user=cap(micros_of(user), Bound.USER),
            tenant=cap(micros_of(tenant), Bound.TENANT),
            service=cap(micros_of(service), Bound.SERVICE),
            others=named.pop(OTHERS, None),
            providers=named,
            play=frozenset(play),
        )

    def of_provider(self, provider: str) -> Cap | None:
        """The bound of a provider by itself."""
        return self.providers.get(provider, self.others)

    def binding(self, provider: str, tenant: str | None = None) -> list[tuple[Bound, Cap]]:
        """The bounds of a generation that is made by this provider, the widest first; without `tenant` of anybody's."""
        found = (
            (Bound.SERVICE, self.service),
            (Bound.PROVIDER, self.of_provider(provider)),
            (Bound.TENANT, None if tenant == OWN_TENANT else self.tenant),
            (Bound.USER, self.user),
        )
        return [(bound, cap) for bound, cap in found if cap is not None and (cap.play or provider not in self.play)]

    def counts(self, cap: Cap, provider: str) -> bool:
        """Whether a provider's money counts against a cap."""
        return cap.play or provider not in self.play


NO_CAPS = Caps()


@dataclass(frozen=True, slots=True)
class Shortage:
    """There is no money for a generation today.

    Args:
        name: the provider, or the user (None: those without a name).
        limit_micros: what may be spent in a day.
        left_micros: what is left of it today, never below 0.
        estimate_micros: what the generation is expected to cost.
        resets_at: the next midnight (UTC), in milliseconds since 1970.
        tenant: whose generation it is.
    """

    bound: Bound
    name: str | None
    limit_micros: int
    left_micros: int
    estimate_micros: int
    resets_at: int
    tenant: str = OWN_TENANT

    @property
    def for_ever(self) -> bool:
        """Whether it costs more than may be spent in a whole day: no midnight changes that."""
        return self.estimate_micros > self.limit_micros

    @property
    def discreet(self) -> bool:
        """Whether it tells of other people's money, which a tenant is not to know."""
        return self.tenant != OWN_TENANT and self.bound in {Bound.PROVIDER, Bound.SERVICE}

    def __str__(self) -> str:
        if self.discreet:
            than = "it costs more than the service spends in a day" if self.for_ever else None
            return than or "the service's money for today is used up; there is more after midnight UTC"
        if self.for_ever:
            return (
                f"it costs about {usd(self.estimate_micros)}, more than a whole day's cap of {usd(self.limit_micros)}"
                f" {self._whose()} ({SETTINGS[self.bound]})"
            )
        return (
            f"it costs about {usd(self.estimate_micros)}, and of the {usd(self.limit_micros)} a day {self._whose()}"
            f" {usd(self.left_micros)} is left until midnight UTC ({SETTINGS[self.bound]})"
        )

    def _whose(self) -> str:
        match self.bound:
            case Bound.PROVIDER:
                return f"for the provider {self.name}"
            case Bound.TENANT:
                return f"for the tenant {self.tenant}"
            case Bound.USER:
                return "for this user" if self.name is not None else "for requests without a userId"
        return "for the whole service"


SETTINGS = {
    Bound.USER: "SPEND_PER_USER_DAY",
    Bound.TENANT: "SPEND_PER_TENANT_DAY",
    Bound.PROVIDER: "SPEND_PER_PROVIDER_DAY",
    Bound.SERVICE: "SPEND_PER_DAY",
}


def day_of(now_ms: int) -> int:
    """The day since 1970 (UTC) of a time in milliseconds."""
    return now_ms // DAY_MS


def next_day(now_ms: int) -> int:
    """The next midnight (UTC), in milliseconds."""
    return (day_of(now_ms) + 1) * DAY_MS
