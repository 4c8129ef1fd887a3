"""Caps in a whole house: what finds no money waits and says so, starts when there is some, or asks somebody else."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline import admission
from pipeline.spending.caps import DAY_MS
from tests.everyone import at_the_mock
from tests.house import House, eventually, open_house
from tests.pipeline.engines import Time

pytestmark = pytest.mark.anyio


async def waiting(house: House) -> int:
    body = (await house.api.get("/api/queue/status")).json()
    return int(body["waitingForSpend"])


async def at_noon(house: House) -> Time:
    """The clock of the house's database, which a test may move."""
    time, db = Time(), house.plant.db
    now = await db.read(lambda tx: tx.now)
    time.passes((DAY_MS / 2 - now % DAY_MS) % DAY_MS / 1000)
    db._ahead = time
    return time


async def two(house: House, **members: Any) -> list[str]:
    """Two orders, one by one, of which both are taken before either costs anything: nothing starts meanwhile."""
    db = house.plant.db
    await db.write(lambda tx: admission.pause(tx, admission.EVERYTHING, seconds=60, reason="a test"))
    ids = [(await house.submit("a fox", **members))["id"] for _ in range(2)]
    await db.write(lambda tx: admission.resume(tx, admission.EVERYTHING))
    house.plant.doorbell.ring()
    return ids


async def test_what_finds_no_money_waits_until_midnight(tmp_path):
    async with open_house(tmp_path, spend_per_user_day="0.5") as house:
        time = await at_noon(house)
        first, second = await two(house)
        await eventually(lambda: waiting(house), lambda count: count == 1, 10)
        assert (await house.ended(first))["status"] == "completed"
        assert "waiting.spend" in await house.timeline(second)
        assert (await house.api.post("/api/generations", json={"prompt": "another"})).status_code == 402
        time.passes(DAY_MS / 2 / 1000 + 1)
        house.plant.doorbell.ring()
        assert (await house.ended(second))["status"] == "completed"
        assert await waiting(house) == 0
        assert len(await house.ledger()) == 2


async def test_a_providers_cap_sends_the_work_on_to_the_next(tmp_path):
    def everyone(url: str) -> dict[str, Any]:
        return at_the_mock(url, tmp_path) | {"spend_per_provider_day": "fal:0.01,*:none"}

    async with open_house(tmp_path, everyone=everyone) as house:
        made = await house.submit("a fox", provider="fal", fallback=[{"provider": "runway"}])
        ended = await house.ended(made["id"])
        assert (ended["status"], ended["provider"]) == ("completed", "runway"), ended["error"]
        assert "fallback" in await house.timeline(made["id"])
        calls = (await house.api.get(f"/api/generations/{made['id']}/submissions")).json()["data"]
        assert [call["provider"] for call in calls] == ["runway"]
        alone = await house.api.post("/api/generations", json={"prompt": "a fox", "provider": "fal"})
        assert (alone.status_code, alone.json()["scope"]) == (402, "provider")
