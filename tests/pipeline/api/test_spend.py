"""Caps and usage as clients meet them: 402 with what is left, what waits and why, and what was paid."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Any

import pytest

from pipeline import credentials
from pipeline.credentials import Scope
from pipeline.lifecycle import Advance, Cancel, DeadLetter, Failed, Fault, Requeue, Step
from pipeline.models import DEFAULT_TENANT
from pipeline.spending import Money
from pipeline.spending.caps import DAY_MS, OWN_TENANT
from pipeline.turn import Report
from tests.pipeline.api.settings import SETTINGS
from tests.pipeline.engines import Place
from tests.pipeline.provider_script import Hand, by_hand, say

pytestmark = pytest.mark.anyio

SECRETS = {name: SETTINGS[name] for name in ("secret_key", "webhook_secret")}
OPERATOR = "the-operators-key-of-these-tests"
PRICE = 400_000
"""Micro-USD of what these tests ask for."""


@pytest.fixture
async def hand(tmp_path, place: Place) -> AsyncIterator[Hand]:
    """A day has room for two videos of a user."""
    values = {"spend_per_user_day": "1", "max_attempts": 2, "retry_base": 0}
    async with by_hand(tmp_path, **SECRETS, **values, database_url=place.url) as found:
        found.house.plant.db._ahead = place.time
        now = await found.now()
        place.time.passes((DAY_MS / 2 - now % DAY_MS) % DAY_MS / 1000)
        yield found


async def ask(hand: Hand, **members: Any) -> Any:
    return await hand.house.api.post("/api/generations", json={"prompt": "a fox", **members})


async def reserved(hand: Hand) -> int:
    return int(await hand.db.read(lambda tx: tx.value("SELECT sum(reserved_micros) FROM generation")) or 0)


async def user_spent(hand: Hand, user: str | None = None) -> int:
    return await hand.db.read(lambda tx: Money(tx, hand.house.plant.purse).of_user("default", user))


async def status(hand: Hand) -> dict[str, Any]:
    body: dict[str, Any] = (await hand.house.api.get("/api/queue/status")).json()
    return body


async def generated(hand: Hand) -> None:
    """The next one is submitted and made."""
    assert isinstance(await hand.take(Step.SUBMIT), Advance)
    assert isinstance(await hand.take(Step.POLL), Advance)


# --- several at once, tenants, and what fits in no day ----------------------------------------------------------------


async def test_items_of_one_array_count_each_other_and_the_day_is_added_up_once(hand, monkeypatch):
    asked = []
    real = Money._sum
    monkeypatch.setattr(Money, "_sum", lambda *given: asked.append(given[-1]) or real(*given))
    answer = await hand.house.api.post("/api/generations", json=[{"prompt": "a fox"}] * 20)
    assert [each["status"] for each in answer.json()["data"]] == [202, 202] + [402] * 18
    assert len(asked) == len(set(asked)) <= 2
    assert (await ask(hand)).status_code == 202  # what only waits is set aside at admission


async def test_a_price_above_a_whole_days_cap_is_told_as_such(tmp_path, place):
    async with by_hand(tmp_path, **SECRETS, spend_per_user_day="0.30", database_url=place.url) as hand:
        answer = await ask(hand, userId="ann")
        problem = answer.json()
        assert (answer.status_code, problem["code"], problem["limitMicros"]) == (402, "spend_cap", 300_000)
        assert "more than a whole day's cap" in problem["detail"]
        assert "SPEND_PER_USER_DAY" in problem["detail"]
        assert "Retry-After" not in answer.headers
        assert problem.get("resetsAt") is None
        found = await hand.house.api.post("/api/generations/estimate", json={"prompt": "a fox", "userId": "ann"})
        assert found.json()["spendCap"].get("resetsAt") is None


async def keyed(hand: Hand, tenant: str) -> dict[str, str]:
    scopes = (Scope.SUBMIT, Scope.READ)
    _, key = await hand.db.write(
        lambda tx: credentials.create(tx, name=tenant, tenant=tenant, scopes=scopes, random=os.urandom)
    )
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture
async def shared(tmp_path, place: Place) -> AsyncIterator[Hand]:
    """A day has room for two videos of a tenant, and for three of all."""
    caps = {"spend_per_user_day": "none", "spend_per_tenant_day": "1", "spend_per_day": "1.30"}
    async with by_hand(tmp_path, **SETTINGS, **caps, api_key=OPERATOR, database_url=place.url) as found:
        yield found


async def test_a_tenant_uses_up_its_own_day_whatever_users_it_makes_up(shared):
    hand = shared
    evil, good = await keyed(hand, "evil"), await keyed(hand, "good")

    async def answer(headers: dict[str, str], user: str) -> Any:
        made = await hand.house.api.post("/api/generations", json={"prompt": "x", "userId": user}, headers=headers)
        if made.status_code == 202:
            await hand.take(Step.SUBMIT)
        return made

    assert [(await answer(evil, f"u{number}")).status_code for number in range(3)] == [202, 202, 402]
    problem = (await answer(evil, "u9")).json()
    assert (problem["scope"], problem["limitMicros"], problem["leftMicros"]) == ("tenant", 1_000_000, 200_000)
    assert "SPEND_PER_TENANT_DAY" in problem["detail"]
    assert (await answer(good, "ann")).status_code == 202


async def test_a_tenant_is_not_told_what_the_whole_service_has_left(shared):
    hand = shared
    for tenant in ("one", "two", "three"):
        headers = await keyed(hand, tenant)
        made = await hand.house.api.post("/api/generations", json={"prompt": "x"}, headers=headers)
        assert made.status_code == 202
        await hand.take(Step.SUBMIT)
    refused = await hand.house.api.post("/api/generations", json={"prompt": "x"}, headers=headers)
    problem = refused.json()
    assert (refused.status_code, problem["scope"]) == (402, "service")
    assert "the service's money for today is used up" in problem["detail"]
    assert not {"limitMicros", "leftMicros"} & set(problem)
    assert "USD" not in problem["detail"]
    operator = {"Authorization": f"Bearer {OPERATOR}"}
    own = await hand.house.api.post("/api/generations", json={"prompt": "x"}, headers=operator)
    assert (own.status_code, own.json()["leftMicros"]) == (402, 100_000)


async def test_tenants_are_bound_at_admission_too(shared):
    hand = shared
    headers = await keyed(hand, "evil")
    for number in range(4):
        body = {"prompt": "x", "userId": f"u{number}"}
        assert (await hand.house.api.post("/api/generations", json=body, headers=headers)).status_code == 202
    await generated(hand)
    rows = await hand.db.read(lambda tx: tx.all("SELECT status FROM job WHERE kind = 'generation' ORDER BY id"))
    assert [row["status"] for row in rows].count("waiting") == 2


def test_the_operators_own_tenant_is_the_one_without_a_key_of_its_own():
    assert OWN_TENANT == DEFAULT_TENANT


# --- refused at once -------------------------------------------------------------------------------------------------


async def test_beyond_the_cap_a_request_is_told_what_is_left_and_when_to_come_back(hand):
    for _ in range(2):
        assert (await ask(hand, userId="ann")).status_code == 202
        await generated(hand)
    answer = await ask(hand, userId="ann")
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["retryable"]) == (402, "spend_cap", False)
    assert (problem["scope"], problem["limitMicros"], problem["leftMicros"]) == ("user", 1_000_000, 200_000)
    assert problem["estimatedCostMicros"] == PRICE
    assert problem["resetsAt"].endswith("T00:00:00.000Z")
    assert 0 < int(answer.headers["Retry-After"]) <= 86_400
    assert "SPEND_PER_USER_DAY" in problem["detail"]
    assert (await ask(hand, userId="bob")).status_code == 202
    estimate = await hand.house.api.post("/api/generations/estimate", json={"prompt": "a fox", "userId": "ann"})
    assert (estimate.status_code, estimate.json()["spendCap"]["leftMicros"]) == (200, 200_000)


async def test_an_array_is_answered_item_by_item_and_a_repeat_is_no_new_request(hand):
    body = {"prompt": "a fox", "generationId": "one"}
    assert (await ask(hand, **body)).status_code == 202
    await generated(hand)
    await ask(hand)
    await generated(hand)
    items = [body, {"prompt": "another"}, {"prompt": "a third", "userId": "bob"}]
    answer = await hand.house.api.post("/api/generations", json=items)
    assert [item["status"] for item in answer.json()["data"]] == [200, 402, 202]
    assert answer.json()["data"][1]["problem"]["scope"] == "user"
    other = await ask(hand, prompt="not the fox", generationId="one")
    assert other.json()["code"] == "generation_id_conflict"


async def test_default_caps_do_not_count_play_money(tmp_path, place):
    async with by_hand(tmp_path, **SECRETS, database_url=place.url) as hand:
        for number in range(3):
            hand.script.submit = [say(202, {"id": f"vid_{number}"})]
            assert (await ask(hand, parameters={"duration": 60})).status_code == 202
            assert isinstance(await hand.take(Step.SUBMIT), Advance)
        assert await user_spent(hand) == 0
        assert (await hand.house.api.get("/api/usage")).json()["total"]["totalMicros"] == 9_000_000


async def test_a_redrive_that_pays_anew_asks_for_money_too(hand):
    hand.script.submit = [say(422)]
    made = (await ask(hand)).json()
    await hand.take(Step.SUBMIT)
    hand.script.submit = [say(202, {"id": "vid_1"}), say(202, {"id": "vid_2"})]
    for _ in range(2):
        await ask(hand)
        await generated(hand)
    path = f"/api/generations/{made['id']}/redrive"
    answer = await hand.house.api.post(path, json={})
    assert (answer.status_code, answer.json()["code"]) == (402, "spend_cap")
    assert (await hand.house.api.post(path, json={"dryRun": True})).status_code == 200


# --- set aside, and given back ---------------------------------------------------------------------------------------


async def test_what_waits_for_money_says_so_and_is_counted(hand):
    ids = [(await ask(hand)).json()["id"] for _ in range(3)]
    await generated(hand)
    await generated(hand)
    third = (await hand.house.api.get(f"/api/generations/{ids[2]}")).json()
    assert (third["status"], third["stage"]) == ("queued", "waiting")
    assert "waiting.spend" in await hand.house.timeline(ids[2])
    assert (await status(hand))["waitingForSpend"] == 1
    assert await reserved(hand) == 0


async def test_the_intent_takes_over_what_was_set_aside(hand):
    await ask(hand)
    turn = await hand.begin(Step.SUBMIT)
    assert (await reserved(hand), await user_spent(hand)) == (PRICE, PRICE)
    report = await hand.run(turn)
    assert (await reserved(hand), await user_spent(hand)) == (0, PRICE)
    await hand.record(turn, report)
    assert (await hand.row("submission"))["estimate_micros"] == PRICE


async def test_every_end_and_every_way_back_gives_up_what_was_set_aside(hand):
    hand.script.submit = [say(429)]
    await ask(hand)
    assert isinstance(await hand.take(Step.SUBMIT), Requeue)
    assert (await reserved(hand), await user_spent(hand)) == (0, 0)
    await hand.change("lane", paused_until=-1)
    hand.script.submit = [say(422)]
    await hand.take(Step.SUBMIT)
    assert (await reserved(hand), await user_spent(hand)) == (0, 0)


async def test_a_cancel_before_the_intent_gives_it_back(hand):
    first, second = [(await ask(hand)).json()["id"] for _ in range(2)]
    turn = await hand.begin(Step.SUBMIT)
    assert await reserved(hand) == 2 * PRICE
    for each in (first, second):
        await hand.house.api.post(f"/api/generations/{each}/cancel")
    assert isinstance(await hand.record(turn, await hand.run(turn)), Cancel) or await hand.row("job")
    assert (await reserved(hand), await user_spent(hand)) == (0, 0)


async def test_a_poisoned_job_gives_it_back(hand):
    made = (await ask(hand)).json()
    turn = await hand.begin(Step.SUBMIT)
    assert await reserved(hand) == PRICE
    poisoned = Report(Failed(Fault("poison", "eight claims without a record"), exhausted=True))
    assert isinstance(await hand.record(turn, poisoned), DeadLetter)
    assert await reserved(hand) == 0
    assert (await hand.house.get(made["id"]))["status"] == "failed"


async def test_a_price_that_rose_meanwhile_is_set_aside_anew(hand):
    await ask(hand)
    await hand.db.write(lambda tx: tx.run("UPDATE generation SET estimate_micros = 100"))
    other = (await ask(hand)).json()
    await hand.db.write(
        lambda tx: tx.run("UPDATE generation SET estimate_micros = 900000 WHERE id = :id", {"id": other["id"]})
    )
    turns = [await hand.begin(Step.SUBMIT) for _ in range(2)]
    decisions = [await hand.record(turn, await hand.run(turn)) for turn in turns]
    assert await user_spent(hand) <= 1_000_000
    assert sorted(type(decision).__name__ for decision in decisions) == ["Advance", "Requeue"]
    row = await hand.db.read(lambda tx: tx.one("SELECT * FROM generation WHERE stage = 'waiting'"))
    assert row is not None
    assert (row["estimate_micros"], row["reserved_micros"]) == (PRICE, 0)


async def test_prometheus_sees_the_day_against_its_caps(hand):
    await ask(hand)
    await hand.take(Step.SUBMIT)
    text = (await hand.house.api.get("/metrics")).text
    assert 'dailies_spend_today_usd{scope="provider",name="mock"} 0.4' in text
    assert 'dailies_spend_cap_usd{scope="provider"' not in text, "the default cap does not count play money"
    assert "dailies_generations_waiting_for_spend 0" in text


# --- usage -----------------------------------------------------------------------------------------------------------


async def test_usage_tells_what_is_known_apart_from_what_is_not(hand):
    await ask(hand, userId="ann")
    await generated(hand)
    await ask(hand, userId="bob")
    await hand.take(Step.SUBMIT)
    hand.script.submit = [say(422)]
    await ask(hand, userId="cleo")
    await hand.take(Step.SUBMIT)
    hand.script.submit = [say(500)]
    await ask(hand)
    await hand.take(Step.SUBMIT)
    body = (await hand.house.api.get("/api/usage?groupBy=user")).json()
    rows = {row["group"]: row for row in body["data"]}
    assert {name: (row["succeeded"], row["failed"], row["open"], row["unclear"]) for name, row in rows.items()} == {
        "ann": (1, 0, 0, 0),
        "bob": (0, 0, 1, 0),
        "cleo": (0, 1, 0, 0),
        None: (0, 0, 0, 1),
    }
    assert (rows["ann"]["costMicros"], rows["ann"]["openMicros"]) == (PRICE, 0)
    assert (rows["bob"]["costMicros"], rows["bob"]["openMicros"], rows["cleo"]["totalMicros"]) == (0, PRICE, 0)
    assert (body["total"]["submissions"], body["total"]["totalMicros"]) == (4, 3 * PRICE)


async def test_usage_by_provider_model_and_day(hand):
    await ask(hand)
    await generated(hand)
    day = (await hand.row("submission"))["intended_at"] // DAY_MS
    for by, group, provider in (("provider", "mock", None), ("model", "mock-1", "mock"), ("day", None, None)):
        body = (await hand.house.api.get(f"/api/usage?groupBy={by}")).json()
        (row,) = body["data"]
        assert (row["group"] == group or by == "day", row["provider"]) == (True, provider)
        if by == "day":
            assert len(row["group"]) == 10
            assert row["group"] == body["data"][0]["group"] != str(day)
    empty = (await hand.house.api.get("/api/usage?until=2020-01-01T00:00:00Z&since=2019-12-01T00:00:00Z")).json()
    assert (empty["data"], empty["total"]["submissions"], empty["until"]) == ([], 0, "2020-01-01T00:00:00.000Z")


@pytest.mark.parametrize(
    "query", ["groupBy=colour", "limit=0", "limit=1001", "since=yesterday", "since=2001-01-01T00:00:00Z", "x=1"]
)
async def test_what_usage_cannot_answer_is_refused(hand, query):
    answer = await hand.house.api.get(f"/api/usage?{query}")
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_parameter")


async def test_more_groups_than_asked_for_are_told_and_the_total_has_them_all(hand):
    for user in ("ann", "bob"):
        await ask(hand, userId=user)
        await hand.take(Step.SUBMIT)
    body = (await hand.house.api.get("/api/usage?groupBy=user&limit=1&tenant=default")).json()
    assert (len(body["data"]), body["hasMore"], body["total"]["submissions"]) == (1, True, 2)
    assert (await hand.house.api.get("/api/usage?tenant=nobody")).json()["data"] == []


async def test_the_paid_calls_of_a_generation_are_listed_without_their_tokens(hand):
    hand.script.submit = [say(429), say(202, {"id": "vid_1"})]
    made = (await ask(hand)).json()
    await hand.take(Step.SUBMIT)
    await hand.change("lane", paused_until=-1)
    await generated(hand)
    answer = await hand.house.api.get(f"/api/generations/{made['id']}/submissions")
    refused, paid = answer.json()["data"]
    assert (refused["outcome"], refused["billed"], refused["costMicros"]) == ("rejected", "no", 0)
    assert refused["error"]["code"] == "provider_rate_limited"
    assert (paid["outcome"], paid["operation"], paid["costMicros"], paid["run"]) == ("succeeded", "vid_1", PRICE, 1)
    tokens = await hand.db.read(lambda tx: tx.all("SELECT token FROM submission"))
    assert all(row["token"] not in answer.text for row in tokens)
    missing = await hand.house.api.get("/api/generations/nothing/submissions")
    assert missing.status_code == 404
