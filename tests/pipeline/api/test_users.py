"""Users: what is set for one, who waits, and pauses of users, by the operator and by a tenant's own admin."""

from __future__ import annotations

import os
from typing import Any

import httpx
import pytest

from pipeline import admission, credentials
from pipeline.admission.shares import whose
from pipeline.credentials import Scope
from tests.house import House
from tests.pipeline.api.conftest import OPERATOR

pytestmark = pytest.mark.anyio

AWKWARD = ("a/b", "two\nlines", "\x84", "ünï cödé", "..a", "50%", "x?y#z", "a+b@c.de", "n" * 128)
"""Names that requests may have, and that a path has to carry."""


@pytest.fixture(scope="module")
def shared(guarded_house_on_each_engine):
    return guarded_house_on_each_engine


@pytest.fixture
async def house(shared: House) -> House:
    """Nothing is set or paused, nobody waits; calls are the operator's."""
    await shared.plant.db.write(lambda tx: [tx.run(f"DELETE FROM {name}") for name in ("lane", "job")])
    shared.api.headers.update(OPERATOR)
    return shared


async def key_of(house: House, tenant: str, *scopes: Scope) -> dict[str, str]:
    """The headers of a new key."""
    asked: dict[str, Any] = {"name": "test", "tenant": tenant, "scopes": scopes or (Scope.ADMIN,), "random": os.urandom}
    _, key = await house.plant.db.write(lambda tx: credentials.create(tx, **asked))
    return {"Authorization": f"Bearer {key}"}


async def put(house: House, user: str, headers: dict[str, str] | None = None, **share: Any) -> dict[str, Any]:
    answer = await house.api.put(f"/api/users/{user}", json=share, headers=headers)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def shown(house: House, user: str, headers: dict[str, str] | None = None) -> dict[str, Any]:
    body: dict[str, Any] = (await house.api.get(f"/api/users/{user}", headers=headers)).json()
    return body


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    body: dict[str, Any] = answer.json()
    assert (answer.status_code, body["code"]) == (status, code), answer.text
    return body


async def test_what_is_set_for_a_user_is_shown_changed_and_forgotten(house):
    nobody = await shown(house, "alice")
    assert nobody == {
        "object": "user",
        "user": "alice",
        "tenant": "default",
        "weight": 1.0,
        "maxInFlight": None,
        "paused": False,
        "pausedUntil": None,
        "pausedReason": None,
        "waiting": 0,
        "inFlight": 0,
        "spentTodayMicros": 0,
    }
    assert await put(house, "alice", weight=3, maxInFlight=5) == nobody | {"weight": 3.0, "maxInFlight": 5}
    row = await house.plant.db.read(lambda tx: tx.one("SELECT * FROM lane WHERE name = 'user:default/alice'"))
    assert (row["weight"], row["max_in_flight"]) == (3.0, 5)
    assert await put(house, "alice", maxInFlight=0) == nobody | {"maxInFlight": 0}, "what is left out is not set"
    for _ in range(2):
        assert (await house.api.delete("/api/users/alice")).status_code == 204
    assert await shown(house, "alice") == nobody


@pytest.mark.parametrize(
    "share",
    [{"weight": 0}, {"weight": 0.009}, {"weight": 100.1}, {"weight": "3"}, {"maxInFlight": -1}, {"maxInFlight": 1.5},
     {"maxInFlight": 1_000_001}, {"maxInFlight": True}, {"paused": True}, []],
)  # fmt: skip
async def test_a_share_with_mistakes(house, share):
    problem(await house.api.put("/api/users/alice", json=share), 422, "invalid_request")


async def test_a_weight_that_is_no_number_is_no_json(house):
    for text in ('{"weight": NaN}', '{"weight": Infinity}', '{"weight": 1e999}'):
        headers = {"Content-Type": "application/json"}
        answer = await house.api.put("/api/users/alice", content=text, headers=headers)
        assert answer.status_code in {400, 422}, answer.text


async def test_the_bounds_of_a_share_may_be_set(house):
    for share in ({"weight": 0.01}, {"weight": 100}, {"maxInFlight": 1_000_000}, {"maxInFlight": 5.0}, {}):
        await put(house, "alice", **share)


