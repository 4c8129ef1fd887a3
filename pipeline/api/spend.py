"""402 `spend_cap`: a request that no cap on spending leaves room for today."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pipeline.api.problems import Problem
from pipeline.api.service import Service
from pipeline.db import Tx
from pipeline.schemas import iso
from pipeline.spending import Money, Shortage, unaffordable


def refusal(
    service: Service,
    tx: Tx,
    tenant: str,
    user: str | None,
    prices: Iterable[tuple[str, int]],
    money: Money | None = None,
) -> Problem | None:
    """The answer to a request for which there is no money today, at none of the providers that it may go to.

    `prices` are (provider, micro-USD) in the order of the chain; `money` counts what is asked for together. Admission
    is exact; this is told early.
    """
    shortage = unaffordable(tx, service.purse, tenant, user, prices, money)
    return None if shortage is None else spend_cap(shortage, tx.now)


def spend_cap(shortage: Shortage, now_ms: int) -> Problem:
    """What is short, how much is left, and when there is money again; of a price above a whole day's cap never, and to
    a tenant nothing of what others have left.

    Not `retryable`: clients that repeat such a request by themselves would do so for hours.
    """
    members: dict[str, Any] = {"scope": shortage.bound, "estimatedCostMicros": shortage.estimate_micros}
    if not shortage.discreet:
        members |= {"limitMicros": shortage.limit_micros, "leftMicros": shortage.left_micros}
    if shortage.for_ever:
        return Problem(402, "spend_cap", str(shortage), members=members)
    members["resetsAt"] = iso(shortage.resets_at)
    seconds = -(-(shortage.resets_at - now_ms) // 1000)
    headers = {"Retry-After": str(max(1, seconds))}
    return Problem(402, "spend_cap", str(shortage), headers=headers, members=members)
