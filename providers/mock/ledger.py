"""What the mock accepted and charged: the account that proves that nothing was paid twice. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from providers.mock.work import Work


def entry(work: Work, now: float) -> dict[str, Any]:
    """One accepted generation with its charge, as it stands at `now` (Unix seconds); money in micro-USD.

    It was at work from `at` until before `ends_at`, which is None for one that never ends.
    """
    return {
        "id": work.id,
        "idempotency_key": work.idempotency_key,
        "reference": work.reference,
        "prompt": work.prompt,
        "model": work.body["model"],
        "dialect": work.dialect,
        "charged_micros": work.charged_micros,
        "refunded_micros": work.charged_micros - work.cost_micros(now),
        "state": work.status(now),
        "at": work.created_at,
        "ends_at": work.ends_at,
    }


def account(works: Iterable[Work], totals: dict[str, int], now: float) -> dict[str, Any]:
    """The answer of `GET /ledger`."""
    net = totals["charged_micros"] - totals["refunded_micros"]
    return {"entries": [entry(work, now) for work in works], "totals": {**totals, "net_micros": net}}
