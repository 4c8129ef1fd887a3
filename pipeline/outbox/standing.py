"""Standing: what an attempt says of its endpoint, and what follows for all that goes there.

Failures in a row close its lane for a while, then it is probed; a receiver that names a time is left alone until then.
One that only fails for days is switched off, as one that says 410 is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from pipeline import admission
from pipeline.db import Row, Tx
from pipeline.outbox.operator import OPERATOR_ENDPOINT, tell_operator
from pipeline.schemas import iso
from webhooks.events import OperatorEvent
from webhooks.sender import SendResult

OURS = ("pool", "proxy_failed")
"""Reasons for which nobody but we are to blame."""
ASKING = frozenset({429, 503})
"""Statuses whose Retry-After is about the whole receiver (RFC 9110 15.6.4, RFC 6585 4)."""
GROWS = 60
FEW = 5
"""So many failures it takes at least to say that an endpoint only fails."""
QUIET = 129_600_000
"""Milliseconds without an attempt after which failures count anew: of the time between, nobody knows how it was. A day
and a half, since the last pause of the default schedule is a day."""


@dataclass(frozen=True, slots=True)
class Breaker:
    """When an endpoint is left alone. Times in seconds.

    Args:
        failures: so many in a row, within `window`, close it.
        pause: the first time for so long, each time a probe fails for twice as long, up to GROWS times that.
        disable_after: one that only failed for so long is switched off; 0 is never.
    """

    failures: int = 5
    window: float = 600.0
    pause: float = 10.0
    disable_after: float = 432_000.0


@dataclass(frozen=True, slots=True)
class Standing:
    """Writes down how an endpoint is doing, in the transaction that records the attempt."""

    breaker: Breaker
    random: Callable[[int], bytes]

    def delivered(self, tx: Tx, lane: str, endpoint: Row | None) -> None:
        """It works: whatever was held against it is forgotten."""
        if endpoint is not None:
            tx.run(
                "UPDATE webhook_endpoint SET failing_since = NULL WHERE id = :id AND failing_since IS NOT NULL",
                {"id": endpoint["id"]},
            )
        if admission.note_answer(tx, lane, well=True):
            self._tell(tx, OperatorEvent.ENDPOINT_RESUMED, lane, endpoint, {})

    def failed(self, tx: Tx, lane: str, endpoint: Row | None, result: SendResult) -> None:
        """It does not: close its lane if that is called for, and switch it off after days of nothing else.

        The attempt is written already.
        """
        if result.reason.value in OURS:
            return
        since = None if endpoint is None else _failing_since(tx, lane, endpoint["id"])
        if endpoint is not None and since is not None and self._only_fails(tx, lane, since):
            days = (tx.now - since) / 86_400_000
            reason = (
                f"every attempt failed for {days:.1f} days (WEBHOOK_DISABLE_AFTER), the last one so: {result.detail}"
            )
            self.disable(tx, lane, endpoint, reason)
        elif result.status in ASKING and result.retry_after:
            reason = f"it answered {result.status} and asked for {result.retry_after:g} s"
            admission.note_refusal(tx, lane, seconds=result.retry_after, reason=reason, longest=0.0)
        elif self._breaks(tx, lane):
            asked = self.breaker
            reason = f"its receiver fails: {result.detail}"
            times = admission.note_refusal(tx, lane, seconds=asked.pause, reason=reason, longest=asked.pause * GROWS)
            if times == 1:
                self._tell(tx, OperatorEvent.ENDPOINT_PAUSED, lane, endpoint, {"reason": reason})

    def disable(self, tx: Tx, lane: str, endpoint: Row | None, reason: str) -> None:
        """Switch an endpoint off: what goes there ends dead, listed, and can be sent again."""
        if endpoint is None:
            return
        changed = tx.run(
            "UPDATE webhook_endpoint SET disabled_at = :now, disabled_reason = :reason, failing_since = NULL"
            " WHERE id = :id AND disabled_at IS NULL",
            {"now": tx.now, "reason": reason, "id": endpoint["id"]},
        )
        if not changed:
            return
        admission.forget_pause(tx, lane)
        tx.emit("webhook.disabled", level=logging.WARNING, endpoint=endpoint["id"], detail=reason)
        self._tell(tx, OperatorEvent.ENDPOINT_DISABLED, lane, endpoint, {"reason": reason})

    def dead(self, tx: Tx, delivery: Row, event: Row, reason: str) -> None:
        """A delivery was given up; of those to an endpoint that is switched off its own notice tells."""
        if delivery["endpoint_id"] == OPERATOR_ENDPOINT:
            return
        data = {
            "delivery": delivery["id"],
            "endpoint": delivery["endpoint_id"],
            "tenant": delivery["tenant_id"],
            "event": event["id"],
            "type": event["type"],
            "generation": event["generation_id"],
            "createdAt": iso(delivery["created_at"]),
            "reason": reason,
        }
        tell_operator(tx, OperatorEvent.DELIVERY_DEAD, data, random=self.random)

    def _only_fails(self, tx: Tx, lane: str, since: int) -> bool:
        span = self.breaker.disable_after
        if not span or tx.now - since < span * 1000:
            return False
        sql = "SELECT count(*) FROM (SELECT 1 FROM webhook_attempt WHERE lane = :lane AND at >= :since LIMIT :few) a"
        return int(tx.value(sql, {"lane": lane, "since": since, "few": FEW})) >= FEW

    def _breaks(self, tx: Tx, lane: str) -> bool:
        """Whether a probe failed, or the last attempts did, one and all, in a short time. What was under way when the
        lane was closed says nothing new."""
        row = tx.one("SELECT probing, paused_until FROM lane WHERE name = :name", {"name": lane})
        if row is not None and (row["paused_until"] or 0) > tx.now:
            return False
        if row is not None and row["probing"]:
            return True
        rows = tx.all(_LAST, {"lane": lane, "few": self.breaker.failures})
        bad = all(row["status"] is None or not 200 <= row["status"] <= 299 for row in rows)
        return bad and len(rows) == self.breaker.failures and rows[-1]["at"] > tx.now - self.breaker.window * 1000

    def _tell(self, tx: Tx, event: OperatorEvent, lane: str, endpoint: Row | None, data: dict[str, object]) -> None:
        if endpoint is not None and endpoint["id"] == OPERATOR_ENDPOINT:
            return
        about: dict[str, object] = {
            "endpoint": lane.partition(":")[2],
            "tenant": None if endpoint is None else endpoint["tenant_id"],
            "url": None if endpoint is None else endpoint["url"],
        }
        tell_operator(tx, event, about | data, random=self.random)


_LAST = f"""
SELECT status, at FROM webhook_attempt WHERE lane = :lane AND reason NOT IN {OURS}
ORDER BY at DESC, id DESC LIMIT :few"""


def _failing_since(tx: Tx, lane: str, endpoint_id: str) -> int | None:
    """When the failures began that neither a success nor a long quiet has ended; now, if this is the first."""
    before = tx.all(_LAST, {"lane": lane, "few": 2})[1:]
    goes_on = bool(before) and tx.now - before[0]["at"] <= QUIET
    since = "coalesce(failing_since, :now)" if goes_on else ":now"
    return tx.value(  # type: ignore[no-any-return]
        f"UPDATE webhook_endpoint SET failing_since = {since} WHERE id = :id RETURNING failing_since",
        {"now": tx.now, "id": endpoint_id},
    )
