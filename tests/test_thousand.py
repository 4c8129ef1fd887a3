"""A thousand generations over all providers, under random faults: afterwards the providers' ledger and ours say the
same, to the cent.

Whoever is held in the end is resolved as an operator would: by a look at the provider's own account.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

import httpx
import pytest

from tests.everyone import REAL, at_the_mock
from tests.house import House, eventually, open_house

pytestmark = pytest.mark.anyio

GENERATIONS = 1_000
SEED = 20261124
SPEED = 2000.0
FAULTS = {
    "": 40,
    "[[429:1]]": 6,
    "[[fail:invalid]]": 4,
    "[[refuse:moderation]]": 4,
    "[[503-submit:1]]": 4,
    "[[500-submit:1]]": 4,
    "[[cut-submit:1]]": 4,
    "[[drop-submit:1]]": 4,
    "[[garbage-submit:1]]": 4,
    "[[redirect-submit:1]]": 2,
    "[[fail:moderation]]": 4,
    "[[fail:transient:1]]": 4,
    "[[fail:final]]": 4,
    "[[503-poll:2]]": 4,
    "[[garbage-json:2]]": 4,
    "[[unknown-status:2]]": 2,
    "[[expired-url:1]]": 2,
    "[[truncated:1]]": 2,
    "[[html:1]]": 2,
}
TERMINAL = {"completed", "failed", "cancelled"}
SETTINGS = {
    "on_unknown_submit": "hold",
    "max_in_flight": 400,
    "slots_submit": 24,
    "lane_pause": 0.1,
    "spend_per_user_day": "none",
    "spend_per_provider_day": "none",
    "spend_per_day": "none",
    "generation_timeout": 300,
    "webhook_url": "",
}


async def test_a_thousand_generations_end_with_two_ledgers_that_agree(tmp_path):
    chance = random.Random(SEED)
    faults, weights = list(FAULTS), list(FAULTS.values())
    async with open_house(tmp_path, everyone=lambda url: at_the_mock(url, tmp_path), speed=SPEED, **SETTINGS) as house:
        orders = [
            {"prompt": f"fox {number} {chance.choices(faults, weights)[0]}".strip(), "provider": chance.choice(REAL)}
            for number in range(GENERATIONS)
        ]
        for start in range(0, GENERATIONS, 100):
            answer = await house.api.post("/api/generations", json=orders[start : start + 100])
            assert answer.status_code == 202, answer.text
        await settled(house)
        await resolve_all(house)
        await settled(house)
        assert await left(house) == Counter()
        assert await disagreements(house) == {}
        assert await doubled(house) == []
        print("\n" + await summary(house))


async def settled(house: House) -> None:
    """Until all that is left is held, and nothing moves any more."""

    async def open_ones() -> Counter[str]:
        return await left(house)

    await eventually(open_ones, lambda stages: set(stages) <= {"held"}, 150)


async def left(house: House) -> Counter[str]:
    """How many have not ended, by stage."""
    rows = await house.plant.db.read(lambda tx: tx.all("SELECT stage FROM generation WHERE finished_at IS NULL"))
    return Counter(row["stage"] for row in rows)


async def resolve_all(house: House) -> None:
    """What a person does with those that are held: look into the provider's account, and say what it shows."""
    held = await house.plant.db.read(
        lambda tx: tx.all("SELECT id, prompt FROM generation WHERE finished_at IS NULL AND stage = 'held'")
    )
    await asyncio.gather(*(resolve(house, row) for row in held))


async def resolve(house: House, row: dict[str, Any]) -> None:
    entries = await account(house, row["prompt"])
    word = {"as": "accepted", "operation": entries[0]["id"]} if entries else {"as": "not_taken"}

    async def say() -> httpx.Response:
        return await house.api.post(f"/api/generations/{row['id']}/resolve", json=word)

    answer = await eventually(say, lambda answer: answer.status_code != 409, 60)
    assert answer.status_code in {200, 202}, answer.text


async def account(house: House, prompt: str) -> list[dict[str, Any]]:
    """What the provider's ledger says of one prompt."""
    found = (await house.provider.get("/ledger", params={"prompt": prompt})).json()["entries"]
    return [entry for entry in found if entry["prompt"] == prompt]


async def disagreements(house: House) -> dict[str, tuple[int, int, int]]:
    """Prompts for which the two ledgers differ, in micro-USD: theirs, what ours knows, and what ours calls unclear.

    Not every provider says whether a failure is charged: what ours calls unclear is charged whole or not at all.
    """
    entries = (await house.provider.get("/ledger", params={"limit": str(3 * GENERATIONS)})).json()["entries"]
    theirs: Counter[str] = Counter()
    for entry in entries:
        theirs[entry["prompt"]] += entry["charged_micros"] - entry["refunded_micros"]
    rows = await house.plant.db.read(lambda tx: tx.all(_OURS))
    assert len(rows) == GENERATIONS
    return {
        row["prompt"]: (theirs[row["prompt"]], row["known"], row["unclear"])
        for row in rows
        if theirs[row["prompt"]] - row["known"] not in {0, row["unclear"]}
    }


_OURS = """
SELECT g.prompt,
  coalesce(sum(CASE WHEN s.billed = 'yes' THEN s.cost_micros END), 0) AS known,
  coalesce(sum(CASE WHEN s.billed = 'unknown' THEN coalesce(s.cost_micros, s.estimate_micros) END), 0) AS unclear
FROM generation g LEFT JOIN submission s ON s.generation_id = g.id GROUP BY g.id, g.prompt"""


async def doubled(house: House) -> list[str]:
    """Prompts that were charged more than once, without what was given back."""
    entries = (await house.provider.get("/ledger", params={"limit": str(3 * GENERATIONS)})).json()["entries"]
    charged = Counter(entry["prompt"] for entry in entries if entry["charged_micros"] > entry["refunded_micros"])
    return [prompt for prompt, times in charged.items() if times > 1]


async def summary(house: House) -> str:
    """What came of them, for people."""
    ended = await house.plant.db.read(
        lambda tx: tx.all("SELECT status, error_code, count(*) AS n FROM generation GROUP BY 1, 2 ORDER BY 3 DESC")
    )
    usage = (await house.api.get("/api/usage", params={"groupBy": "provider"})).json()
    lines = [f"{row['n']:5} {row['status']} {row['error_code'] or ''}" for row in ended]
    return "\n".join([*lines, *(str(row) for row in usage["data"])])
