"""Two tenants set on one another: nothing of the other is ever seen, counted or changed, whatever is asked."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from starlette.routing import Route

from pipeline import credentials
from pipeline.api.openapi import OPERATIONS
from pipeline.app import make_api
from pipeline.credentials import Scope
from tests.house import House, open_house
from tests.pipeline.api.settings import SETTINGS
from tests.pipeline.api.tenants import RINGS, Tenant, Wish, Wisher, belongings, found, names, settle

pytestmark = pytest.mark.anyio

OWN, SERVICE, PUBLIC = "own", "service", "public"

ROUTES = {
    "POST /api/generations": OWN,
    "GET /api/generations": OWN,
    "GET /api/generations/{id}": OWN,
    "DELETE /api/generations/{id}": OWN,
    "POST /api/generations/{id}/cancel": OWN,
    "POST /api/generations/{id}/redrive": OWN,
    "GET /api/generations/{id}/content": OWN,
    "GET /api/generations/{id}/events": OWN,
    "GET /api/generations/{id}/explain": OWN,
    "POST /api/generations/{id}/tokens": OWN,
    "POST /api/generations/estimate": OWN,
    "GET /api/generations/{id}/submissions": OWN,
    "GET /api/models": OWN,
    "GET /api/usage": OWN,
    "POST /api/generations/{id}/resolve": OWN,
    "GET /api/held": OWN,
    "GET /api/queue/status": OWN,
    "GET /api/queue/dead": OWN,
    "POST /api/queue/dead/redrive": OWN,
    "POST /api/queue/pause": SERVICE,
    "POST /api/queue/resume": SERVICE,
    "GET /api/users": OWN,
    "GET /api/users/{user}": OWN,
    "PUT /api/users/{user}": OWN,
    "DELETE /api/users/{user}": OWN,
    "GET /api/webhooks/deliveries": OWN,
    "GET /api/webhooks/deliveries/{id}": OWN,
    "POST /api/webhooks/deliveries/{id}/redeliver": OWN,
    "POST /api/webhooks/recover": OWN,
    "GET /api/webhooks/recoveries": OWN,
    "GET /api/webhooks/recoveries/{id}": OWN,
    "GET /api/webhooks/stream": OWN,
    "GET /api/webhooks/endpoints": OWN,
    "POST /api/webhooks/endpoints": OWN,
    "GET /api/webhooks/endpoints/{id}": OWN,
    "PATCH /api/webhooks/endpoints/{id}": OWN,
    "DELETE /api/webhooks/endpoints/{id}": OWN,
    "POST /api/webhooks/endpoints/{id}/rotate-secret": OWN,
    "POST /api/webhooks/endpoints/{id}/test": OWN,
    "POST /api/webhooks/endpoints/{id}/enable": OWN,
    "POST /api/webhooks/endpoints/{id}/disable": OWN,
    "GET /metrics": SERVICE,
    "POST /callbacks/{provider}/{token}": PUBLIC,
    "GET /problems/{code}": PUBLIC,
    "GET /openapi.json": PUBLIC,
    "GET /docs": PUBLIC,
    "GET /healthz": PUBLIC,
    "GET /readyz": PUBLIC,
}
"""What each route is about: a tenant's own things, the service as a whole (for the operator alone), or nobody's."""

TABLES = {"/deliveries/": "webhook_delivery", "/endpoints/": "webhook_endpoint"}
"""Whose ids a path takes, where it is not that of a generation."""

BURSTS = 8
REQUESTS = 75
WEIGHTS = {OWN: 6, SERVICE: 2, PUBLIC: 1}
SEED = int(os.environ.get("FUZZ_SEED", "20261124"))
OPERATOR = {"Authorization": "Bearer the operator"}
VOLATILE = {"at", "oldestWaitingSeconds", "lastUsedAt", "requestId", "token", "expiresAt"}


@dataclass
class Street:
    """A house with two tenants, and every route of its API."""

    house: House
    tenants: tuple[Tenant, Tenant]
    routes: list[tuple[str, str]]


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
async def street(
    anyio_backend: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Street]:
    maker = request.getfixturevalue("sqlite_places" if request.param == "sqlite" else "postgres_server")
    folder = tmp_path_factory.mktemp("street")
    values = SETTINGS | {"api_key": "the operator", "webhook_schedule": "0,0.01", "key_rate_per_minute": 0}
    with maker.new() as place:
        async with open_house(folder, work=False, database_url=place.url, **values) as house:
            tenants = await found(house, "acme-inc"), await found(house, "globex-corp")
            await settle(house, tenants)
            yield Street(house, tenants, routes_of(house))


def routes_of(house: House) -> list[tuple[str, str]]:
    """Method and path of every route that the application has."""
    routes = [route for route in make_api(house.plant).routes if isinstance(route, Route)]
    return [(method, route.path) for route in routes for method in sorted(route.methods or ()) if method != "HEAD"]


async def test_every_route_is_decided(street: Street) -> None:
    """A new route fails here until it is told above whose things it is about."""
    assert {f"{method} {path}" for method, path in street.routes} == set(ROUTES)


async def test_what_concerns_the_service_is_for_the_operator_alone(street: Street) -> None:
    for method, path in street.routes:
        if ROUTES.get(f"{method} {path}") == SERVICE:
            for tenant in street.tenants:
                answer = await tenant.call(method, path)
                assert (answer.status_code, answer.json()["code"]) == (403, "forbidden"), path
                assert "API_KEY" in answer.json()["detail"]
            answer = await street.house.api.request(method, path, headers=OPERATOR)
            assert answer.status_code not in {401, 403}, path


async def test_every_route_wants_the_scope_that_is_told_in_the_document(street: Street) -> None:
    scopes = {(operation.method, operation.path): operation.scope for operation in OPERATIONS}
    tenant = street.tenants[0]
    for method, path in street.routes:
        if ROUTES.get(f"{method} {path}", PUBLIC) == PUBLIC or (method, path) not in scopes:
            continue
        url = path.replace("{id}", "nothing")
        assert (await street.house.api.request(method, url)).status_code == 401, path
        for held in RINGS:
            answer = await street.house.api.request(method, url, headers=tenant.headers(*held))
            enough = scopes.get((method, path)) in held or Scope.ADMIN in held
            if not enough:
                assert (answer.status_code, answer.json()["code"]) == (403, "forbidden"), (path, held)
            elif ROUTES[f"{method} {path}"] == OWN:
                assert answer.status_code not in {401, 403}, (path, held)


async def test_of_the_shared_webhook_url_a_tenant_sees_only_how_it_went(street: Street) -> None:
    """What it got and answered may hold its path and its credentials; the operator sees them."""
    silent = {"response": None, "address": None, "requestHeaders": [], "responseHeaders": []}
    path = "/api/webhooks/deliveries"
    for tenant in street.tenants:
        (listed,) = (await tenant.call("GET", path, params={"state": "dead"})).json()["data"]
        assert (listed["url"], listed["lastError"]) == (None, "answered 500")
        shown = (await tenant.call("GET", f"{path}/{listed['id']}")).json()
        assert shown["lastError"] == "answered 500"
        assert [{name: each[name] for name in silent} for each in shown["attempts"]] == [silent] * 2
        assert [each["detail"] for each in shown["attempts"]] == ["answered 500"] * 2
        generation = f"/api/generations/{listed['generation']}"
        token = (await tenant.call("POST", f"{generation}/tokens", json={})).json()["token"]
        events = f"{generation}/events"
        for answer in (
            await tenant.call("GET", events),
            await street.house.api.get(events, params={"token": token}),
        ):
            (told,) = [each for each in answer.json()["deliveries"] if each["id"] == listed["id"]]
            assert told["lastError"] == "answered 500"
            assert [(each["detail"], each["response"]) for each in told["attempts"]] == [("answered 500", None)] * 2
        dead = (await tenant.call("GET", "/api/queue/dead", params={"kind": "delivery"})).json()["data"]
        assert {letter["error"]["message"] for letter in dead} == {"webhook_answered"}
        whole = (await street.house.api.get(f"{path}/{listed['id']}", headers=OPERATOR)).json()
        assert all(each["requestHeaders"] and each["responseHeaders"] and each["address"] for each in whole["attempts"])
        assert whole["lastError"] != "answered 500"


async def test_two_tenants_never_see_count_or_change_one_another(street: Street) -> None:
    seed = random.Random(SEED)
    weights = [WEIGHTS[ROUTES.get(f"{method} {path}", OWN)] for method, path in street.routes]
    asked, told = 0, 0
    for burst in range(BURSTS):
        me, other = street.tenants if burst % 2 else reversed(street.tenants)
        kept = await rows_of(street, other)
        views = await views_of(street, other)
        secrets = names(kept, other) | {str(street.house.plant.settings.webhook_url)}
        wisher = Wisher(seed, me, other, await rows_of(street, me), kept)
        for _ in range(REQUESTS):
            wish = wisher.wish(*seed.choices(street.routes, weights)[0])
            answer = await send(street.house.api, wish)
            assert answer.status_code < 500 or wish.path == "/readyz", (SEED, str(wish), answer.text)
            leaked = leaks(answer, wish, secrets)
            assert not leaked, (SEED, str(wish), answer.text, leaked)
            asked, told = asked + 1, told + (answer.status_code < 300)
        assert await rows_of(street, other) == kept
        assert await views_of(street, other) == views
        await counts_are_right(street, me)
    assert asked == BURSTS * REQUESTS >= 300
    assert told > asked / 8, "hardly anything was answered: the requests have mistakes"


async def rows_of(street: Street, tenant: Tenant) -> Any:
    return await street.house.plant.db.read(lambda tx: belongings(tx, tenant.name))


async def views_of(street: Street, tenant: Tenant) -> dict[str, Any]:
    """Everything that the tenant can look at without naming anything, as its admin and as a reader."""
    views = {}
    for method, path in street.routes:
        if method == "GET" and ROUTES.get(f"{method} {path}") == OWN and "{" not in path:
            answer = await tenant.call(method, path)
            told = answer.headers["content-type"].startswith("application/json")
            views[path] = _steady(answer.json()) if told else answer.status_code
    return views


def _steady(value: Any) -> Any:
    """Without what changes by itself."""
    if isinstance(value, dict):
        return {name: _steady(inner) for name, inner in value.items() if name not in VOLATILE}
    return [_steady(inner) for inner in value] if isinstance(value, list) else value


async def counts_are_right(street: Street, tenant: Tenant) -> None:
    """The queue as the tenant sees it holds its own jobs and no others."""
    body = (await tenant.call("GET", "/api/queue/status")).json()
    jobs = (await rows_of(street, tenant))["job"]
    for member, kind in (("generations", "generation"), ("deliveries", "delivery")):
        for status, number in body[member]["byStatus"].items():
            assert number == len([job for job in jobs if (job["kind"], job["status"]) == (kind, status)]), status


async def send(api: httpx.AsyncClient, wish: Wish) -> httpx.Response:
    return await api.request(wish.method, wish.path, params=wish.params, headers=wish.headers, json=wish.body)


def leaks(answer: httpx.Response, wish: Wish, secrets: set[str]) -> set[str]:
    """What of the other's is in an answer that the request did not bring along."""
    text = "\n".join([answer.text, *(f"{name}: {value}" for name, value in answer.headers.items())])
    for sent in sorted(wish.sent(), key=len, reverse=True):
        text = text.replace(sent, "") if len(sent) > 3 else text
    return {secret for secret in secrets if secret in text}


