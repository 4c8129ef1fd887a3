"""Recovering: all deliveries of some time that failed are sent again, by a job of its own.

A turn takes a portion and writes in one commit what it set going and how far it came. So a killed process repeats
nothing, and nothing is left out. What is dead gets a new schedule, what still waits for its next try goes now.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

from pipeline import queue
from pipeline.db import Row, Tx
from pipeline.ids import border, new_id
from pipeline.lifecycle import Complete, Decision, Failed, JobKind, NotYet, Snooze, Step
from pipeline.outbox.addressing import BodyForgotten, reopen, revive
from pipeline.outbox.endpoints import PER_REQUEST
from pipeline.outbox.operator import OPERATOR_TENANT
from pipeline.queue import Claim, LeaseLost
from pipeline.turn import Report, Turn

LANE = "recovery"
PORTION = 100
"""Deliveries that one commit sets going again: few, so that no claim waits long."""
LOOKED_AT = 5_000
"""Deliveries that one commit looks at, whatever became of them."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be sent again.

    Args:
        since: milliseconds since 1970: deliveries that were made since then, and before `until`.
        tenant: whose, or None for everybody's.
        endpoint: to this one only, which is opened if it had been switched off by its failures.
        types: of these events only.
    """

    since: int
    until: int
    tenant: str | None = None
    endpoint: str | None = None
    types: Sequence[str] | None = None


def count(tx: Tx, wish: Wish) -> int:
    """How many failed: those that are dead, and those whose last attempt failed and that are to be tried again."""
    where, values = _narrowed(tx, wish)
    values |= {"after": border("dlv", wish.since), "end": border("dlv", wish.until)}
    return int(tx.value(f"SELECT count(*) FROM webhook_delivery d{_EVENT} WHERE {_RANGE} AND {where}", values))


def begin(tx: Tx, wish: Wish, *, total: int, random: Callable[[int], bytes]) -> Row:
    """Write down a recovery and its job; its row. `total` is what `count` said."""
    recovery_id = new_id("rcv", tx.now, random)
    tenant = wish.tenant or OPERATOR_TENANT
    row: Row = {
        "id": recovery_id,
        "tenant_id": tenant,
        "asked": json.dumps(asdict(wish)),
        "state": "pending",
        "total": total,
        "done": 0,
        "skipped": 0,
        "after": border("dlv", wish.since),
        "created_at": tx.now,
        "finished_at": None,
    }
    tx.insert("webhook_recovery", row)
    if wish.endpoint is not None:
        reopen(tx, {"id": wish.endpoint, "url": ""}, wish.tenant)
    queue.enqueue(tx, queue.NewJob(JobKind.RECOVERY, recovery_id, tenant, LANE, Step.RECOVER))
    return row


def recovery(tx: Tx, tenant: str | None, recovery_id: str) -> Row | None:
    """One recovery; bound to a tenant unless None."""
    owned, values = ("", {}) if tenant is None else (" AND tenant_id = :tenant", {"tenant": tenant})
    return tx.one(f"SELECT * FROM webhook_recovery WHERE id = :id{owned}", {"id": recovery_id} | values)


def recoveries(tx: Tx, tenant: str | None, *, limit: int, after: str | None = None) -> list[Row]:
    """Up to `limit` recoveries behind the id `after`, newest first."""
    given = {"tenant_id = :tenant": ("tenant", tenant), "id < :after": ("after", after)}
    found = {condition: pair for condition, pair in given.items() if pair[1] is not None}
    where = " WHERE " + " AND ".join(found) if found else ""
    values: dict[str, object] = dict(found.values())
    return tx.all(f"SELECT * FROM webhook_recovery{where} ORDER BY id DESC LIMIT :limit", values | {"limit": limit})


def forget_recoveries(tx: Tx, before: int) -> int:
    """Delete those that ended before a time; how many."""
    return tx.run("DELETE FROM webhook_recovery WHERE finished_at < :before", {"before": before})


class Recoveries:
    """The worker's handler for recoveries."""

    def load(self, tx: Tx, claims: Sequence[Claim]) -> Mapping[int, str]:
        """Which recovery each is, by job id; how far it came is read where it goes on."""
        return {claim.id: claim.subject_id for claim in claims if recovery(tx, None, claim.subject_id) is not None}

    async def run(self, turn: Turn) -> Report:
        """There is nothing to do outside of the transaction."""
        return Report(NotYet(0.0))

    def record_turn(self, tx: Tx, turn: Turn, report: Report) -> Decision | None:
        """Set one portion going. None if the lease was lost."""
        try:
            locked = queue.lock(tx, turn.claim)
        except LeaseLost:
            return None
        row = recovery(tx, None, turn.claim.subject_id)
        ended = row is None
        if row is not None and isinstance(report.outcome, Failed):
            tx.update("webhook_recovery", {"state": "failed", "finished_at": tx.now}, "id = :id", {"id": row["id"]})
            ended = True
        elif row is not None:
            ended = _portion(tx, row)
        decision: Decision = Complete() if ended else Snooze(0.0)
        queue.acknowledge(tx, turn.claim, decision, wake_seq=locked["wake_seq"])
        return decision


