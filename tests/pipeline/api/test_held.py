"""Held generations: explained in words, and decided by a person, whatever runs at the same time."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from pipeline import credentials, ledger
from pipeline.credentials import Scope
from pipeline.db import Row
from pipeline.lifecycle import Advance, Complete, DeadLetter, Failed, Fault, Hold, Snooze, Step
from pipeline.turn import Report
from providers.base import Operation
from tests.house import House as Whole
from tests.pipeline.api.settings import SETTINGS
from tests.pipeline.engines import Place
from tests.pipeline.provider_script import NOT_FOUND, RUNNING, Hand, by_hand, say

pytestmark = pytest.mark.anyio

SECRETS = {name: SETTINGS[name] for name in ("secret_key", "webhook_secret")}
TIMES = {"submit_timeout": 5, "generation_timeout": 60, "lease": 10}
WANTED = {"webhook_events": "generation.held,generation.failed,generation.cancelled,generation.completed"}
House = Callable[..., AbstractAsyncContextManager[Hand]]


@pytest.fixture
def house(tmp_path, place: Place) -> House:
    settings = SECRETS | TIMES | {"mock_recovery": "none", "on_unknown_submit": "hold", "database_url": place.url}
    return lambda **more: by_hand(tmp_path, **settings | more)


@pytest.fixture
async def hand(house: House) -> AsyncIterator[Hand]:
    async with house() as found:
        yield found


async def parked(hand: Hand) -> str:
    """A generation that waits for a person."""
    generation_id = await hand.held(intended_at=-3600.0)
    assert isinstance(await hand.take(Step.RESOLVE), Hold)
    assert (await job(hand))["step"] == "held"
    return generation_id


async def job(hand: Hand) -> Row:
    row = await hand.db.read(lambda tx: tx.one("SELECT * FROM job WHERE kind = 'generation' ORDER BY id DESC LIMIT 1"))
    assert row is not None
    return row


async def listed(hand: Hand, **query: Any) -> list[dict[str, Any]]:
    answer = await hand.house.api.get("/api/held", params=query)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


async def say_so(hand: Hand, generation_id: str, said: str, operation: str | None = None) -> tuple[int, dict[str, Any]]:
    body = {"as": said} | ({} if operation is None else {"operation": operation})
    answer = await hand.house.api.post(f"/api/generations/{generation_id}/resolve", json=body)
    return answer.status_code, answer.json()


async def refused(hand: Hand, generation_id: str, said: str, operation: str | None = None) -> tuple[int, str]:
    status, body = await say_so(hand, generation_id, said, operation)
    return status, body["code"]


async def terminal(hand: Hand, generation_id: str) -> list[str]:
    sql = "SELECT type FROM webhook_event WHERE generation_id = :id AND terminal = 1"
    return [row["type"] for row in await hand.db.read(lambda tx: tx.all(sql, {"id": generation_id}))]


async def outcomes(hand: Hand) -> list[tuple[str, str]]:
    rows = await hand.db.read(lambda tx: tx.all("SELECT * FROM submission ORDER BY id"))
    return [(row["outcome"], row["billed"]) for row in rows]


async def decided(hand: Hand, generation_id: str) -> dict[str, Any]:
    """What the timeline says of the decision."""
    body = (await hand.house.api.get(f"/api/generations/{generation_id}/events")).json()
    (found,) = [line["detail"] for line in body["data"] if line["event"] == "submit.decided"]
    return dict(found)


# --- the list --------------------------------------------------------------------------------------------------------


async def test_what_waits_for_a_person_is_explained_without_its_token(hand: Hand) -> None:
    generation_id = await parked(hand)
    (entry,) = await listed(hand)
    submission = await hand.row("submission")
    assert (entry["id"], entry["provider"], entry["tenant"]) == (generation_id, "mock", "default")
    assert (entry["status"], entry["stage"], entry["waitsForPerson"]) == ("processing", "held", True)
    assert entry["atStakeMicros"] == submission["estimate_micros"] > 0
    assert "without a clear answer" in entry["happened"]
    assert "ooked into" in entry["tried"]
    assert "1 times" not in entry["tried"]
    assert entry["until"] is None
    assert "ON_UNKNOWN_SUBMIT" not in entry["then"]
    assert f"dailies resolve {generation_id} --as" in entry["whatToDo"]
    assert submission["token"] not in json.dumps(entry)


@pytest.mark.parametrize(
    ("recovery", "policy", "words"),
    [("key", "fail", "idempotency key"), ("lookup", "resubmit", "under our token"), ("callback", "hold", "callback")],
)
async def test_what_can_still_come_is_told_with_its_bound(house: House, recovery, policy, words) -> None:
    async with house(mock_recovery=recovery, on_unknown_submit=policy) as hand:
        await hand.held()
        (entry,) = await listed(hand)
        assert words in entry["canStillCome"]
        assert entry["until"] is not None
        assert entry["until"] in entry["canStillCome"]
        assert f"ON_UNKNOWN_SUBMIT={policy}" in entry["then"]
        assert not entry["waitsForPerson"]


async def test_a_call_that_nobody_saw_end_may_still_be_answered(hand: Hand) -> None:
    await hand.held(answered_at=None)
    (entry,) = await listed(hand)
    assert "nobody saw end" in entry["canStillCome"]
    assert await refused(hand, entry["id"], "not_taken") == (409, "still_under_way")
    assert await refused(hand, entry["id"], "abandon") == (409, "still_under_way")


async def test_a_candidate_is_shown_and_what_is_settled_is_not(hand: Hand) -> None:
    generation_id = await parked(hand)
    token = (await hand.row("submission"))["token"]
    await hand.db.write(lambda tx: ledger.add_candidate(tx, token, "vid_7"))
    (entry,) = await listed(hand)
    assert entry["candidateOperation"] == "vid_7"
    assert (await say_so(hand, generation_id, "abandon"))[0] == 200
    assert await listed(hand) == []


async def test_pages_begin_with_the_oldest(hand: Hand) -> None:
    ids = [await hand.held() for _ in range(3)]
    first = (await hand.house.api.get("/api/held", params={"limit": 2})).json()
    assert ([entry["id"] for entry in first["data"]], first["hasMore"]) == (ids[:2], True)
    assert [entry["id"] for entry in await listed(hand, after=first["nextCursor"])] == ids[2:]


@pytest.mark.parametrize("query", [{"after": "x"}, {"limit": 0}, {"tenant": "a"}])
async def test_bad_parameters_are_refused(house_on_each_engine: Whole, query) -> None:
    answer = await house_on_each_engine.api.get("/api/held", params=query)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_parameter")


# --- accepted --------------------------------------------------------------------------------------------------------


async def test_what_a_person_found_is_confirmed_and_polled(hand: Hand) -> None:
    generation_id = await parked(hand)
    hand.script.poll = [RUNNING]
    status, body = await say_so(hand, generation_id, "accepted", "vid_7")
    assert (status, body["status"], body["stage"], body["held"]) == (200, "processing", "generating", None)
    assert hand.script.calls["poll"] == 1, "our own key has seen it"
    assert await decided(hand, generation_id) == {"decision": "accepted", "by": "the operator", "operation": "vid_7"}
    hand.script.poll = []
    await hand.take(Step.POLL)
    assert await hand.take(Step.STORE) == Complete()
    ended = await hand.house.get(generation_id)
    assert (ended["status"], ended["billed"], hand.script.calls["submit"]) == ("completed", "yes", 1)
    assert await terminal(hand, generation_id) == ["generation.completed"]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (NOT_FOUND, (422, "operation_unknown")),
        (say(503), (503, "provider_unreachable")),
        (say(401), (503, "provider_unreachable")),
        (say(200, ["what"]), (503, "provider_unreachable")),
    ],
)
async def test_what_the_provider_does_not_show_is_refused(hand: Hand, answer, expected) -> None:
    generation_id = await parked(hand)
    hand.script.poll = [answer]
    assert await refused(hand, generation_id, "accepted", "vid_7") == expected
    assert await outcomes(hand) == [("unknown", "unknown")]


async def test_an_operation_belongs_to_one_call(hand: Hand) -> None:
    await hand.house.submit("another fox")
    await hand.take(Step.SUBMIT)
    other = (await hand.row("submission"))["generation_id"]
    generation_id = await hand.held(answered_at=0)
    hand.script.poll = [RUNNING]
    status, body = await say_so(hand, generation_id, "accepted", "vid_1")
    assert (status, body["code"], body["existingId"]) == (409, "operation_taken", other)


@pytest.mark.parametrize(
    "body",
    [
        {"as": "accepted"},
        {"as": "abandon", "operation": "vid_1"},
        {"as": "accepted", "operation": "a b"},
        {"as": "accepted", "operation": ""},
        {"as": "maybe"},
        {},
        {"as": "abandon", "more": 1},
    ],
)
async def test_bodies_that_make_no_sense_are_refused(house_on_each_engine: Whole, body) -> None:
    answer = await house_on_each_engine.api.post("/api/generations/gen_0/resolve", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


# --- not taken -------------------------------------------------------------------------------------------------------


async def test_what_was_not_taken_is_submitted_anew_through_admission(hand: Hand) -> None:
    generation_id = await parked(hand)
    place = (await job(hand))["sort_at"]
    status, body = await say_so(hand, generation_id, "not_taken")
    assert (status, body["status"], body["stage"]) == (200, "processing", "waiting")
    waiting = await job(hand)
    assert (waiting["status"], waiting["step"], waiting["sort_at"]) == ("waiting", "submit", place)
    assert await outcomes(hand) == [("rejected", "no")]
    assert isinstance(await hand.take(Step.SUBMIT), Advance)
    assert await outcomes(hand) == [("rejected", "no"), ("accepted", "unknown")]
    await hand.take(Step.POLL)
    assert await hand.take(Step.STORE) == Complete()
    assert (await hand.house.get(generation_id))["status"] == "completed"


async def test_a_person_may_say_so_as_often_as_it_is_needed(house: House) -> None:
    async with house(max_submissions=1) as hand:
        generation_id = await parked(hand)
        await say_so(hand, generation_id, "not_taken")
        assert isinstance(await hand.take(Step.SUBMIT), Advance), "what was not taken is no submission of the run"


async def test_a_word_that_was_wrong_is_repaired_before_the_next_call(hand: Hand) -> None:
    """The answer to the old call comes by a process that was frozen."""
    generation_id = await parked(hand)
    token = (await hand.row("submission"))["token"]
    await say_so(hand, generation_id, "not_taken")
    await hand.db.write(lambda tx: ledger.accept(tx, token, Operation("vid_1")))
    assert isinstance(await hand.take(Step.SUBMIT), Advance)
    assert (await outcomes(hand), hand.script.calls["submit"]) == ([("accepted", "unknown")], 1)


# --- abandon ---------------------------------------------------------------------------------------------------------


async def test_what_nobody_will_know_fails_with_its_one_event(hand: Hand) -> None:
    generation_id = await parked(hand)
    status, body = await say_so(hand, generation_id, "abandon")
    assert (status, body["status"], body["billed"]) == (200, "failed", "unknown")
    assert (body["error"]["code"], body["error"]["retryable"]) == ("submit_unknown", False)
    assert "the operator" in body["error"]["message"]
    assert await terminal(hand, generation_id) == ["generation.failed"]
    assert (await job(hand))["status"] == "done", "a person has seen it: it is no dead letter"
    assert await outcomes(hand) == [("abandoned", "unknown")]
    assert hand.script.calls["submit"] == 1
    plan = (await hand.house.api.post(f"/api/generations/{generation_id}/redrive", json={"dryRun": True})).json()
    assert (plan["redrive"]["from"], plan["redrive"]["needsAllowRepay"]) == ("submit", True)


async def test_what_was_given_up_and_then_rings_is_repaired(hand: Hand) -> None:
    generation_id = await parked(hand)
    token = (await hand.row("submission"))["token"]
    await say_so(hand, generation_id, "abandon")
    path = f"/callbacks/mock/{hand.house.plant.callbacks.seal(token)}"
    ring = {"event_id": "evt_1", "id": "vid_7", "status": "succeeded"}
    assert (await hand.house.api.post(path, json=ring)).status_code == 200
    hand.script.poll = [RUNNING]
    assert isinstance(await hand.take(Step.LATE), Snooze)
    assert await outcomes(hand) == [("accepted", "unknown")]
    plan = (await hand.house.api.post(f"/api/generations/{generation_id}/redrive", json={"dryRun": True})).json()
    assert plan["redrive"]["from"] == "poll"


async def test_what_was_being_cancelled_ends_cancelled(hand: Hand) -> None:
    generation_id = await parked(hand)
    await hand.house.api.post(f"/api/generations/{generation_id}/cancel")
    status, body = await say_so(hand, generation_id, "abandon")
    assert (status, body["status"], body["billed"]) == (200, "cancelled", "unknown")
    assert await terminal(hand, generation_id) == ["generation.cancelled"]


# --- races -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", ["not_taken", "abandon"])
async def test_while_a_turn_looks_nobody_can_say_that_it_was_not_taken(hand: Hand, said: str) -> None:
    generation_id = await hand.held(intended_at=-3600.0)
    await hand.begin(Step.RESOLVE)
    answer = await hand.house.api.post(f"/api/generations/{generation_id}/resolve", json={"as": said})
    assert (answer.status_code, answer.json()["retryable"]) == (409, True)
    assert 1 <= int(answer.headers["retry-after"]) <= 61


async def test_a_turn_that_is_overtaken_by_accepted_keeps_nothing(hand: Hand) -> None:
    generation_id = await hand.held(intended_at=-3600.0)
    turn = await hand.begin(Step.RESOLVE)
    report = await hand.run(turn)
    hand.script.poll = [RUNNING]
    assert (await say_so(hand, generation_id, "accepted", "vid_7"))[0] == 200
    assert await hand.record(turn, report) is None
    assert isinstance(await hand.take(Step.POLL), Snooze)
    assert await outcomes(hand) == [("accepted", "unknown")]


async def test_what_the_policy_decided_first_stays(house: House) -> None:
    async with house(on_unknown_submit="fail") as hand:
        generation_id = await hand.held(intended_at=-3600.0)
        assert isinstance(await hand.take(Step.RESOLVE), DeadLetter)
        status, body = await say_so(hand, generation_id, "abandon")
        assert (status, body["code"]) == (409, "not_held")
        assert "it is failed; its last call is abandoned" in body["detail"]
        assert await terminal(hand, generation_id) == ["generation.failed"]


async def test_a_repeat_says_what_it_is_now(hand: Hand) -> None:
    generation_id = await parked(hand)
    hand.script.poll = [RUNNING]
    await say_so(hand, generation_id, "accepted", "vid_7")
    status, body = await say_so(hand, generation_id, "accepted", "vid_7")
    assert (status, body["code"]) == (409, "not_held")
    assert body["detail"] == "it is processing, generating; its last call is accepted (operation vid_7)"


async def test_two_people_at_once_are_one_decision(hand: Hand) -> None:
    generation_id = await parked(hand)
    hand.script.poll = [RUNNING]
    answers = [await say_so(hand, generation_id, "abandon"), await say_so(hand, generation_id, "accepted", "vid_7")]
    assert sorted(status for status, _ in answers) == [200, 409]
    assert await terminal(hand, generation_id) == ["generation.failed"]


# --- of generations that have ended ----------------------------------------------------------------------------------


async def cancelled_and_unclear(hand: Hand) -> str:
    generation_id = await parked(hand)
    await hand.house.api.post(f"/api/generations/{generation_id}/cancel")
    await hand.take(Step.RESOLVE)
    (entry,) = await listed(hand)
    assert (entry["status"], entry["waitsForPerson"]) == ("cancelled", True)
    return generation_id


async def test_the_open_call_of_a_cancelled_generation_can_be_closed(hand: Hand) -> None:
    generation_id = await cancelled_and_unclear(hand)
    status, body = await say_so(hand, generation_id, "not_taken")
    assert (status, body["status"], body["billed"]) == (200, "cancelled", "no")
    assert await listed(hand) == []
    assert (await job(hand))["status"] == "cancelled", "and nothing is submitted"


async def test_the_open_call_of_a_cancelled_generation_is_stopped_once_it_is_found(hand: Hand) -> None:
    generation_id = await cancelled_and_unclear(hand)
    hand.script.poll = [RUNNING]
    assert (await say_so(hand, generation_id, "accepted", "vid_7"))[0] == 200
    await hand.take(Step.LATE)
    assert (hand.script.calls["cancel"], (await outcomes(hand))[0][0]) == (1, "failed")
    assert await terminal(hand, generation_id) == ["generation.cancelled"]


# --- what is forgotten -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "outcome"), [("not_taken", ("rejected", "no")), ("abandon", ("abandoned", "unknown"))]
)
@pytest.mark.parametrize("pruned", [False, True], ids=["deleted", "pruned"])
async def test_the_open_call_of_what_is_gone_can_be_closed(hand: Hand, said: str, outcome, pruned: bool) -> None:
    generation_id = await cancelled_and_unclear(hand)
    assert (await hand.house.api.delete(f"/api/generations/{generation_id}")).status_code == 204
    if pruned:
        await hand.db.write(lambda tx: tx.run("DELETE FROM generation"))
    (entry,) = await listed(hand)
    assert (entry["status"], entry["waitsForPerson"]) == ("gone" if pruned else "cancelled", True)
    assert "our process ended" not in entry["happened"]
    assert "a new call follows" not in entry["whatToDo"]
    assert entry["canStillCome"] == "Nothing by itself any more."
    body = {"as": said}
    answer = await hand.house.api.post(f"/api/generations/{generation_id}/resolve", json=body)
    assert answer.status_code == (204 if pruned else 200)
    assert await outcomes(hand) == [outcome]
    assert await listed(hand) == []
    answer = await hand.house.api.post(f"/api/generations/{generation_id}/resolve", json=body)
    assert answer.status_code == (404 if pruned else 409)


@pytest.mark.parametrize("pruned", [False, True], ids=["deleted", "pruned"])
async def test_what_the_provider_has_of_what_is_gone_is_closed_with_its_operation(hand: Hand, pruned: bool) -> None:
    generation_id = await cancelled_and_unclear(hand)
    await hand.house.api.delete(f"/api/generations/{generation_id}")
    if pruned:
        await hand.db.write(lambda tx: tx.run("DELETE FROM generation"))
    body = {"as": "accepted", "operation": "vid_7"}
    answer = await hand.house.api.post(f"/api/generations/{generation_id}/resolve", json=body)
    assert answer.status_code == (204 if pruned else 200)
    submission = await hand.row("submission")
    assert (submission["outcome"], submission["billed"]) == ("failed", "unknown")
    assert submission["operation_id"] == "vid_7"


async def test_usage_calls_it_not_taken_and_no_failure(hand: Hand) -> None:
    generation_id = await parked(hand)
    assert (await say_so(hand, generation_id, "not_taken"))[0] == 200
    total = (await hand.house.api.get("/api/usage")).json()["total"]
    assert (total["submissions"], total["failed"], total["notTaken"], total["unclear"]) == (1, 0, 1, 0)


async def test_another_tenant_decides_nothing_of_what_is_gone(hand: Hand) -> None:
    generation_id = await cancelled_and_unclear(hand)
    await hand.db.write(lambda tx: tx.run("DELETE FROM generation"))
    await hand.change("submission", tenant_id="acme")
    assert await refused(hand, generation_id, "abandon") == (404, "not_found")


async def test_a_poisoned_job_that_may_have_paid_is_listed_and_can_be_closed(hand: Hand) -> None:
    generation_id = (await hand.house.submit("a fox"))["id"]
    await hand.run(await hand.begin(Step.SUBMIT))  # the call is made, and nothing is recorded
    await hand.change("job", locked_until=-1.0)
    turn = await hand.begin(Step.SUBMIT)
    poisoned = Report(Failed(Fault("poison", "eight claims without a record"), exhausted=True))
    assert isinstance(await hand.record(turn, poisoned), DeadLetter)
    assert await outcomes(hand) == [("unknown", "unknown")]
    await hand.change("submission", intended_at=-3600.0)
    (entry,) = await listed(hand)
    assert entry["waitsForPerson"]
    assert (await say_so(hand, generation_id, "abandon"))[0] == 200
    assert await listed(hand) == []


async def test_an_intent_that_outlived_its_process_is_listed_and_can_be_closed(hand: Hand) -> None:
    generation_id = (await hand.house.submit("a fox"))["id"]
    await hand.run(await hand.begin(Step.SUBMIT))
    assert await listed(hand) == []
    assert await refused(hand, generation_id, "abandon") == (409, "still_under_way")
    await hand.change("submission", intended_at=-3600.0)
    await hand.change("job", locked_until=None, locked_by=None, status="pending")
    (entry,) = await listed(hand)
    assert "our process ended" in entry["happened"]
    assert (await say_so(hand, generation_id, "abandon"))[0] == 200
    assert (await outcomes(hand), await listed(hand)) == ([("abandoned", "unknown")], [])


async def test_the_prompt_is_named_and_where_the_token_stands_to_the_operator_alone(hand: Hand) -> None:
    generation_id = await parked(hand)
    (entry,) = await listed(hand)
    assert (entry["promptBegins"], "a fox" in entry["whatToDo"]) == ("a fox", True)
    assert "submission" in entry["whereTokenIs"]
    assert not (await hand.house.get(generation_id))["held"]["whatToDo"].startswith("Nothing")


# --- who may ---------------------------------------------------------------------------------------------------------


async def test_a_tenant_sees_and_decides_its_own_and_is_named(hand: Hand) -> None:
    generation_id = await parked(hand)
    _, key = await hand.db.write(
        lambda tx: credentials.create(tx, name="ops", tenant="acme", scopes=(Scope.ADMIN,), random=os.urandom)
    )
    headers = {"Authorization": f"Bearer {key}"}
    mine = await hand.house.api.get("/api/held", headers=headers)
    assert mine.json()["data"] == []
    path = f"/api/generations/{generation_id}/resolve"
    answer = await hand.house.api.post(path, json={"as": "abandon"}, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    for table in ("generation", "submission", "job"):
        await hand.change(table, tenant_id="acme")
    (entry,) = (await hand.house.api.get("/api/held", headers=headers)).json()["data"]
    assert entry["whereTokenIs"] is None
    answer = await hand.house.api.post(path, json={"as": "abandon"}, headers=headers)
    assert answer.status_code == 200
    assert "'ops'" in answer.json()["error"]["message"]


async def test_the_event_names_what_is_at_stake_and_what_to_do(house: House) -> None:
    async with house(**WANTED) as hand:
        await hand.held()
        sql = "SELECT body FROM webhook_event WHERE type = 'generation.held'"
        (row,) = await hand.db.read(lambda tx: tx.all(sql))
        told = json.loads(row["body"])["data"]["held"]
        assert told["atStakeMicros"] == (await hand.row("submission"))["estimate_micros"]
        assert "/api/generations/{id}/resolve" in told["whatToDo"]
        assert told["reason"]
