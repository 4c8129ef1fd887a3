"""Cancelling: at once while nothing was submitted, later when it was, never after the end."""

from __future__ import annotations

import pytest

from tests.house import House, open_house

pytestmark = pytest.mark.anyio


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


async def test_what_runs_is_cancelled_with_the_next_turn(tmp_path):
    async with open_house(tmp_path, speed=1) as house:
        made = await house.submit("x")
        await house.reached(made["id"], "generating")
        status, body = await cancel(house, made["id"])
        assert (status, body["status"], body["cancelRequested"]) == (202, "processing", True)
        assert (await cancel(house, made["id"]))[0] in {200, 202}
        ended = await house.ended(made["id"])
        assert ended["status"] == "cancelled"
        assert await cancel(house, made["id"]) == (200, ended)
        assert terminal_events(house, made["id"]) == ["generation.cancelled"]
        timeline = await house.timeline(made["id"])
        assert timeline.count("cancel.requested") == 1
