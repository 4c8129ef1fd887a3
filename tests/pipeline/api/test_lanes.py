"""Pause and resume: nothing starts meanwhile, what runs goes on, and webhooks go out."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline import admission
from pipeline.admission import EVERYTHING
from pipeline.lifecycle import Advance, DeadLetter, Requeue, Step
from tests.house import House, eventually, open_house
from tests.pipeline.api.settings import SETTINGS
from tests.pipeline.provider_script import by_hand, say

pytestmark = pytest.mark.anyio

SECRETS = {name: SETTINGS[name] for name in ("secret_key", "webhook_secret")}


@pytest.fixture(scope="module")
def shared(house_on_each_engine):
    return house_on_each_engine


@pytest.fixture
async def house(shared: House) -> House:
    """Every lane is open."""
    await shared.plant.db.write(lambda tx: tx.run("DELETE FROM lane"))
    return shared


async def act(house: House, what: str, **body: Any) -> dict[str, Any]:
    response = await house.api.post(f"/api/queue/{what}", json=body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def admitted(house: House) -> int:
    return await house.plant.db.write(lambda tx: admission.admit(tx, limit=1000, bounds=admission.Bounds(1000)))


async def lanes(house: House) -> dict[str, dict[str, Any]]:
    status = (await house.api.get("/api/queue/status")).json()
    return {lane["name"]: lane for lane in status["lanes"]}


async def test_a_lane_is_closed_until_it_is_opened(house):
    lane = await act(house, "pause", lane="provider:mock", reason="lunch")
    assert lane == {
        "object": "lane",
        "name": "provider:mock",
        "tenant": None,
        "paused": True,
        "pausedUntil": None,
        "pausedReason": "lunch",
    }
    await house.submit("x")
    assert await admitted(house) == 0
    shown = (await lanes(house))["provider:mock"]
    assert (shown["paused"], shown["pausedUntil"], shown["pausedReason"]) == (True, None, "lunch"), "as in the answer"
    lane = await act(house, "resume", lane="provider:mock")
    assert (lane["paused"], lane["pausedUntil"], lane["pausedReason"]) == (False, None, None)
    assert await admitted(house) >= 1


async def test_the_whole_service_is_closed_and_opened(house):
    response = await house.api.post("/api/queue/pause")
    assert (response.status_code, response.json()["name"]) == (200, "*")
    await house.submit("x")
    assert await admitted(house) == 0
    assert await house.plant.db.read(lambda tx: admission.is_paused(tx, "provider:mock"))
    assert (await lanes(house))[EVERYTHING]["pausedReason"] == "paused by hand"
    await act(house, "resume", lane="provider:mock")
    assert await admitted(house) == 0, "a lane does not open what is closed as a whole"
    assert (await house.api.post("/api/queue/resume")).json()["paused"] is False
    assert await admitted(house) >= 1


async def test_a_lane_has_the_name_of_its_provider_too(house):
    assert (await act(house, "pause", lane="mock"))["name"] == "provider:mock"
    assert (await act(house, "resume", lane="mock"))["name"] == "provider:mock"


async def test_the_status_says_that_a_lane_is_probed_and_why(house):
    await house.plant.db.write(lambda tx: admission.note_refusal(tx, "provider:mock", seconds=0.001, reason="quota"))
    await eventually(lambda: lanes(house), lambda seen: seen["provider:mock"]["pausedUntil"] is None, 5)
    shown = (await lanes(house))["provider:mock"]
    assert (shown["probing"], shown["pausedReason"]) == (True, "quota")
    assert (shown["requestsPerMinute"], shown["requestsLastMinute"]) == (None, None)
    await act(house, "resume", lane="mock")
    shown = (await lanes(house))["provider:mock"]
    assert (shown["probing"], shown["pausedReason"]) == (False, None)


async def test_the_status_shows_the_numbers_of_a_provider(tmp_path):
    numbers = {"provider_max_in_flight": "mock:7", "requests_per_minute": "mock:60"}
    async with open_house(tmp_path, **SETTINGS | numbers) as house:
        await house.ended((await house.submit("x"))["id"])
        shown = (await lanes(house))["provider:mock"]
        assert (shown["maxInFlight"], shown["requestsPerMinute"], shown["requestsLastMinute"]) == (7, 60, 1)


async def test_a_rate_lets_the_next_start_in_time(tmp_path):
    """The worker sleeps until the minute is over; here its clock is set ahead instead."""
    async with open_house(tmp_path, **SETTINGS | {"requests_per_minute": "mock:1"}) as house:
        first, second = await house.submit("x"), await house.submit("y")
        await house.ended(first["id"])
        assert (await house.get(second["id"]))["status"] == "queued"
        await house.plant.db.write(lambda tx: tx.run("UPDATE submission SET intended_at = intended_at - 59000"))
        assert (await house.ended(second["id"]))["status"] == "completed"


async def test_a_pause_can_end_by_itself_and_is_never_cut_short(house):
    short = await act(house, "pause", seconds=60)
    long = await act(house, "pause", seconds=600)
    again = await act(house, "pause", seconds=60, reason="shorter")
    assert short["pausedUntil"] < long["pausedUntil"] == again["pausedUntil"]
    await act(house, "resume")
    assert (await act(house, "pause", seconds=1))["pausedUntil"] < short["pausedUntil"]


@pytest.mark.parametrize("what", ["pause", "resume"])
async def test_a_lane_that_is_not_there_is_named(house, what):
    response = await house.api.post(f"/api/queue/{what}", json={"lane": "provider:mok"})
    problem = response.json()
    assert (response.status_code, problem["code"]) == (422, "invalid_request")
    assert problem["errors"][0]["pointer"] == "/lane"
    assert "provider:mock" in problem["errors"][0]["allowed"]


@pytest.mark.parametrize("body", [{"seconds": 0}, {"seconds": 1.5}, {"reason": ""}, {"until": "x"}, {"lane": 1}])
async def test_a_body_with_mistakes(house, body):
    response = await house.api.post("/api/queue/pause", json=body)
    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")


async def test_what_runs_goes_on_and_webhooks_go_out(tmp_path, place):
    async with open_house(tmp_path, speed=30, **SETTINGS | {"database_url": place.url}) as house:
        running = await house.submit("[[slow:0.5]] running")
        await house.reached(running["id"], "generating")
        await house.api.post("/api/queue/pause")
        waiting = await house.submit("waiting")
        assert (await house.ended(running["id"]))["status"] == "completed"
        await house.webhooks(1)
        assert (await house.get(waiting["id"]))["stage"] == "waiting"
        await house.api.post("/api/queue/resume")
        assert (await house.ended(waiting["id"]))["status"] == "completed"


async def test_a_pause_of_a_second_ends_without_a_word(tmp_path):
    async with open_house(tmp_path, **SETTINGS) as house:
        await act(house, "pause", seconds=1)
        made = await house.submit("x")
        ended = await eventually(lambda: house.get(made["id"]), lambda g: g["status"] == "completed", 10)
        assert ended["startedAt"] > made["createdAt"]


@pytest.mark.parametrize("lane", [None, "mock", "user:ann"])
async def test_what_waited_through_a_pause_by_hand_waits_anew(tmp_path, place, lane):
    """It would end with `deadline_exceeded` in the moment of the resume, all that waits together."""
    async with by_hand(tmp_path, **SECRETS, database_url=place.url, queue_timeout=60) as hand:
        made = await hand.house.submit("x", userId="ann")
        named = {} if lane is None else {"lane": lane}
        assert (await hand.house.api.post("/api/queue/pause", json=named)).status_code == 200
        await hand.change("generation", created_at=-3600)
        assert (await hand.house.api.post("/api/queue/resume", json=named)).status_code == 200
        assert isinstance(await hand.take(Step.SUBMIT), Advance)
        assert (await hand.house.get(made["id"]))["status"] == "processing"


async def test_it_waits_no_longer_than_that_and_another_users_pause_is_not_its_own(tmp_path, place):
    async with by_hand(tmp_path, **SECRETS, database_url=place.url, queue_timeout=60) as hand:
        for name in ("ann", "bob"):
            await hand.house.submit("x", userId=name)
        await hand.house.api.post("/api/queue/pause", json={"lane": "user:ann", "seconds": 1})
        await hand.change("generation", created_at=-3600)
        await hand.change("lane", paused_until=-59, waits_from=-59)
        assert {type(await hand.take(Step.SUBMIT)) for _ in range(2)} == {Advance, DeadLetter}
        await hand.house.submit("x", userId="ann")
        await hand.change("generation", created_at=-3600)
        await hand.change("lane", waits_from=-61)
        assert isinstance(await hand.take(Step.SUBMIT), DeadLetter)


async def test_a_pause_that_a_refusal_made_ends_no_wait(tmp_path, place):
    async with by_hand(tmp_path, **SECRETS, database_url=place.url, queue_timeout=60) as hand:
        hand.script.submit = [say(429), say(202, {"id": "vid_1"})]
        await hand.house.submit("x")
        assert isinstance(await hand.take(Step.SUBMIT), Requeue)
        assert (await hand.house.api.post("/api/queue/resume", json={"lane": "mock"})).status_code == 200
        await hand.change("generation", created_at=-3600)
        assert isinstance(await hand.take(Step.SUBMIT), DeadLetter)
