"""From a valid request to accepted work, and from work to what a poll shows. Pure."""

from __future__ import annotations

import random
from typing import Any

from providers.mock.order import Order
from providers.mock.work import FAILURES, Work

TYPICAL_SECONDS = 30.0
_QUEUED_SHARE = 0.1


def seconds_for(seed: int, speed: float) -> float:
    """How long a generation takes: 24 to 36 s, the same for the same seed, divided by `speed`."""
    return TYPICAL_SECONDS * random.Random(seed).uniform(0.8, 1.2) / speed  # noqa: S311 - no secret


def accept(
    order: Order, *, work_id: str, key: str | None, seed: int, now: float, seconds: float | None, ending: str
) -> Work:
    """The work that an order becomes, charged at once. `seconds` None means that it never ends."""
    ends_at = None if seconds is None else now + seconds
    return Work(
        id=work_id,
        prompt=order.prompt,
        body={**order.body, "seed": seed},
        body_hash=order.body_hash,
        idempotency_key=key,
        reference=order.reference,
        callback_url=order.callback_url,
        created_at=now,
        starts_at=now + _QUEUED_SHARE * (seconds or 0.0),
        ends_at=ends_at,
        ending=ending,
        cancelled_at=None,
        charged_micros=order.price_micros,
        refund_at=ends_at if ending in FAILURES and ending not in order.charged_endings else None,
        dialect=order.dialect,
    )


def shown(work: Work, now: float, output: dict[str, Any] | None = None) -> dict[str, Any]:
    """A generation as the API tells it; money in micro-USD, times in Unix seconds."""
    status = work.status(now)
    failed = status == "failed"
    return {
        "id": work.id,
        "status": status,
        "progress": 1.0 if status == "succeeded" else work.progress(now),
        "created_at": work.created_at,
        "reference": work.reference,
        **{name: work.body[name] for name in ("model", "duration", "aspect_ratio", "resolution", "seed")},
        "output": output,
        "error": {"code": work.ending, "message": FAILURES[work.ending]} if failed else None,
        "cost_micros": work.cost_micros(now),
    }
