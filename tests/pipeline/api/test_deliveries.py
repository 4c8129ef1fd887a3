"""Webhook deliveries: found, looked into, and sent once more as a delivery of their own."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

import httpx
import pytest

from pipeline import credentials
from pipeline.credentials import Scope
from pipeline.lifecycle import RetryPolicy
from pipeline.outbox.attempts import SHOWN, proxy_wait
from pipeline.outbox.waiting import waiting_for
from tests.house import House, eventually, open_house
from tests.pipeline.api.settings import SETTINGS
from tests.pipeline.connect_proxy import connect_proxy
from webhooks.sender import Reason, SendResult

pytestmark = pytest.mark.anyio

PATH = "/api/webhooks/deliveries"


@pytest.fixture(scope="module")
def house(house_on_each_engine):
    return house_on_each_engine


async def told(house: House, **members: Any) -> dict[str, Any]:
    """A cancelled generation, and so a delivery that waits."""
    made = await house.submit("x", **members)
    response = await house.api.post(f"/api/generations/{made['id']}/cancel")
    body: dict[str, Any] = response.json()
    return body


async def found(house: House, **params: str) -> list[dict[str, Any]]:
    response = await house.api.get(PATH, params=params)
    assert response.status_code == 200, response.text
    data: list[dict[str, Any]] = response.json()["data"]
    return data


async def test_a_delivery_says_what_goes_where(house):
    made = await told(house)
    (delivery,) = await found(house, generation=made["id"])
    assert (delivery["object"], delivery["type"], delivery["state"]) == ("delivery", "generation.cancelled", "pending")
    assert (delivery["endpoint"], delivery["url"]) == ("ep_default", house.plant.settings.webhook_url)
    assert (delivery["redelivery"], delivery["attemptCount"], delivery["lastError"]) == (0, 0, None)
    assert "attempts" not in delivery
    shown = (await house.api.get(f"{PATH}/{delivery['id']}")).json()
    body = json.loads(shown.pop("body"))
    assert (body["type"], body["generationId"]) == ("generation.cancelled", made["generationId"])
    assert shown.pop("waitingFor") in {"its turn", "the time of its next attempt"}
    assert shown == delivery | {"attempts": []}


async def test_the_url_of_a_request_is_shown(house):
    made = await told(house, webhook={"url": "https://hooks.example.com/x"})
    urls = {each["endpoint"]: each["url"] for each in await found(house, generation=made["id"])}
    assert urls["request"] == "https://hooks.example.com/x"


async def test_a_list_is_narrowed_and_paged(house):
    made = [await told(house) for _ in range(3)]
    middle = made[1]
    for params in (
        {"endpoint": "ep_default"},
        {"state": "pending"},
        {"type": "generation.cancelled"},
        {"since": middle["createdAt"]},
    ):
        assert await found(house, generation=middle["id"], **params) != [], params
    for params in (
        {"endpoint": "ep_other"},
        {"state": "dead"},
        {"type": "generation.completed"},
        {"since": "2999-01-01T00:00:00Z"},
    ):
        assert await found(house, generation=middle["id"], **params) == [], params
    page = (await house.api.get(PATH, params={"limit": "2"})).json()
    rest = (await house.api.get(PATH, params={"limit": "100", "after": page["nextCursor"]})).json()
    ids = [each["id"] for each in page["data"] + rest["data"]]
    assert page["hasMore"]
    assert len(page["data"]) == 2
    assert ids == sorted(set(ids), reverse=True)


@pytest.mark.parametrize("query", ["state=gone", "type=x", "since=now", "limit=101", "after=Z2VuXzE", "url=x"])
async def test_a_bad_parameter_is_named(house, query):
    response = await house.api.get(f"{PATH}?{query}")
    assert (response.status_code, response.json()["code"]) == (400, "invalid_parameter")


async def test_once_more_is_a_delivery_of_its_own(house):
    made = await told(house)
    (first,) = await found(house, generation=made["id"])
    response = await house.api.post(f"{PATH}/{first['id']}/redeliver")
    again = response.json()
    assert (response.status_code, response.headers["location"]) == (202, f"{PATH}/{again['id']}")
    assert (again["eventId"], again["redelivery"], again["state"]) == (first["eventId"], 1, "pending")
    third = (await house.api.post(f"{PATH}/{again['id']}/redeliver")).json()
    assert third["redelivery"] == 2
    sql = "SELECT count(*) FROM job WHERE kind = 'delivery' AND status = 'pending' AND subject_id = :id"
    assert await house.plant.db.read(lambda tx: tx.value(sql, {"id": third["id"]})) == 1


async def test_many_at_once_are_as_many_deliveries(house):
    made = await told(house)
    (first,) = await found(house, generation=made["id"])
    answers = await asyncio.gather(*(house.api.post(f"{PATH}/{first['id']}/redeliver") for _ in range(10)))
    assert {answer.status_code for answer in answers} == {202}
    assert sorted(answer.json()["redelivery"] for answer in answers) == list(range(1, 11))


async def test_what_is_not_there(house):
    for method, path in (("GET", f"{PATH}/dlv_1"), ("POST", f"{PATH}/dlv_1/redeliver")):
        response = await house.api.request(method, path)
        assert (response.status_code, response.json()["code"]) == (404, "not_found")


async def test_what_was_deleted_cannot_be_told_again(house):
    made = await told(house)
    (first,) = await found(house, generation=made["id"])
    ended = {"state": "delivered", "finished_at": 1}
    await house.plant.db.write(lambda tx: tx.update("webhook_delivery", ended, "id = :id", {"id": first["id"]}))
    await house.api.delete(f"/api/generations/{made['id']}")
    response = await house.api.post(f"{PATH}/{first['id']}/redeliver")
    assert (response.status_code, response.json()["code"]) == (410, "gone")


async def test_it_arrives_with_the_same_id_and_bytes(tmp_path, place):
    async with open_house(tmp_path, **SETTINGS | {"database_url": place.url}) as house:
        made = await house.submit("x")
        await house.ended(made["id"])
        await house.webhooks(1)
        (first,) = await found(house)
        response = await house.api.post(f"{PATH}/{first['id']}/redeliver")
        one, two = await house.webhooks(2)
        assert one.body == two.body
        assert one.headers["webhook-id"] == two.headers["webhook-id"]
        path = f"{PATH}/{response.json()['id']}"

        async def look() -> dict[str, Any]:
            shown: dict[str, Any] = (await house.api.get(path)).json()
            return shown

        shown = await eventually(look, lambda each: each["state"] == "delivered", 10)
        (attempt,) = shown["attempts"]
        assert (attempt["attempt"], attempt["status"]) == (1, 204)
        assert (shown["attemptCount"], shown["waitingFor"]) == (1, None)
        assert shown["body"].encode() == two.body
        assert attempt["requestBytes"] == len(two.body)
        assert (attempt["address"], attempt["connection"] in {"new", "reused"}) == ("127.0.0.1", True)
        sent = {each["name"]: each["value"] for each in attempt["requestHeaders"]}
        assert sent["webhook-signature"] == two.headers["webhook-signature"]
        assert {each["name"] for each in attempt["responseHeaders"]} >= {"date"}
        assert attempt["firstByteMilliseconds"] <= attempt["milliseconds"]


async def test_an_endpoint_that_said_410_is_opened_by_who_sends_again(tmp_path, place):
    async with open_house(tmp_path, **SETTINGS | {"database_url": place.url}) as house:
        house.answers[:] = [410]
        made = await house.submit("x")
        await house.ended(made["id"])

        async def dead() -> list[dict[str, Any]]:
            return await found(house, state="dead")

        (first,) = await eventually(dead, bool, 10)
        await house.api.post(f"{PATH}/{first['id']}/redeliver")

        async def delivered() -> list[dict[str, Any]]:
            return await found(house, state="delivered")

        (again,) = await eventually(delivered, bool, 10)
        assert again["redelivery"] == 1


async def test_a_broken_egress_proxy_costs_no_attempt_and_is_told(tmp_path, place):
    """It is tried again and again, but the receiver pays nothing for it."""
    async with connect_proxy(answer=b"HTTP/1.1 502 Bad Gateway\r\n\r\n") as proxy:
        away = {"webhook_url": "https://app.test/hook", "egress_proxy": f"http://bob:hunter2@127.0.0.1:{proxy.port}"}
        async with open_house(tmp_path, **SETTINGS | away | {"database_url": place.url}) as house:
            made = await house.submit("x")
            await house.ended(made["id"])

            async def told() -> list[dict[str, Any]]:
                return [each for each in await found(house) if each["lastError"]]

            (first,) = await eventually(told, bool, 10)
            assert (first["state"], first["attemptCount"], first["errorCode"]) == ("pending", 0, "webhook_proxy_failed")
            assert "the receiver has no part in it" in first["lastError"]
            assert first["nextAttemptAt"] > first["createdAt"]
            answer = await house.api.get(f"{PATH}/{first['id']}")
            assert (answer.json()["attempts"], answer.json()["waitingFor"]) == ([], "the time of its next attempt")
            assert "hunter2" not in answer.text
        assert proxy.targets[0] == "app.test:443"


@pytest.mark.parametrize(
    ("age", "expected"), [(0, 5.0), (30, 15.0), (10_000, 300.0), (86_400 + 60, 300.0), (86_400 + 61, None)]
)
def test_a_broken_proxy_is_waited_for_longer_each_time_and_not_for_ever(age, expected):
    policy = RetryPolicy(max_attempts=2, schedule=(0.0, 60.0))
    stopped = SendResult(status=None, reason=Reason.PROXY_FAILED, ms=1)
    assert proxy_wait(stopped, age=age, policy=policy) == expected
    assert proxy_wait(SendResult(status=None, reason=Reason.REFUSED, ms=1), age=age, policy=policy) is None


AROUND = {"now": 1_000_000, "disabled_at": None, "locked_until": None, "paused_until": None, "paused_reason": None}


@pytest.mark.parametrize(
    ("state", "next_at", "around", "words"),
    [
        ("dead", None, {}, None),
        ("delivered", None, {}, None),
        ("pending", 1_000_001, {}, "the time of its next attempt"),
        ("pending", 999_999, {}, "its turn"),
        ("pending", 900_000, {}, "a worker"),
        ("pending", 1, {"locked_until": 1_000_001}, "under way"),
        ("pending", 1, {"paused_until": 1_000_001, "paused_reason": "its receiver fails"}, "its receiver fails"),
        ("pending", 1, {"disabled_at": 5, "disabled_reason": "WEBHOOK_URL is not set"}, "WEBHOOK_URL"),
    ],
)
def test_what_a_delivery_waits_for_is_said(state, next_at, around, words):
    told = waiting_for({"state": state, "next_at": next_at}, AROUND | around)
    assert told == words if words is None else words in str(told)


def test_an_endpoints_own_headers_are_named_and_hidden():
    assert {"host", "webhook-signature", "content-length"} <= SHOWN
    assert not SHOWN & {"authorization", "x-api-key", "cookie"}


async def test_a_tenant_sees_and_sends_only_its_own(house):
    made = await told(house)
    (theirs,) = await found(house, generation=made["id"])
    scopes = [Scope.READ, Scope.SUBMIT]
    asked = {"name": "k", "tenant": "acme", "scopes": scopes, "random": os.urandom}
    _, key = await house.plant.db.write(lambda tx: credentials.create(tx, **asked))
    try:
        headers = {"Authorization": f"Bearer {key}"}
        async with httpx.AsyncClient(base_url=house.api.base_url, headers=headers) as acme:
            assert (await acme.get(PATH)).json()["data"] == []
            assert (await acme.get(f"{PATH}/{theirs['id']}")).status_code == 404
            assert (await acme.post(f"{PATH}/{theirs['id']}/redeliver")).status_code == 404
    finally:
        await house.plant.db.write(lambda tx: tx.run("DELETE FROM api_key"))
