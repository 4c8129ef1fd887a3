"""Webhook deliveries: found, looked into, and sent once more as a delivery of their own."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import httpx
import pytest

from pipeline import credentials
from pipeline.credentials import Scope
from tests.house import House, eventually, open_house
from tests.pipeline.api.settings import SETTINGS

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
        assert shown["attemptCount"] == 1


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