@pytest.mark.parametrize("user", AWKWARD)
async def test_a_user_may_have_any_name(house, user):
    raw = httpx.AsyncClient(base_url=house.api.base_url, headers=house.api.headers)  # the contract knows plain names
    async with raw as api:
        path = "/api/users/" + "".join(f"%{byte:02X}" for byte in user.encode())
        answer = await api.put(path, json={"weight": 2})
        assert (answer.status_code, answer.json()["user"]) == (200, user), answer.text
        assert (await api.get(path)).json()["weight"] == 2.0
    await house.submit("x", userId=user)
    (listed,) = (await house.api.get("/api/users")).json()["data"]
    assert (listed["user"], listed["weight"], listed["waiting"]) == (user, 2.0, 1)


async def test_a_name_that_nobody_can_have_is_refused(house):
    problem(await house.api.get(f"/api/users/{'n' * 129}"), 400, "invalid_parameter")
    problem(await house.api.post("/api/users/alice"), 405, "method_not_allowed")


async def test_who_waits_runs_or_has_something_set_is_listed_page_by_page(house):
    for user in ("carol", "alice", "alice", None):
        await house.submit("x", userId=user)
    await house.plant.db.write(lambda tx: admission.admit(tx, limit=1, bounds=admission.Bounds(1)))
    await put(house, "dave", weight=2)
    await house.api.post("/api/queue/pause", json={"lane": "user:erin", "seconds": 600})
    await house.api.put("/api/users/frank?tenant=acme", json={"maxInFlight": 1})
    whole = (await house.api.get("/api/users")).json()["data"]
    assert [(each["tenant"], each["user"]) for each in whole] == [
        ("acme", "frank"), ("default", None), ("default", "alice"), ("default", "carol"), ("default", "dave"),
        ("default", "erin"),
    ]  # fmt: skip
    assert sum(each["waiting"] for each in whole) == 3
    assert sum(each["inFlight"] for each in whole) == 1
    paged, cursor = [], None
    while not paged or cursor:
        query = {"limit": 2} | ({"after": cursor} if cursor else {})
        page = (await house.api.get("/api/users", params=query)).json()
        paged, cursor = paged + page["data"], page["nextCursor"]
    assert paged == whole
    assert [each["user"] for each in (await house.api.get("/api/users?tenant=acme")).json()["data"]] == ["frank"]
    problem(await house.api.get("/api/users?after=x"), 400, "invalid_parameter")


async def test_what_a_user_spent_today_is_told(house):
    made = await house.submit("x", userId="mallory")
    await house.plant.db.write(
        lambda tx: tx.run(
            "UPDATE generation SET reserved_micros = 70000, provider = 'fal' WHERE id = :id", {"id": made["id"]}
        )
    )
    assert (await shown(house, "mallory"))["spentTodayMicros"] == 70_000


# --- pauses ----------------------------------------------------------------------------------------------------------


async def test_a_user_is_paused_and_resumed(house):
    answer = await house.api.post("/api/queue/pause", json={"lane": "user:alice", "reason": "too many"})
    told = {"paused": True, "pausedUntil": None, "pausedReason": "too many"}
    assert answer.json() == {"object": "lane", "name": "user:alice", "tenant": "default", **told}
    assert told.items() <= (await shown(house, "alice")).items()
    status = (await house.api.get("/api/queue/status")).json()
    assert status["pausedUsers"] == [{"user": "alice", "tenant": "default", **told}]
    assert [lane for lane in status["lanes"] if "alice" in lane["name"]] == []
    assert status["paused"] is False
    await put(house, "alice", weight=2)
    await house.api.delete("/api/users/alice")
    assert (await shown(house, "alice"))["paused"], "a share does not touch the pause"
    answer = await house.api.post("/api/queue/resume", json={"lane": "user:alice"})
    assert (answer.json()["paused"], answer.json()["name"]) == (False, "user:alice")
    assert (await house.api.get("/api/queue/status")).json()["pausedUsers"] == []


async def test_the_service_is_paused_under_each_of_its_names(house):
    for body in ({"lane": "*"}, {"lane": "everything"}, {}):
        assert (await house.api.post("/api/queue/pause", json=body)).json()["name"] == "*"
        status = (await house.api.get("/api/queue/status")).json()
        assert (status["paused"], status["pausedUntil"], status["pausedReason"]) == (True, None, "paused by hand")
        tenants = (await house.api.get("/api/queue/status", headers=await key_of(house, "acme"))).json()
        assert tenants["paused"] is True, "everybody is to know it"
        assert (await house.api.post("/api/queue/resume", json=body)).json()["paused"] is False


