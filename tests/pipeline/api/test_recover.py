"""Recoveries over the API: asked for, carried out by a worker, and how far they are."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest

from pipeline import credentials
from pipeline.app import make_worker
from pipeline.credentials import Scope
from pipeline.worker import run_until
from tests.house import House, eventually

pytestmark = pytest.mark.anyio

PATH = "/api/webhooks/recover"
LONG_AGO = "2020-01-01T00:00:00Z"


@pytest.fixture(scope="module")
def house(house_on_each_engine):
    return house_on_each_engine


async def dead(house: House, count: int) -> list[str]:
    """Deliveries that were given up."""
    made = []
    for _ in range(count):
        generation = await house.submit("x")
        await house.api.post(f"/api/generations/{generation['id']}/cancel")
        made.append(generation["id"])

    def unit(tx):
        rows = tx.all(
            "SELECT d.id FROM webhook_delivery d JOIN webhook_event e ON e.id = d.event_id"
            f" WHERE e.generation_id {tx.among}",
            {"ids": tx.of(made)},
        )
        ids = [row["id"] for row in rows]
        values = {"ids": tx.of(ids), "now": tx.now}
        tx.run(
            "UPDATE webhook_delivery SET state = 'dead', error_code = 'webhook_reset', finished_at = :now"
            f" WHERE id {tx.among}",
            values,
        )
        tx.run(f"UPDATE job SET status = 'dead', finished_at = :now WHERE subject_id {tx.among}", values)
        return ids

    return await house.plant.db.write(unit)


async def key(house: House, tenant: str, *scopes: Scope) -> dict[str, str]:
    asked: Any = {"name": "k", "tenant": tenant, "scopes": scopes, "random": os.urandom}
    _, text = await house.plant.db.write(lambda tx: credentials.create(tx, **asked))
    return {"Authorization": f"Bearer {text}"}


async def test_it_is_taken_carried_out_and_told(house):
    ids = await dead(house, 3)
    answer = await house.api.post(PATH, json={"since": LONG_AGO, "types": ["generation.cancelled"]})
    assert answer.status_code == 202, answer.text
    taken = answer.json()
    assert (taken["object"], taken["state"], taken["total"], taken["sent"]) == ("recovery", "pending", 3, 0)
    assert taken["asked"]["since"] == "2020-01-01T00:00:00.000Z"
    assert answer.headers["location"] == f"/api/webhooks/recoveries/{taken['id']}"
    stop = asyncio.Event()
    worker = asyncio.create_task(run_until(make_worker(house.plant), stop))

    async def look() -> Any:
        return (await house.api.get(f"/api/webhooks/recoveries/{taken['id']}")).json()

    done = await eventually(look, lambda seen: seen["finishedAt"] is not None, 10)
    assert (done["state"], done["sent"], done["skipped"]) == ("done", 3, 0)

    async def states() -> set[str]:
        found = [(await house.api.get(f"/api/webhooks/deliveries/{each}")).json() for each in ids]
        return {each["state"] for each in found}

    await eventually(states, lambda seen: seen == {"delivered"}, 10)
    stop.set()
    await worker
    (listed, *_) = (await house.api.get("/api/webhooks/recoveries")).json()["data"]
    assert listed == done


async def test_a_page_goes_on_where_the_one_before_ended(house):
    made = [(await house.api.post(PATH, json={"since": LONG_AGO})).json()["id"] for _ in range(3)]
    first = (await house.api.get("/api/webhooks/recoveries", params={"limit": 2})).json()
    rest = (await house.api.get("/api/webhooks/recoveries", params={"after": first["nextCursor"]})).json()
    ids = [each["id"] for each in [*first["data"], *rest["data"]]]
    assert set(made) <= set(ids)
    assert ids == sorted(ids, reverse=True)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"since": "yesterday"},
        {"since": 5},
        {"since": "2026-01-01T00:00:00"},
        {"since": LONG_AGO, "until": LONG_AGO},
        {"since": LONG_AGO, "types": []},
        {"since": LONG_AGO, "types": ["generation.done"]},
        {"since": LONG_AGO, "endpoint": ""},
        {"since": LONG_AGO, "endpoint": "\u0000"},
        {"since": LONG_AGO, "all": True},
        {"since": "9999999-01-01T00:00:00Z"},
    ],
)
async def test_what_cannot_be_meant_is_refused(house, body):
    answer = await house.api.post(PATH, json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request"), answer.text


async def test_times_at_the_ends_of_the_calendar_are_taken(house):
    for since in ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"):
        assert (await house.api.post(PATH, json={"since": since})).status_code == 202


async def test_a_tenant_recovers_and_sees_its_own_alone(house):
    mine, others = await key(house, "mine", Scope.ADMIN), await key(house, "others", Scope.ADMIN)
    await dead(house, 1)
    taken = (await house.api.post(PATH, json={"since": LONG_AGO}, headers=mine)).json()
    assert taken["total"] == 0
    path = f"/api/webhooks/recoveries/{taken['id']}"
    assert (await house.api.get(path, headers=mine)).status_code == 200
    assert (await house.api.get(path, headers=others)).status_code == 404
    assert (await house.api.get("/api/webhooks/recoveries", headers=others)).json()["data"] == []
    reader = await key(house, "mine", Scope.READ)
    assert (await house.api.post(PATH, json={"since": LONG_AGO}, headers=reader)).status_code == 403
