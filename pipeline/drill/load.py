"""The offered load: every order is asked for until it is answered, always with its own key."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import httpx

from pipeline.drill.crew import DrillError
from pipeline.drill.plan import Order

CLIENTS = 8
AGAIN_SECONDS = 0.2
TAKEN = frozenset({200, 202})
LATER = frozenset({409, 429, 500, 502, 503, 504})
"""After these the same is asked for again: the key keeps it from being taken twice."""


async def offer(orders: Sequence[Order], url: str, taken: dict[str, Order]) -> None:
    """Ask for everything at the API at `url`; `taken` gets each order by the id of its generation, as it is answered.

    Raises DrillError where the API refuses an order for good.
    """
    left = iter(orders)
    async with httpx.AsyncClient(base_url=url, timeout=5, trust_env=False) as api, asyncio.TaskGroup() as group:
        for _ in range(CLIENTS):
            group.create_task(_client(api, left, taken))


async def _client(api: httpx.AsyncClient, left: Any, taken: dict[str, Order]) -> None:
    for order in left:
        taken[await _ask(api, order)] = order


async def _ask(api: httpx.AsyncClient, order: Order) -> str:
    body = {
        "prompt": order.prompt,
        "parameters": {"duration": 1},
        "userId": order.user,
        "priority": order.priority,
    }
    while True:
        try:
            answer = await api.post("/api/generations", json=body, headers={"Idempotency-Key": order.key})
        except httpx.TransportError:
            await asyncio.sleep(AGAIN_SECONDS)
            continue
        if answer.status_code in TAKEN:
            generation: str = answer.json()["id"]
            return generation
        if answer.status_code not in LATER:
            raise DrillError(f"the API refuses an order with {answer.status_code}: {answer.text[:300]}")
        await asyncio.sleep(AGAIN_SECONDS)