_EVENT = " JOIN webhook_event e ON e.id = d.event_id"
_NOT_REPLACED = """NOT EXISTS (SELECT 1 FROM webhook_delivery n
  WHERE n.event_id = d.event_id AND n.endpoint_id = d.endpoint_id AND n.redelivery > d.redelivery)"""
"""What was sent again by hand speaks for the event since: both would be one event told twice."""
_RANGE = "d.id > :after AND d.id <= :end"
_END_OF_LOOK = f"SELECT id FROM webhook_delivery d WHERE {_RANGE} ORDER BY d.id LIMIT 1 OFFSET {LOOKED_AT - 1}"


def _narrowed(tx: Tx, wish: Wish) -> tuple[str, dict[str, object]]:
    """The condition of what failed, and its values."""
    given = {
        "d.tenant_id = :tenant": ("tenant", wish.tenant),
        "d.endpoint_id = :endpoint": ("endpoint", wish.endpoint),
        f"e.type {tx.among}": ("ids", None if wish.types is None else tx.of(wish.types)),
    }
    found = {condition: pair for condition, pair in given.items() if pair[1] is not None}
    failed = f"((d.state = 'dead' AND {_NOT_REPLACED}) OR (d.state = 'pending' AND d.error_code IS NOT NULL))"
    return " AND ".join([failed, *found]), dict(found.values())


def _portion(tx: Tx, row: Row) -> bool:
    """Set the next ones going, and write down how far it came. True if it has come to the end."""
    wish = Wish(**json.loads(row["asked"]))
    where, values = _narrowed(tx, wish)
    asked = {"after": row["after"], "end": border("dlv", wish.until)}
    last = tx.value(_END_OF_LOOK, asked)
    found = tx.all(
        "SELECT d.id, d.state, d.endpoint_id, p.id AS known, p.disabled_at, p.deleted_at FROM webhook_delivery d"
        f"{_EVENT} LEFT JOIN webhook_endpoint p ON p.id = d.endpoint_id"
        f" WHERE {_RANGE} AND {where} ORDER BY d.id LIMIT :portion",
        values | asked | ({} if last is None else {"end": last}) | {"portion": PORTION},
    )
    sent = sum(_again(tx, each, wish) for each in found)
    ended = len(found) < PORTION and last is None
    progress = {
        "state": "done" if ended else "running",
        "done": row["done"] + sent,
        "skipped": row["skipped"] + len(found) - sent,
        "after": found[-1]["id"] if len(found) == PORTION else last or row["after"],
        "finished_at": tx.now if ended else None,
    }
    tx.update("webhook_recovery", progress, "id = :id", {"id": row["id"]})
    if ended:
        tx.emit("webhook.recovered", recovery=row["id"], sent=progress["done"], skipped=progress["skipped"])
    return ended


def _again(tx: Tx, delivery: Row, wish: Wish) -> bool:
    """Set one going; False where there is nobody to send it to, or nothing."""
    closed = delivery["disabled_at"] is not None or delivery["deleted_at"] is not None
    if closed or (delivery["known"] is None and delivery["endpoint_id"] != PER_REQUEST):
        return False
    if delivery["state"] == "pending":
        queue.wake(tx, JobKind.DELIVERY, delivery["id"])
        tx.update("webhook_delivery", {"next_at": tx.now}, "id = :id AND state = 'pending'", {"id": delivery["id"]})
        return True
    try:
        return revive(tx, delivery["id"], tenant=wish.tenant)
    except BodyForgotten:
        return False
