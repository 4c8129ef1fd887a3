"""`GET /api/generations/{id}/explain`, from the first second to the webhooks, on both databases."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Any

import pytest

from pipeline import admission, credentials
from pipeline.credentials import Scope
from pipeline.db import Tx
from pipeline.lifecycle import Advance, Failed, Fault, Hold, Retry, Step
from pipeline.turn import Report
from tests.pipeline.api.settings import SETTINGS
from tests.pipeline.engines import Place
from tests.pipeline.provider_script import Hand, by_hand

pytestmark = pytest.mark.anyio

OPERATOR = {"Authorization": "Bearer the operator"}
VALUES = {
    "api_key": "the operator",
    "mock_recovery": "none",
    "on_unknown_submit": "hold",
    "submit_timeout": 5,
    "lease": 10,
    "requests_per_minute": "mock:60",
    "spend_per_user_day": "1",
} | {name: SETTINGS[name] for name in ("secret_key", "webhook_secret")}


@pytest.fixture
async def hand(tmp_path, place: Place) -> AsyncIterator[Hand]:
    """A house whose turns are taken one by one, and a worker that says it is alive."""
    async with by_hand(tmp_path, **VALUES, database_url=place.url) as found:
        found.house.api.headers.update(OPERATOR)
        await worker(found, seen=0)
        yield found


async def worker(hand: Hand, *, seen: int | None) -> None:
    """The one worker was seen so many seconds ago; None signs it out."""

    def unit(tx: Tx) -> None:
        tx.run("DELETE FROM worker")
        if seen is not None:
            values = {"id": "hand", "host": "box", "pid": 7, "version": "1", "started_at": 0}
            tx.insert("worker", values | {"seen_at": tx.now - seen * 1000})

    await hand.db.write(unit)


async def explained(hand: Hand, reference: str, headers: dict[str, str] | None = None) -> dict[str, Any]:
    answer = await hand.house.api.get(f"/api/generations/{reference}/explain", headers=headers)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    assert body["summary"].endswith(".")
    assert body["whatToDo"]
    assert "None" not in body["summary"] + body["whatToDo"]
    return body


async def state(hand: Hand, reference: str) -> str:
    return str((await explained(hand, reference))["state"])


async def pause(hand: Hand, what: str, **body: Any) -> None:
    assert (await hand.house.api.post(f"/api/queue/{what}", json=body)).status_code == 200


async def test_each_reason_to_wait_is_told_as_it_comes_and_goes(hand):
    first = (await hand.house.submit("a fox", userId="alice"))["id"]
    assert await state(hand, first) == "next"
    await worker(hand, seen=None)
    assert "no worker is alive" in (await explained(hand, first))["summary"]
    await worker(hand, seen=3600)
    told = await explained(hand, first)
    assert (told["state"], told["workersAlive"], told["workerLastSeenAt"] is not None) == ("no_worker", 0, True)
    await worker(hand, seen=0)
    for lane, expected in ((None, "service_paused"), ("mock", "lane_paused"), ("user:alice", "user_paused")):
        named = {} if lane is None else {"lane": lane}
        await pause(hand, "pause", **named, reason="lunch", seconds=600)
        told = await explained(hand, first)
        assert told["state"] == expected
        assert "lunch" in told["summary"]
        assert told["retryAt"] is not None
        assert told["waiting"]["detail"] == "lunch"
        await pause(hand, "resume", **named)
        await pause(hand, "pause", **named)
        told = await explained(hand, first)
        assert (told["state"], told["retryAt"], told["expectedStart"]) == (expected, None, None)
        await pause(hand, "resume", **named)
    await pause(hand, "pause", lane="mock", seconds=600)
    await pause(hand, "pause", lane="user:alice")
    told = await explained(hand, first)
    assert (told["state"], told["expectedStart"]) == ("user_paused", None), "of two pauses the one that ends last"
    await pause(hand, "resume", lane="mock")
    await pause(hand, "resume", lane="user:alice")
    await hand.house.api.put("/api/users/alice", json={"maxInFlight": 0})
    told = await explained(hand, first)
    assert (told["state"], told["waiting"]["userMaxInFlight"], told["expectedStart"]) == ("user_full", 0, None)
    await hand.house.api.delete("/api/users/alice")
    assert await state(hand, first) == "next"


async def test_what_others_take_is_told_with_place_and_expected_start(hand):
    ids = [(await hand.house.submit(f"fox {number}", userId=f"u{number}"))["id"] for number in range(4)]
    told = await explained(hand, ids[3])
    assert (told["state"], told["position"], told["positionExact"]) == ("next", 4, True)
    await lane(hand, max_in_flight=2)
    told = await explained(hand, ids[3])
    assert (told["state"], told["position"]) == ("behind", 4)
    assert "3 generations go before it" in told["summary"]
    await hand.db.write(lambda tx: admission.admit(tx, limit=1, bounds=admission.Bounds(1)))
    await lane(hand, max_in_flight=1)
    told = await explained(hand, ids[3])
    assert (told["state"], told["position"]) == ("lane_full", 3)
    assert (told["waiting"]["laneInFlight"], told["waiting"]["lanePlaces"]) == (1, 1)
    earlier = (await explained(hand, ids[1]))["expectedStart"]
    assert told["at"] < earlier < told["expectedStart"], "by the usual duration, one after the other"
    await lane(hand, max_in_flight=None, probing=2)
    assert await state(hand, ids[3]) == "lane_probing"
    await lane(hand, probing=0)
    await used_up(hand, 60)
    told = await explained(hand, ids[1])
    assert (told["state"], told["waiting"]["requestsPerMinute"]) == ("minute_used", 60)
    assert told["retryAt"] is not None


async def lane(hand: Hand, **columns: int | None) -> None:
    def unit(tx: Tx) -> None:
        admission.hold_lane(tx, "provider:mock")
        tx.update("lane", columns, "name = 'provider:mock'", {})

    await hand.db.write(unit)


async def used_up(hand: Hand, calls: int) -> None:
    """So many calls began just now, and were refused."""
    row = await hand.row("generation")

    def unit(tx: Tx) -> None:
        for number in range(calls):
            values = {"generation_id": row["id"], "run": 1, "provider": "mock", "token": f"t{number}", "billed": "no"}
            values |= {"outcome": "rejected", "estimate_micros": 0, "intended_at": tx.now, "carries": ""}
            tx.insert("submission", values | {"id": f"sub_{number}", "tenant_id": "default"})

    await hand.db.write(unit)


async def test_money_is_told_with_the_cap_that_is_short(tmp_path, place):
    """The mock's money counts, since its cap is set."""
    async with by_hand(tmp_path, **VALUES, database_url=place.url) as hand:
        hand.house.api.headers.update(OPERATOR)
        await worker(hand, seen=0)
        ids = [(await hand.house.submit(f"fox {number}", userId="alice"))["id"] for number in range(2)]
        await hand.db.write(
            lambda tx: tx.run("UPDATE generation SET reserved_micros = 900000 WHERE id = :id", {"id": ids[0]})
        )
        purse = hand.house.plant.purse
        await hand.db.write(lambda tx: admission.admit(tx, limit=9, bounds=admission.Bounds(9), purse=purse))
        told = await explained(hand, ids[1])
        assert told["state"] == "spend"
        assert "SPEND_PER_USER_DAY" in told["summary"]
        assert told["retryAt"].endswith("T00:00:00.000Z")


