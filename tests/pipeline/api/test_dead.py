"""Dead letters: listed, grouped by error, and set going again in bulk, without paying twice unasked."""

from __future__ import annotations

import os
from typing import Any

import httpx
import pytest

from pipeline import credentials, queue
from pipeline.api import dead
from pipeline.credentials import Scope
from pipeline.db import Row, Tx
from pipeline.lifecycle import JobKind, Step
from tests.house import House, eventually, open_house
from tests.pipeline.api.settings import SETTINGS

pytestmark = pytest.mark.anyio

PATH = "/api/queue/dead"


@pytest.fixture(scope="module")
def shared(house_on_each_engine):
    return house_on_each_engine


@pytest.fixture
async def house(shared: House) -> House:
    """Nothing is dead yet."""
    await shared.plant.db.write(lambda tx: tx.run("UPDATE job SET status = 'done' WHERE status = 'dead'"))
    return shared


async def dead_generation(house: House, code: str = "storage_failed", *, billed: str = "no", **values: Any) -> str:
    """A generation that has ended as a worker would have left it, `billed` being what is known of its submission."""
    made = await house.submit("x")

    def unit(tx: Tx) -> None:
        ended = {"status": "failed", "stage": None, "error_code": code, "error_message": f"{code} happened"}
        tx.update("generation", ended | {"finished_at": tx.now} | values, "id = :id", {"id": made["id"]})
        finished = {"status": "dead", "finished_at": tx.now, "attempts": 3}
        tx.update("job", finished, "subject_id = :id", {"id": made["id"]})
        paid = {
            "id": f"sub_{made['id']}",
            "generation_id": made["id"],
            "tenant_id": "default",
            "run": 1,
            "provider": "mock",
            "token": f"sub_{made['id']}",
            "outcome": "failed",
            "carries": "key",
            "billed": billed,
            "estimate_micros": 1000,
            "intended_at": tx.now,
            "closed_at": tx.now,
        }
        tx.insert("submission", paid)

    await house.plant.db.write(unit)
    return str(made["id"])


async def dead_delivery(house: House, code: str = "webhook_status") -> str:
    """A delivery that nobody took."""
    made = await house.submit("x")
    await house.api.post(f"/api/generations/{made['id']}/cancel")

    def unit(tx: Tx) -> str:
        sql = "SELECT d.id FROM webhook_delivery d JOIN webhook_event e ON e.id = d.event_id WHERE generation_id = :id"
        delivery_id = tx.value(sql, {"id": made["id"]})
        ended = {"state": "dead", "finished_at": tx.now, "last_error": "answered 500", "error_code": code}
        tx.update("webhook_delivery", ended | {"attempts": 6}, "id = :id", {"id": delivery_id})
        finished = {"status": "dead", "finished_at": tx.now, "attempts": 6}
        tx.update("job", finished, "subject_id = :id", {"id": delivery_id})
        return str(delivery_id)

    return await house.plant.db.write(unit)


async def listed(house: House, **params: str) -> list[dict[str, Any]]:
    response = await house.api.get(PATH, params=params)
    assert response.status_code == 200, response.text
    found: list[dict[str, Any]] = response.json()["data"]
    return found


