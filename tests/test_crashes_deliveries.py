"""A sender is killed with -9 after its POST was answered and before that is committed, twenty times: no event is lost,
and each that comes twice has one id."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path

import pytest

from tests.crash_sweep import order
from tests.house import House, open_house
from tests.zygotes import Zygote, open_zygotes

pytestmark = pytest.mark.anyio

HOUSES = 2
KILLS = 10
"""In each house."""
AFTER_THE_POST = "after deliver POST#1"
LEASE = 0.4


async def cancelled(house: House, number: int) -> str:
    """A generation whose end is an event at once, without any provider; its id."""
    made = await house.submit(f"fox {number}")
    answer = await house.api.post(f"/api/generations/{made['id']}/cancel")
    assert answer.status_code == 200, answer.text
    return str(made["id"])


async def kill_often(zygote: Zygote, folder: Path) -> tuple[list[str], list[tuple[str, str]], list[str]]:
    """The generations, what was received as (webhook-id, generation), and how the deliveries ended."""
    async with open_house(folder, work=False, lease=LEASE) as house:
        asked = order(house, folder)
        asked["settings"] |= {"lease": LEASE}
        made = []
        for number in range(KILLS):
            made.append(await cancelled(house, number))
            assert (await zygote.run(**asked, kill=AFTER_THE_POST))["killed"]
            assert (await zygote.run(**asked))["exit"] == 0
        assert all(hook.valid for hook in house.received)
        received = [(hook.headers["webhook-id"], json.loads(hook.body)["jobId"]) for hook in house.received]
        rows = await house.plant.db.read(lambda tx: tx.all("SELECT state FROM webhook_delivery"))
        return made, received, [row["state"] for row in rows]


async def test_twenty_kills_between_the_post_and_its_commit_lose_nothing_and_repeat_under_one_id(
    tmp_path: Path,
) -> None:
    async with open_zygotes(HOUSES) as pool:
        zygotes = [pool.get_nowait() for _ in range(HOUSES)]
        results = await asyncio.gather(
            *(kill_often(zygote, tmp_path / str(number)) for number, zygote in enumerate(zygotes))
        )
    kills = duplicates = 0
    for made, received, states in results:
        assert {generation for _, generation in received} == set(made)
        assert len(set(received)) == len(made) == KILLS
        assert Counter(states) == {"delivered": KILLS}
        kills, duplicates = kills + KILLS, duplicates + len(received) - len(set(received))
    assert (kills, duplicates) == (HOUSES * KILLS, HOUSES * KILLS)