async def test_a_generation_explains_itself_on_its_whole_way(hand):
    made = (await hand.house.submit("a fox"))["id"]
    turn = await hand.begin(Step.SUBMIT)
    told = await explained(hand, made)
    assert (told["state"], told["worker"]) == ("submitting", "box:7")
    assert "is asking mock" in told["summary"]
    await hand.db.write(lambda tx: tx.run("UPDATE job SET locked_until = :now", {"now": tx.now - 1}))
    assert "another takes over" in (await explained(hand, made))["summary"]
    await hand.db.write(lambda tx: tx.run("UPDATE job SET locked_until = :later", {"later": tx.now + 60_000}))
    fault = Fault("provider_unavailable", "it answered 503")
    assert isinstance(await hand.record(turn, Report(Failed(fault, retryable=True, retry_after=60.0))), Retry)
    told = await explained(hand, made)
    assert (told["state"], told["attempts"]) == ("submitting", 1)
    assert "it answered 503" in told["summary"]
    assert "attempt 2" in told["summary"]
    assert isinstance(await hand.take(Step.SUBMIT), Advance)
    told = await explained(hand, made)
    assert told["state"] == "generating"
    assert "mock works on it since" in told["summary"]
    assert told["nextTurnAt"] is not None
    await hand.change("job", scheduled_for=-100)
    assert "due for" in (await explained(hand, made))["summary"]
    await worker(hand, seen=None)
    told = await explained(hand, made)
    assert (told["state"], "mock has the work" in told["summary"]) == ("no_worker", True)
    await worker(hand, seen=0)
    await hand.house.api.post(f"/api/generations/{made}/cancel")
    assert "A cancel was asked for" in (await explained(hand, made))["summary"]