async def redrive(house: House, **body: Any) -> dict[str, Any]:
    response = await house.api.post(f"{PATH}/redrive", json=body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def job(house: House, subject: str) -> Row:
    sql = "SELECT * FROM job WHERE subject_id = :id"
    row = await house.plant.db.read(lambda tx: tx.one(sql, {"id": subject}))
    assert row is not None
    return row


async def test_both_kinds_are_shown_with_their_reason(house):
    generation_id = await dead_generation(house)
    delivery_id = await dead_delivery(house)
    delivery, generation = await listed(house)
    assert (generation["id"], generation["kind"], generation["generation"]) == (
        generation_id,
        "generation",
        generation_id,
    )
    assert generation["error"] == {"code": "storage_failed", "message": "storage_failed happened"}
    assert (generation["lane"], generation["step"], generation["attempts"]) == ("provider:mock", "submit", 3)
    assert (delivery["id"], delivery["kind"], delivery["type"]) == (delivery_id, "delivery", "generation.cancelled")
    assert delivery["error"] == {"code": "webhook_status", "message": "answered 500"}
    assert delivery["lane"] == "endpoint:ep_default"


async def test_pages_show_each_once(house):
    made = {await dead_generation(house) for _ in range(5)}
    at_once = "UPDATE job SET finished_at = 7000 WHERE status = 'dead'"
    await house.plant.db.write(lambda tx: tx.run(at_once))
    seen, after = [], None
    while True:
        response = await house.api.get(PATH, params={"limit": "2"} | ({"after": after} if after else {}))
        page = response.json()
        seen += [each["id"] for each in page["data"]]
        after = page["nextCursor"]
        if after is None:
            break
        assert response.headers["link"].endswith('rel="next"')
    assert (len(seen), set(seen)) == (5, made)


async def test_a_list_is_narrowed(house):
    a, b = await dead_generation(house, "a"), await dead_generation(house, "b")
    c = await dead_delivery(house)
    for params, wanted in (
        ({"kind": "generation"}, {a, b}),
        ({"kind": "delivery"}, {c}),
        ({"errorCode": "a"}, {a}),
        ({"provider": "mock"}, {a, b}),
        ({"endpoint": "ep_default"}, {c}),
        ({"lane": "provider:mock", "errorCode": "b"}, {b}),
        ({"lane": "provider:other"}, set()),
    ):
        assert {each["id"] for each in await listed(house, **params)} == wanted, params


async def test_groups_by_kind_lane_and_error(house):
    for code in ("a", "b", "b"):
        await dead_generation(house, code)
    await dead_delivery(house)
    response = await house.api.get(PATH, params={"group": "error"})
    groups = response.json()["data"]
    assert (groups[0]["errorCode"], groups[0]["count"]) == ("b", 2)
    assert {(each["kind"], each["lane"], each["errorCode"], each["count"]) for each in groups} == {
        ("generation", "provider:mock", "a", 1),
        ("generation", "provider:mock", "b", 2),
        ("delivery", "endpoint:ep_default", "webhook_status", 1),
    }
    assert groups[0]["sample"] == "b happened"
    assert groups[0]["oldest"] <= groups[0]["newest"]


@pytest.mark.parametrize(
    "query",
    ["kind=x", "group=lane", "limit=0", "after=x", "who=me", "lane=a&provider=b", "limit=2&limit=2"],
)
async def test_a_bad_parameter_is_named(house, query):
    response = await house.api.get(f"{PATH}?{query}")
    assert (response.status_code, response.json()["code"]) == (400, "invalid_parameter")


async def test_by_ids(house):
    a, b, d = await dead_generation(house), await dead_generation(house), await dead_delivery(house)
    answer = await redrive(house, ids=[a, d, "gen_nothing"])
    assert answer["redriven"] == {"generation": 1, "delivery": 1}
    assert answer["refused"] == {"not_dead": 1}
    assert {each["id"] for each in await listed(house)} == {b}
    assert (await house.get(a))["run"] == 2
    assert (await job(house, a))["status"] == "waiting"
    assert (await redrive(house, ids=[a]))["refused"] == {"not_dead": 1}


async def test_a_dead_delivery_gets_a_new_schedule(house):
    delivery_id = await dead_delivery(house)
    fence = (await job(house, delivery_id))["fence"]
    assert (await redrive(house, kind="delivery"))["redriven"]["delivery"] == 1
    again = await job(house, delivery_id)
    assert (again["status"], again["attempts"], again["fence"]) == ("pending", 0, fence)
    shown = (await house.api.get(f"/api/webhooks/deliveries/{delivery_id}")).json()
    assert (shown["state"], shown["lastError"], shown["errorCode"], shown["finishedAt"]) == (
        "pending",
        None,
        None,
        None,
    )
    assert shown["nextAttemptAt"] is not None


async def test_by_what_they_have_in_common(house):
    a, b, c = [await dead_generation(house, code) for code in ("a", "b", "b")]
    d = await dead_delivery(house, "b")
    assert (await redrive(house, errorCode="b", lane="provider:mock", kind="generation"))["redriven"] == {
        "generation": 2,
        "delivery": 0,
    }
    assert {each["id"] for each in await listed(house)} == {a, d}
    assert {(await house.get(each))["run"] for each in (b, c)} == {2}
    answer = await redrive(house, all=True)
    assert answer["redriven"] == {"generation": 1, "delivery": 1}
    assert (await listed(house), answer["nextCursor"]) == ([], None)


async def test_to_pay_again_needs_a_word(house):
    free, paid = await dead_generation(house), await dead_generation(house, billed="unknown")
    answer = await redrive(house, all=True)
    assert (answer["redriven"]["generation"], answer["refused"]) == (1, {"repay_needed": 1})
    assert ((await house.get(free))["run"], (await house.get(paid))["run"]) == (2, 1)
    answer = await redrive(house, all=True, allowRepay=True)
    assert (answer["redriven"]["generation"], answer["refused"]) == (1, {})
    assert answer["estimatedCostMicros"] > 0


async def test_a_dry_run_counts_and_does_nothing(house):
    await dead_generation(house)
    await dead_generation(house, billed="yes")
    await dead_delivery(house)
    before = await listed(house)
    answer = await redrive(house, all=True, dryRun=True)
    assert (answer["dryRun"], answer["redriven"]) == (True, {"generation": 1, "delivery": 1})
    assert answer["refused"] == {"repay_needed": 1}
    assert await listed(house) == before


async def test_many_go_on_in_small_commits_and_a_cursor_goes_on_behind_a_request(house, monkeypatch):
    monkeypatch.setattr(dead, "BATCH", 2)
    monkeypatch.setattr(dead, "MAX_BATCHES", 2)
    stuck = [await dead_generation(house, billed="yes") for _ in range(3)]
    free = [await dead_generation(house) for _ in range(4)]
    before = house.plant.db.commits
    first = await redrive(house, all=True)
    assert house.plant.db.commits == before + 2
    assert (first["redriven"]["generation"], first["nextCursor"] is not None) == (4, True)
    second = await redrive(house, all=True, after=first["nextCursor"])
    assert (second["redriven"]["generation"], second["refused"]) == (0, {"repay_needed": 3})
    assert second["nextCursor"] is None
    assert {each["id"] for each in await listed(house)} == set(stuck)
    assert len(free) == 4


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"all": False},
        {"ids": []},
        {"ids": ["x"] * 101},
        {"ids": ["x"], "all": True},
        {"kind": "generation", "all": True},
        {"kind": "other"},
        {"all": True, "after": "x"},
        {"all": True, "everything": True},
    ],
)
async def test_a_body_with_mistakes(house, body):
    response = await house.api.post(f"{PATH}/redrive", json=body)
    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")