# --- the same names in two tenants -----------------------------------------------------------------------------------


async def test_one_key_and_one_id_in_two_tenants_are_two_generations(street: Street) -> None:
    body = {"prompt": "the same fox", "generationId": "order-shared"}
    ids = []
    for tenant in street.tenants:
        headers = tenant.headers(Scope.SUBMIT) | {"Idempotency-Key": "key-shared"}
        first = await street.house.api.post("/api/generations", json=body, headers=headers)
        again = await street.house.api.post("/api/generations", json=body, headers=headers)
        assert (first.status_code, again.status_code) == (202, 200)
        assert first.json()["id"] == again.json()["id"]
        ids.append(first.json()["id"])
        found = (await tenant.call("GET", "/api/generations/order-shared")).json()
        assert found["id"] == ids[-1]
    assert ids[0] != ids[1]


async def test_the_other_tenants_things_are_as_if_they_were_not_there(street: Street) -> None:
    """Not even their existence shows: the answer is the one for an id that nobody has."""
    me, other = street.tenants
    rows = await rows_of(street, other)
    for method, path in street.routes:
        if "{id}" not in path or ROUTES.get(f"{method} {path}") != OWN:
            continue
        answers = []
        table = next((table for part, table in TABLES.items() if part in path), "generation")
        known = rows[table][0]["id"]
        for reference in (known, f"{known[:-32]}{'0' * 32}"):
            body = {"as": "abandon"} if path.endswith("/resolve") else {} if method in {"POST", "PATCH"} else None
            answer = await me.call(method, path.replace("{id}", reference), json=body)
            answers.append((answer.status_code, _steady(answer.json()) | {"instance": "", "detail": ""}))
        assert answers[0] == answers[1], path
        assert answers[0][0] == 404, path


async def test_a_token_opens_its_generation_alone(street: Street) -> None:
    for me, other in (street.tenants, street.tenants[::-1]):
        for token, subject in me.tokens.items():
            row = (await rows_of(street, other))["generation"][0]
            for part in ("", "/content", "/events"):
                answer = await street.house.api.get(f"/api/generations/{row['id']}{part}", params={"token": token})
                assert answer.status_code == 401
            answer = await street.house.api.get(f"/api/generations/{subject}/content?token={token}")
            assert answer.status_code in {200, 410}, answer.text


async def test_keys_of_a_tenant_show_nothing_of_the_operators(street: Street) -> None:
    made = await street.house.api.post("/api/generations", json={"prompt": "ours alone"}, headers=OPERATOR)
    assert made.status_code == 202
    for tenant in street.tenants:
        assert (await tenant.call("GET", f"/api/generations/{made.json()['id']}")).status_code == 404
        assert "ours alone" not in (await tenant.call("GET", "/api/generations?limit=100")).text
    rows = await street.house.plant.db.read(credentials.listing)
    assert len(rows) == 2 * len(RINGS)