async def test_a_held_call_is_explained_and_what_to_do_about_it(hand):
    made = await hand.held()
    told = await explained(hand, made)
    assert told["state"] == "held"
    assert "cleared up by itself" in told["summary"]
    assert told["held"]["waitsForPerson"] is False
    await hand.change("submission", intended_at=-3600.0)
    assert isinstance(await hand.take(Step.RESOLVE), Hold)
    told = await explained(hand, made)
    assert "waits for a person" in told["summary"]
    assert f"dailies resolve {made} --as" in told["whatToDo"]
    await hand.house.api.post(f"/api/generations/{made}/resolve", json={"as": "abandon"})
    told = await explained(hand, made)
    assert (told["state"], told["redrive"]["needsAllowRepay"]) == ("failed", True)
    assert "--allow-repay" in told["whatToDo"]


async def test_the_end_is_told_with_its_webhooks_and_the_way_on(hand):
    made = (await hand.house.submit("a fox"))["id"]
    turn = await hand.begin(Step.SUBMIT)
    await hand.record(turn, Report(Failed(Fault("content_blocked", "the prompt was refused"))))
    told = await explained(hand, made)
    assert told["state"] == "failed"
    assert "the prompt was refused (content_blocked)" in told["summary"]
    assert "generation.failed to ep_default is tried" in told["summary"]
    assert "change it and ask anew, or `dailies redrive" in told["whatToDo"]
    assert [each["state"] for each in told["deliveries"]] == ["pending"]
    await hand.db.write(lambda tx: tx.run("UPDATE webhook_delivery SET state = 'dead', last_error = 'answered 500'"))
    told = await explained(hand, made)
    assert "was given up (answered 500)" in told["summary"]
    assert f"dailies redeliver {told['deliveries'][0]['id']}" in told["whatToDo"]
    turn_back = {"status": "cancelled", "billed": "no", "error_code": None}
    await hand.db.write(lambda tx: tx.update("generation", turn_back, "id = :id", {"id": made}))
    assert "nothing was charged" in (await explained(hand, made))["summary"]
    turn_back = {"status": "completed", "billed": "yes", "video_key": "k", "video_bytes": 1, "video_sha256": "0" * 64}
    await hand.db.write(lambda tx: tx.update("generation", turn_back, "id = :id", {"id": made}))
    await hand.db.write(lambda tx: tx.run("UPDATE webhook_delivery SET state = 'delivered'"))
    told = await explained(hand, made)
    assert (told["state"], told["whatToDo"]) == ("completed", "Nothing.")
    assert "was delivered." in told["summary"]


async def test_a_tenant_is_told_of_its_own_alone_and_no_figures_of_the_service(hand):
    made = (await hand.house.submit("a fox"))["id"]
    acme = await key_of(hand, "acme")
    for reference in (made, "nothing"):
        answer = await hand.house.api.get(f"/api/generations/{reference}/explain", headers=acme)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    theirs = await hand.house.api.post("/api/generations", json={"prompt": "x", "generationId": "o-1"}, headers=acme)
    told = await explained(hand, "o-1", acme)
    assert told["id"] == theirs.json()["id"]
    assert {told[name] for name in ("worker", "workersAlive", "workerLastSeenAt")} == {None}
    assert {told["waiting"][name] for name in ("laneInFlight", "lanePlaces", "requestsPerMinute")} == {None}
    assert (await explained(hand, theirs.json()["id"]))["workersAlive"] == 1, "the operator sees everybody's"
    answer = await hand.house.api.get("/api/generations/o-1/explain?x=1", headers=acme)
    assert answer.status_code == 400


async def key_of(hand: Hand, tenant: str) -> dict[str, str]:
    asked: dict[str, Any] = {"name": "t", "tenant": tenant, "scopes": (Scope.READ, Scope.SUBMIT), "random": os.urandom}
    _, key = await hand.db.write(lambda tx: credentials.create(tx, **asked))
    return {"Authorization": f"Bearer {key}"}


async def test_what_was_deleted_is_gone(hand):
    made = (await hand.house.submit("a fox"))["id"]
    await hand.house.api.post(f"/api/generations/{made}/cancel")
    assert (await explained(hand, made))["state"] == "cancelled"
    await hand.house.api.delete(f"/api/generations/{made}")
    assert (await hand.house.api.get(f"/api/generations/{made}/explain")).status_code == 410
