"""The tape: events one after the other as they were recorded, for whoever listens from some place on.

An id carries the time at which its transaction began, and transactions end in another order than they begin. So what
is younger than OVERLAP_MS is looked at again and again, and known by its id; nothing that commits late is missed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from pipeline.db import Row, Tx
from pipeline.ids import border

OVERLAP_MS = 30_000
"""No transaction takes longer from its first moment to its commit."""
PAGE = 500
BODIES = 50
"""Events that one look returns at most."""

_ID = re.compile(r"evt_([0-9a-f]{12})[0-9a-f]{0,20}", re.ASCII)


class NotAPlace(ValueError):
    """A text that is no event's id."""


@dataclass(slots=True)
class Tape:
    """One listener's place. `tenant` None hears everybody's events, but not the notices that are the operator's.

    Attributes:
        floor: the id up to which everything was heard.
        heard: the ids above it that were.
    """

    tenant: str | None
    floor: str
    heard: set[str] = field(default_factory=set)

    def listen(self, tx: Tx) -> tuple[list[Row], bool]:
        """Up to BODIES events that were not heard, oldest first: `id type generation_id created_at body`; and whether
        there are more. They count as heard."""
        fresh, whole = self._fresh(tx)
        rows = _with_bodies(tx, fresh)
        self.heard.update(fresh)
        settled = border("evt", tx.now - OVERLAP_MS)
        self._rise(settled if whole else min(settled, fresh[-1]))
        return rows, not whole

    def _fresh(self, tx: Tx) -> tuple[list[str], bool]:
        """Ids that were not heard, and whether these are all."""
        owned, values = ("", {}) if self.tenant is None else (" AND tenant_id = :tenant", {"tenant": self.tenant})
        sql = f"SELECT id FROM webhook_event WHERE id > :place{owned} AND generation_id <> '' ORDER BY id LIMIT {PAGE}"
        place, found = self.floor, []
        while True:
            page = [row["id"] for row in tx.all(sql, values | {"place": place})]
            found += [event for event in page if event not in self.heard]
            if len(found) > BODIES:
                return found[:BODIES], False
            if len(page) < PAGE:
                return found, True
            place = page[-1]

    def _rise(self, floor: str) -> None:
        if floor > self.floor:
            self.floor = floor
            self.heard = {event for event in self.heard if event > floor}


def _with_bodies(tx: Tx, ids: list[str]) -> list[Row]:
    """The events that still say something."""
    if not ids:
        return []
    return tx.all(
        f"SELECT id, type, generation_id, created_at, body FROM webhook_event WHERE id {tx.among} AND body <> ''"
        " ORDER BY id",
        {"ids": tx.of(ids)},
    )


def now_on(tx: Tx, tenant: str | None) -> Tape:
    """A tape that begins now."""
    return Tape(tenant, border("evt", tx.now))


def behind(event_id: str, tenant: str | None) -> Tape:
    """A tape that begins behind an event, which need not exist any more. What came up to OVERLAP_MS before it is heard
    again. Raises NotAPlace."""
    found = _ID.fullmatch(event_id)
    if found is None:
        raise NotAPlace(event_id)
    return Tape(tenant, border("evt", int(found[1], 16) - OVERLAP_MS))