async def test_the_road_to_a_receiver_is_paused_under_each_of_its_names(house):
    made = await house.api.post("/api/webhooks/endpoints", json={"url": "http://127.0.0.1:1/hook"})
    known = made.json()["id"]
    for name in (known, f"endpoint:{known}"):
        answer = (await house.api.post("/api/queue/pause", json={"lane": name, "seconds": 60})).json()
        assert (answer["name"], answer["paused"], answer["tenant"]) == (f"endpoint:{known}", True, None)
        assert (await house.api.get(f"/api/webhooks/endpoints/{known}")).json()["paused"]["reason"] == "paused by hand"
        assert not (await house.api.post("/api/queue/resume", json={"lane": name})).json()["paused"]
    problem(await house.api.post("/api/queue/pause", json={"lane": "endpoint:ep_none"}), 422, "invalid_request")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"lane": "user:"}, "/lane"),
        ({"lane": "user:alice", "tenant": "NO"}, "/tenant"),
        ({"lane": "mock", "tenant": "acme"}, "/tenant"),
        ({"tenant": "acme"}, "/tenant"),
        ({"lane": "u" * 141}, "/lane"),
    ],
)
@pytest.mark.parametrize("what", ["pause", "resume"])
async def test_what_cannot_be_paused_is_named(house, what, body, pointer):
    told = problem(await house.api.post(f"/api/queue/{what}", json=body), 422, "invalid_request")
    assert [error["pointer"] for error in told["errors"]] == [pointer]


async def test_a_tenants_admin_pauses_its_own_users_and_nothing_else(house):
    acme = await key_of(house, "acme")
    answer = await house.api.post("/api/queue/pause", json={"lane": "user:alice"}, headers=acme)
    assert (answer.status_code, answer.json()["tenant"]) == (200, "acme")
    assert not (await shown(house, "alice"))["paused"], "the user of the same name of another tenant goes on"
    assert (await shown(house, "alice", acme))["paused"]
    listed = (await house.api.get("/api/queue/status", headers=acme)).json()
    assert [each["user"] for each in listed["pausedUsers"]] == ["alice"]
    theirs = await key_of(house, "globex")
    assert (await house.api.get("/api/queue/status", headers=theirs)).json()["pausedUsers"] == []
    for body in ({}, {"lane": "*"}, {"lane": "mock"}, {"lane": "provider:mock"}, {"lane": "endpoint:ep_default"}):
        for what in ("pause", "resume"):
            told = problem(await house.api.post(f"/api/queue/{what}", json=body, headers=acme), 403, "forbidden")
            assert "API_KEY" in told["detail"]
    body = {"lane": "user:alice", "tenant": "globex"}
    problem(await house.api.post("/api/queue/pause", json=body, headers=acme), 403, "forbidden")
    body = {"lane": "user:alice", "tenant": "acme"}
    assert (await house.api.post("/api/queue/resume", json=body)).json()["paused"] is False, "the operator may"
    rows = await house.plant.db.read(lambda tx: tx.all("SELECT name FROM lane"))
    assert {whose(row["name"]) for row in rows} == {("acme", "alice")}


async def test_a_tenant_sets_and_sees_its_own_users_alone(house):
    acme, globex = await key_of(house, "acme"), await key_of(house, "globex")
    await put(house, "alice", acme, weight=3)
    assert (await shown(house, "alice", globex))["weight"] == 1.0
    assert (await house.api.get("/api/users", headers=globex)).json()["data"] == []
    problem(await house.api.get("/api/users?tenant=acme", headers=globex), 403, "forbidden")
    problem(await house.api.put("/api/users/alice?tenant=acme", json={}, headers=globex), 403, "forbidden")
    assert (await house.api.delete("/api/users/alice", headers=globex)).status_code == 204
    assert (await shown(house, "alice", acme))["weight"] == 3.0
    assert (await shown(house, "alice?tenant=acme"))["weight"] == 3.0
    reader = await key_of(house, "acme", Scope.READ, Scope.SUBMIT)
    problem(await house.api.get("/api/users", headers=reader), 403, "forbidden")
