"""Cancelling: at once while nothing was submitted, later when it was, never after the end."""

from __future__ import annotations

import asyncio

import pytest

from tests.house import House, open_house
from tests.pipeline.api.settings import SETTINGS

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def house(house_on_each_engine):
    return house_on_each_engine


async def cancel(house: House, generation_id: str) -> tuple[int, dict]:
    response = await house.api.post(f"/api/generations/{generation_id}/cancel")
    return response.status_code, response.json()


def terminal_events(house: House, generation_id: str) -> list[str]:
    sql = "SELECT type FROM webhook_event WHERE generation_id = :id"
    return [row["type"] for row in house.plant.db.read_now(lambda tx: tx.all(sql, {"id": generation_id}))]


async def test_what_waits_is_cancelled_at_once_with_one_event(house, name):
    made = await house.submit("x", generationId=name())
    status, body = await cancel(house, made["generationId"])
    assert (status, body["status"], body["cancelRequested"]) == (200, "cancelled", True)
    assert body["completedAt"] is not None
    assert body == await house.get(made["id"])
    again = await cancel(house, made["id"])
    assert again == (200, body)
    assert terminal_events(house, made["id"]) == ["generation.cancelled"]


async def test_what_is_unknown_cannot_be_cancelled(house):
    status, body = await cancel(house, "gen_nothing")
    assert (status, body["code"]) == (404, "not_found")


async def test_what_runs_is_cancelled_with_the_next_turn(tmp_path, place):
    async with open_house(tmp_path, speed=1, **SETTINGS | {"database_url": place.url}) as house:
        made = await house.submit("x")
        await house.reached(made["id"], "generating")
        status, body = await cancel(house, made["id"])
        assert (status, body["status"], body["cancelRequested"]) == (202, "processing", True)
        assert (await cancel(house, made["id"]))[0] in {200, 202}
        ended = await house.ended(made["id"])
        assert ended["status"] == "cancelled"
        assert await cancel(house, made["id"]) == (200, ended)
        assert terminal_events(house, made["id"]) == ["generation.cancelled"]
        assert (await house.timeline(made["id"])).count("cancel.requested") == 1


async def test_a_cancel_at_any_moment_leaves_one_end(tmp_path, place):
    """Whatever a cancel meets on its way, what was answered as ended stays so, and one event tells of the end."""
    async with open_house(tmp_path, **SETTINGS | {"database_url": place.url}) as house:

        async def at_some_moment(n: int) -> tuple[int, dict]:
            made = await house.submit(f"fox {n}")
            await asyncio.sleep(n * 0.03)  # moments spread over a whole generation: nothing is waited for
            return await cancel(house, made["id"])

        answers = await asyncio.gather(*(at_some_moment(n) for n in range(16)))
        for status, answer in answers:
            ended = await house.ended(answer["id"])
            assert ended["status"] in {"cancelled", "completed"}
            if status == 200:
                assert (ended["status"], ended["completedAt"]) == (answer["status"], answer["completedAt"])
            assert terminal_events(house, answer["id"]) == [f"generation.{ended['status']}"]