async def test_what_was_deleted_meanwhile_is_refused(house):
    delivery_id = await dead_delivery(house)
    sql = "UPDATE webhook_event SET body = '' WHERE id = (SELECT event_id FROM webhook_delivery WHERE id = :id)"
    await house.plant.db.write(lambda tx: tx.run(sql, {"id": delivery_id}))
    assert (await redrive(house, ids=[delivery_id]))["refused"] == {"gone": 1}


async def test_a_provider_that_is_gone_cannot_be_submitted_to(house):
    await dead_generation(house, provider="elsewhere")
    assert (await redrive(house, all=True))["refused"] == {"not_redrivable": 1}


async def test_a_dead_delivery_really_arrives(tmp_path, place):
    settings = SETTINGS | {"database_url": place.url, "webhook_schedule": "0,0"}
    async with open_house(tmp_path, **settings) as house:
        house.answers[:] = [500, 500]
        made = await house.submit("x")
        await house.ended(made["id"])
        await house.webhooks(2)

        async def found() -> list[dict[str, Any]]:
            return await listed(house)

        (letter,) = await eventually(found, bool, 10)
        assert letter["error"]["code"].startswith("webhook_")
        await redrive(house, ids=[letter["id"]])
        await house.webhooks(3)
        shown = (await house.api.get(f"/api/webhooks/deliveries/{letter['id']}")).json()
        assert [each["attempt"] for each in shown["attempts"]][:2] == [1, 2]


async def test_a_tenants_admin_sees_and_moves_only_its_own(shared, name):
    """The operator made one of each kind for the default tenant; a key of another sees none of it."""
    await shared.plant.db.write(lambda tx: tx.run("UPDATE job SET status = 'done' WHERE status = 'dead'"))
    theirs = await dead_generation(shared)
    asked = {"name": "k", "tenant": "acme", "scopes": [Scope.ADMIN], "random": os.urandom}
    _, key = await shared.plant.db.write(lambda tx: credentials.create(tx, **asked))
    headers = {"Authorization": f"Bearer {key}"}
    try:
        async with httpx.AsyncClient(base_url=shared.api.base_url, headers=headers) as acme:
            assert (await acme.get(PATH)).json()["data"] == []
            assert (await acme.get(PATH, params={"group": "error"})).json()["data"] == []
            answer = (await acme.post(f"{PATH}/redrive", json={"ids": [theirs]})).json()
            assert (answer["redriven"]["generation"], answer["refused"]) == (0, {"not_dead": 1})
            for path in ("pause", "resume"):
                assert (await acme.post(f"/api/queue/{path}")).status_code == 403
    finally:
        await shared.plant.db.write(lambda tx: tx.run("DELETE FROM api_key"))
    assert (await job(shared, theirs))["status"] == "dead"


async def test_the_jobs_of_both_kinds_are_held_before_anything_is_decided(shared):
    """`hold` says how a job stands, or that there is none."""
    letter = await dead_generation(shared)
    held = await shared.plant.db.write(lambda tx: queue.hold(tx, JobKind.GENERATION, letter))
    nothing = await shared.plant.db.write(lambda tx: queue.hold(tx, JobKind.GENERATION, "gen_nothing"))
    assert (held, nothing) == ("dead", None)
    live = await shared.submit("x")
    again = queue.NewJob(JobKind.GENERATION, live["id"], "default", "provider:mock", Step.SUBMIT)
    assert not await shared.plant.db.write(lambda tx: queue.redrive(tx, again)), "what runs is left alone"
