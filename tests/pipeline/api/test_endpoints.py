"""Webhook endpoints: made, looked at, changed, given new secrets, switched off and on, deleted, and tried."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from pipeline import credentials
from pipeline.credentials import Scope
from pipeline.outbox import DEFAULT_ENDPOINT
from tests.house import House
from webhooks.signing import new_secret, parse_secret, verify

pytestmark = pytest.mark.anyio

PATH = "/api/webhooks/endpoints"
URL = "https://app.example/api/webhooks/worker"
SECRET = new_secret(lambda length: bytes(range(length)))


@pytest.fixture(scope="module")
def house(house_on_each_engine):
    return house_on_each_engine


@pytest.fixture(autouse=True)
async def empty(house: House) -> AsyncIterator[None]:
    """Each test finds the endpoint of the settings and no other."""
    yield

    def clean(tx: Any) -> None:
        tx.run("DELETE FROM webhook_endpoint WHERE id <> :id", {"id": DEFAULT_ENDPOINT})
        for table in ("webhook_secret", "lane", "api_key"):
            tx.run(f"DELETE FROM {table}")
        whole = {"disabled_at": None, "disabled_reason": None, "description": None, "headers": None}
        tx.update("webhook_endpoint", whole, "id = :id", {"id": DEFAULT_ENDPOINT})

    await house.plant.db.write(clean)
    house.service.keys._any = (-1.0, False)


async def made(house: House, api: httpx.AsyncClient | None = None, **members: Any) -> dict[str, Any]:
    response = await (api or house.api).post(PATH, json={"url": URL, **members})
    assert response.status_code == 201, response.text
    body: dict[str, Any] = response.json()
    assert response.headers["location"] == f"{PATH}/{body['id']}"
    return body


async def act(house: House, endpoint: str, name: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    response = await house.api.post(f"{PATH}/{endpoint}/{name}", json=body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def shown(house: House, endpoint: str) -> dict[str, Any]:
    response = await house.api.get(f"{PATH}/{endpoint}")
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


async def listed(api: httpx.AsyncClient, **params: str) -> list[str]:
    response = await api.get(PATH, params=params)
    assert response.status_code == 200, response.text
    return [each["id"] for each in response.json()["data"]]


def problem(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["code"]


@asynccontextmanager
async def tenant(house: House, name: str, *scopes: Scope) -> AsyncIterator[httpx.AsyncClient]:
    asked = {"name": "k", "tenant": name, "scopes": scopes or (Scope.ADMIN,), "random": os.urandom}
    _, key = await house.plant.db.write(lambda tx: credentials.create(tx, **asked))
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=house.api.base_url, headers=headers) as api:
        yield api


# --- made and shown ---------------------------------------------------------------------------------------------------


async def test_a_new_endpoint_shows_its_secret_once(house):
    body = await made(house)
    assert len(parse_secret(body.pop("secret"))) == 24
    assert body["events"] == ["generation.cancelled", "generation.completed", "generation.failed"]
    assert (body["enabled"], body["signing"], body["fromSettings"], body["tenant"]) == (True, "v1", False, "default")
    assert (body["lastAttempt"], body["paused"], body["failingSince"]) == (None, None, None)
    assert [(each["kind"], each["publicKey"], each["expiresAt"]) for each in body["secrets"]] == [("v1", None, None)]
    assert await shown(house, body["id"]) == body


async def test_everything_can_be_said_at_once(house):
    asked = {
        "events": ["generation.*", "generation.held"],
        "description": "the app",
        "headers": {"X-Api-Key": "k-1", "Authorization": "Bearer t"},
        "ordered": True,
        "maxInFlight": 3,
        "ratePerMinute": 60,
        "signing": "both",
        "secret": SECRET,
    }
    body = await made(house, **asked)
    assert body["secret"] == SECRET
    hidden = {"headers": {"X-Api-Key": "***", "Authorization": "***"}}
    assert {name: body[name] for name in asked} == asked | hidden
    first, second = sorted(body["secrets"], key=lambda each: each["kind"])
    assert first["hint"] == f"{SECRET[:10]}..."
    assert second["publicKey"].startswith("whpk_")
    assert second["hint"] is None


async def test_nothing_is_requested_when_it_is_made(house):
    before = len(house.received)
    await made(house, url=str(house.plant.settings.webhook_url))
    assert len(house.received) == before


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"url": "http://app.example/x"}, "invalid"),
        ({"url": "https://10.0.0.1/x"}, "webhook_not_allowed"),
        ({"url": "https://[::ffff:169.254.169.254]/x"}, "webhook_not_allowed"),
        ({"url": "https://user:pw@app.example/x"}, "webhook_not_allowed"),
        ({"url": "https://app.example:22/x"}, "any"),
        ({"url": "https://app.example\\@evil.example/x"}, "webhook_not_allowed"),
        ({"url": "ftp://app.example"}, "invalid_request"),
        ({"url": "https://" + "a" * 3000}, "invalid_request"),
        ({"url": None}, "invalid_request"),
        ({"events": []}, "invalid_request"),
        ({"events": ["*"]}, "invalid_request"),
        ({"events": ["generation.done"]}, "invalid_request"),
        ({"headers": {"Host": "x"}}, "invalid_request"),
        ({"headers": {"Content-Type": "x"}}, "invalid_request"),
        ({"headers": {"webhook-signature": "x"}}, "invalid_request"),
        ({"headers": {"Connection": "close"}}, "invalid_request"),
        ({"headers": {"Transfer-Encoding": "chunked"}}, "invalid_request"),
        ({"headers": {"X Y": "x"}}, "invalid_request"),
        ({"headers": {"": "x"}}, "invalid_request"),
        ({"headers": {"X-A": "a\r\nB: c"}}, "invalid_request"),
        ({"headers": {"X-A": "ü"}}, "invalid_request"),
        ({"headers": {"X-A": ""}}, "invalid_request"),
        ({"headers": {"X-A": "x" * 1001}}, "invalid_request"),
        ({"headers": {"X-A": "***"}}, "invalid_request"),
        ({"headers": {"X-A": "1", "x-a": "2"}}, "invalid_request"),
        ({"headers": {"X-A": "1", "X_A": "2"}}, "invalid_request"),
        ({"headers": {"Webhook_Signature": "v1,x"}}, "invalid_request"),
        ({"headers": {"Transfer_Encoding": "chunked"}}, "invalid_request"),
        ({"headers": {"X_Forwarded_For": "192.0.2.1"}}, "invalid_request"),
        ({"headers": {"X-Real-IP": "192.0.2.1"}}, "invalid_request"),
        ({"headers": {f"X-{n}": "1" for n in range(11)}}, "invalid_request"),
        ({"maxInFlight": 0}, "invalid_request"),
        ({"ratePerMinute": 10**9}, "invalid_request"),
        ({"description": "a\0b"}, "invalid_request"),
        ({"signing": "v2"}, "invalid_request"),
        ({"secret": "whsec_short"}, "invalid_request"),
        ({"secret": SECRET, "signing": "v1a"}, "invalid_request"),
        ({"secrets": []}, "invalid_request"),
    ],
)
async def test_what_cannot_be_taken_is_named_and_no_secret_repeated(house, members, code):
    response = await house.api.post(PATH, json={"url": URL, **members})
    if code in {"any", "invalid"}:  # http and other ports are for ALLOWED_NETWORKS, which a name may be in
        assert response.status_code in {201, 422}
        return
    assert problem(response) == (422, code)
    assert await listed(house.api) == [DEFAULT_ENDPOINT]
    assert SECRET not in response.text
    assert members.get("secret", "no secret") not in response.text


async def test_a_tenant_has_twenty_at_most(house):
    async with tenant(house, "acme") as acme:
        for _ in range(20):
            await made(house, acme)
        assert problem(await acme.post(PATH, json={"url": URL})) == (409, "too_many")
        gone = (await listed(acme))[0]
        assert (await acme.delete(f"{PATH}/{gone}")).status_code == 204
        await made(house, acme)


async def test_a_list_is_paged(house):
    async with tenant(house, "acme") as acme:
        ids = [(await made(house, acme))["id"] for _ in range(3)]
        first = (await acme.get(PATH, params={"limit": "2"})).json()
        rest = (await acme.get(PATH, params={"limit": "2", "after": first["nextCursor"]})).json()
        assert sorted(each["id"] for each in first["data"] + rest["data"]) == sorted(ids)
        assert (first["hasMore"], rest["hasMore"]) == (True, False)


# --- whose they are ---------------------------------------------------------------------------------------------------


async def test_a_tenant_has_its_own_and_the_operator_all(house):
    async with tenant(house, "acme") as acme, tenant(house, "globex") as globex:
        mine = await made(house, acme)
        assert mine["tenant"] == "acme"
        assert await listed(acme) == [mine["id"]]
        assert await listed(globex) == []
        for method, rest in [("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/test"), ("POST", "/enable")]:
            response = await globex.request(method, f"{PATH}/{mine['id']}{rest}", json={})
            assert problem(response) == (404, "not_found"), (method, rest)
        assert problem(await globex.get(PATH, params={"tenant": "acme"})) == (403, "forbidden")
        assert problem(await globex.get(f"{PATH}/{DEFAULT_ENDPOINT}")) == (404, "not_found")
        assert problem(await acme.get(PATH, params={"tenant": "A B"})) == (403, "forbidden")


async def test_the_operator_makes_and_lists_those_of_a_tenant(house):
    response = await house.api.post(PATH, params={"tenant": "acme"}, json={"url": URL})
    theirs = response.json()
    assert (response.status_code, theirs["tenant"]) == (201, "acme")
    assert await listed(house.api, tenant="acme") == [theirs["id"]]
    assert await listed(house.api) == [DEFAULT_ENDPOINT, theirs["id"]]
    assert problem(await house.api.get(PATH, params={"tenant": "A B"})) == (400, "invalid_parameter")


async def test_it_takes_the_scope_admin(house):
    async with tenant(house, "acme", Scope.SUBMIT, Scope.READ) as acme:
        assert problem(await acme.get(PATH)) == (403, "forbidden")
        assert problem(await acme.post(PATH, json={"url": URL})) == (403, "forbidden")


# --- changed ----------------------------------------------------------------------------------------------------------


async def test_only_what_is_named_changes(house):
    before = await made(house, description="x", headers={"X-A": "1"}, maxInFlight=3)
    del before["secret"]
    response = await house.api.patch(f"{PATH}/{before['id']}", json={"events": ["generation.*"], "maxInFlight": None})
    after = response.json()
    assert response.status_code == 200
    changed = {"events": ["generation.*"], "maxInFlight": None, "updatedAt": after["updatedAt"]}
    assert after == before | changed
    assert (await house.api.patch(f"{PATH}/{before['id']}", json={})).json()["events"] == ["generation.*"]


async def test_headers_are_replaced_and_a_hidden_one_is_kept(house):
    body = await made(house, headers={"X-A": "one", "X-B": "two"})
    response = await house.api.patch(f"{PATH}/{body['id']}", json={"headers": {"x-a": "***", "X-C": "three"}})
    assert response.json()["headers"] == {"x-a": "***", "X-C": "***"}
    row = await house.plant.db.read(
        lambda tx: tx.one("SELECT * FROM webhook_endpoint WHERE id = :id", {"id": body["id"]})
    )
    assert house.plant.signatory.headers(row) == {"x-a": "one", "X-C": "three"}
    response = await house.api.patch(f"{PATH}/{body['id']}", json={"headers": {"X-D": "***"}})
    assert problem(response) == (422, "invalid_request")


@pytest.mark.parametrize(
    "members",
    [{"url": "https://10.0.0.1/"}, {"url": None}, {"events": None}, {"ordered": None}, {"secret": SECRET}, {"id": "x"}],
)
async def test_a_change_is_checked_as_the_first_time(house, members):
    body = await made(house)
    response = await house.api.patch(f"{PATH}/{body['id']}", json=members)
    assert response.status_code == 422
    assert (await shown(house, body["id"]))["url"] == URL


async def test_what_is_deleted_is_gone_with_its_secrets(house):
    body = await made(house, headers={"X-A": "1"})
    response = await house.api.delete(f"{PATH}/{body['id']}")
    assert (response.status_code, response.content) == (204, b"")
    for method, rest in [("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/test"), ("POST", "/rotate-secret")]:
        assert problem(await house.api.request(method, f"{PATH}/{body['id']}{rest}", json={})) == (404, "not_found")
    assert await house.plant.db.read(lambda tx: tx.value("SELECT count(*) FROM webhook_secret")) == 0
    sql = "SELECT headers FROM webhook_endpoint WHERE id = :id"
    assert await house.plant.db.read(lambda tx: tx.value(sql, {"id": body["id"]})) is None


# --- secrets ----------------------------------------------------------------------------------------------------------


async def live(house: House, endpoint: str) -> list[str]:
    """The secrets that sign, in the open, newest first."""
    from pipeline.outbox import secrets

    rows = await house.plant.db.read(lambda tx: secrets.live(tx, [endpoint]))
    return secrets.opened(house.plant.signatory.box, rows)


async def test_a_new_secret_signs_beside_the_old_one_for_a_day(house):
    body = await made(house)
    response = await act(house, body["id"], "rotate-secret")
    assert response["secret"] != body["secret"]
    assert sorted(await live(house, body["id"])) == sorted([response["secret"], body["secret"]])
    ends = [each["expiresAt"] for each in response["secrets"]]
    assert sorted(map(bool, ends)) == [False, True]


async def test_with_no_overlap_all_old_ones_are_gone(house):
    body = await made(house)
    await act(house, body["id"], "rotate-secret")
    response = await act(house, body["id"], "rotate-secret", {"overlapSeconds": 0, "secret": SECRET})
    assert response["secret"] == SECRET
    assert await live(house, body["id"]) == [SECRET]


async def test_ten_are_live_at_most(house):
    body = await made(house)
    for _ in range(9):
        await act(house, body["id"], "rotate-secret")
    response = await house.api.post(f"{PATH}/{body['id']}/rotate-secret")
    assert problem(response) == (409, "too_many")
    assert "overlapSeconds" in response.json()["detail"]
    assert len(await live(house, body["id"])) == 10
    await act(house, body["id"], "rotate-secret", {"overlapSeconds": 0})


async def test_the_way_to_sign_is_changed_by_a_rotation(house):
    body = await made(house)
    both = await act(house, body["id"], "rotate-secret", {"signing": "both"})
    assert (both["signing"], bool(both["secret"])) == ("both", True)
    again = await act(house, body["id"], "rotate-secret", {"overlapSeconds": 0})
    assert again["signing"] == "both"
    alone = await act(house, body["id"], "rotate-secret", {"signing": "v1a", "overlapSeconds": 0})
    assert (alone["signing"], alone["secret"]) == ("v1a", None)
    assert [each["kind"] for each in alone["secrets"]] == ["v1a"]
    (private,) = await live(house, body["id"])
    assert private.startswith("whsk_")
    assert private not in json.dumps(await shown(house, body["id"]))


@pytest.mark.parametrize("body", [{"overlapSeconds": -1}, {"overlapSeconds": 700_000}, {"secret": "x"}, {"more": 1}])
async def test_a_rotation_that_cannot_be_is_refused(house, body):
    endpoint = (await made(house))["id"]
    assert problem(await house.api.post(f"{PATH}/{endpoint}/rotate-secret", json=body)) == (422, "invalid_request")
    assert len(await live(house, endpoint)) == 1


# --- the endpoint of the settings -------------------------------------------------------------------------------------


async def test_the_endpoint_of_the_settings_is_one_of_them(house):
    body = await shown(house, DEFAULT_ENDPOINT)
    assert (body["url"], body["fromSettings"]) == (house.plant.settings.webhook_url, True)
    assert (body["secrets"], body["signing"]) == ([], "v1")
    assert DEFAULT_ENDPOINT in await listed(house.api)
    response = await house.api.patch(
        f"{PATH}/{DEFAULT_ENDPOINT}", json={"description": "ours", "headers": {"X-A": "1"}}
    )
    assert response.json()["description"] == "ours"


@pytest.mark.parametrize(
    ("method", "rest", "body", "setting"),
    [
        ("PATCH", "", {"url": URL}, "WEBHOOK_URL"),
        ("PATCH", "", {"events": ["generation.*"]}, "WEBHOOK_EVENTS"),
        ("DELETE", "", None, "WEBHOOK_URL"),
        ("POST", "/rotate-secret", {}, "WEBHOOK_SECRET"),
    ],
)
async def test_what_the_settings_decide_is_refused_with_their_name(house, method, rest, body, setting):
    response = await house.api.request(method, f"{PATH}/{DEFAULT_ENDPOINT}{rest}", json=body)
    assert problem(response) == (409, "set_by_settings")
    assert setting in response.json()["detail"]


# --- off and on -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("own", [True, False])
async def test_it_is_switched_off_and_on(house, own):
    endpoint = (await made(house))["id"] if own else DEFAULT_ENDPOINT
    off = await act(house, endpoint, "disable", {"reason": "moving"})
    assert (off["enabled"], off["disabledReason"]) == (False, "switched off by hand: moving")
    again = await act(house, endpoint, "disable")
    assert (again["disabledAt"], again["disabledReason"]) == (off["disabledAt"], "switched off by hand")
    on = await act(house, endpoint, "enable")
    assert (on["enabled"], on["disabledReason"], on["disabledAt"]) == (True, None, None)
    assert (await act(house, endpoint, "enable"))["enabled"]


async def test_switching_it_on_ends_its_pause(house):
    endpoint = (await made(house))["id"]
    row = {"name": f"endpoint:{endpoint}", "unknown_streak": 0, "probing": 2, "paused_reason": "it fails"}
    await house.plant.db.write(lambda tx: tx.insert("lane", row | {"paused_until": tx.now + 60_000}))
    assert (await shown(house, endpoint))["paused"]["reason"] == "it fails"
    assert (await act(house, endpoint, "enable"))["paused"] is None


async def test_what_is_off_because_its_url_is_unset_cannot_be_switched_on(house):
    from pipeline.outbox import UNSET

    values = {"disabled_at": 1, "disabled_reason": UNSET}
    await house.plant.db.write(lambda tx: tx.update("webhook_endpoint", values, "id = :id", {"id": DEFAULT_ENDPOINT}))
    for name in ("enable", "test"):
        response = await house.api.post(f"{PATH}/{DEFAULT_ENDPOINT}/{name}")
        assert problem(response) == (409, "set_by_settings")
    assert (await act(house, DEFAULT_ENDPOINT, "disable"))["disabledReason"] == UNSET


# --- tried ------------------------------------------------------------------------------------------------------------


async def test_a_test_of_the_default_endpoint_arrives_signed(house):
    before = len(house.received)
    answer = await act(house, DEFAULT_ENDPOINT, "test")
    assert (answer["delivered"], answer["status"], answer["reason"]) == (True, 204, "answered")
    assert answer["address"] == "127.0.0.1"
    assert answer["phases"]["firstByte"] is not None
    assert [each.headers["webhook-id"] for each in house.received[before:]] == [answer["eventId"]]
    assert json.loads(house.received[-1].body)["type"] == "webhook.test"


async def test_a_test_is_sent_with_the_endpoints_own_secrets_and_headers(house, listener):
    own = await made(house, url=listener.url, signing="both", headers={"X-Api-Key": "k-1"}, events=["generation.held"])
    await act(house, own["id"], "disable")
    answer = await act(house, own["id"], "test")
    assert answer["delivered"]
    (headers, body) = listener.requests.pop()
    assert headers["x-api-key"] == "k-1"
    public = next(each["publicKey"] for each in own["secrets"] if each["publicKey"])
    for secret in (own["secret"], public):
        verify([secret], headers, body, now=house.plant.clock.now())


async def test_a_test_that_does_not_arrive_says_why(house, listener):
    own = await made(house, url=listener.url)
    listener.status = 404
    answer = await act(house, own["id"], "test")
    assert (answer["delivered"], answer["status"]) == (False, 404)
    assert "404" in answer["detail"]
    listener.status = 410
    await act(house, own["id"], "test")
    assert (await shown(house, own["id"]))["enabled"], "nothing follows from a test"
    closed = await made(house, url="http://127.0.0.1:1/x")
    answer = await act(house, closed["id"], "test")
    assert (answer["delivered"], answer["status"], answer["reason"]) == (False, None, "refused")


async def test_what_another_secret_key_had_sealed_is_told_and_mended_by_a_rotation(house, listener):
    own = await made(house, url=listener.url)
    await house.plant.db.write(lambda tx: tx.run("UPDATE webhook_secret SET sealed = 'dead.AAAA'"))
    response = await house.api.post(f"{PATH}/{own['id']}/test")
    assert problem(response) == (409, "sealed_away")
    await act(house, own["id"], "rotate-secret")
    assert (await act(house, own["id"], "test"))["delivered"]
