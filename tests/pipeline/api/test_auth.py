"""Who may call: holders of a key, or, without one, programs of this machine and no page of another site."""

from __future__ import annotations

import pytest

from tests.house import open_house

pytestmark = pytest.mark.anyio

GUARDED = (
    ("GET", "/api/generations"),
    ("POST", "/api/generations"),
    ("GET", "/api/generations/gen_1"),
    ("GET", "/api/generations/gen_1/events"),
    ("GET", "/api/generations/gen_1/content"),
    ("POST", "/api/generations/gen_1/cancel"),
    ("GET", "/api/queue/status"),
)


async def test_with_keys_every_route_wants_one(tmp_path):
    async with open_house(tmp_path, work=False, api_key="first, sécond") as house:
        for method, path in GUARDED:
            response = await house.api.request(method, path)
            assert (response.status_code, response.json()["code"]) == (401, "unauthorized"), path
            assert response.headers["www-authenticate"] == 'Bearer realm="dailies"'
        for path in ("/healthz", "/readyz", "/problems/unauthorized", "/callbacks/mock/x"):
            assert (await house.api.get(path)).status_code != 401

        for given in ("Bearer first", "bearer first", "BEARER   first", "Bearer sécond".encode()):
            response = await house.api.get("/api/generations", headers={"Authorization": given})
            assert response.status_code == 200, given
        for given in ("Bearer third", "Bearer", "Basic first", "first", "Bearer first, sécond".encode(), ""):
            response = await house.api.get("/api/generations", headers={"Authorization": given})
            assert response.status_code == 401, given
            assert "first" not in response.text

        foreign = {"Authorization": "Bearer first", "Host": "api.example.com", "Origin": "https://app.example.com"}
        assert (await house.api.get("/api/generations", headers=foreign)).status_code == 200
        assert (await house.api.get("/api/generations", headers=foreign | {"Host": "["})).status_code == 200
        assert (await house.api.get("/nothing", headers={"Host": "["})).status_code == 404


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:3000", "127.0.0.1:8000", "[::1]:8000", "video.example.com"])
async def test_without_keys_it_answers_to_its_own_names(open_to_this_machine, host):
    response = await open_to_this_machine.api.get("/api/generations", headers={"Host": host})
    assert response.status_code == 200


STRANGE = ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "0.0.0.0", "[", "a b", ""]


@pytest.mark.parametrize("host", STRANGE)
async def test_without_keys_a_name_pointed_at_this_machine_is_refused(open_to_this_machine, host):
    house = open_to_this_machine
    for method, path in GUARDED:
        response = await house.api.request(method, path, headers={"Host": host})
        assert (response.status_code, response.json()["code"]) == (403, "host_not_allowed")
    assert (await house.api.get("/healthz", headers={"Host": host})).status_code == 200


async def test_without_keys_pages_of_other_sites_change_nothing(open_to_this_machine):
    api = open_to_this_machine.api
    for origin in ("https://evil.example", "null", "http://localhost.evil.example", "[", "https://"):
        answer = await api.post("/api/generations", json={"prompt": "x"}, headers={"Origin": origin})
        assert (answer.status_code, answer.json()["code"]) == (403, "origin_not_allowed"), origin
    for origin in ("http://localhost:3000", "http://127.0.0.1:5173", "https://video.example.com"):
        answer = await api.post("/api/generations", json={"prompt": "x"}, headers={"Origin": origin})
        assert answer.status_code == 202, origin
    assert "access-control-allow-origin" not in answer.headers


@pytest.fixture(scope="module")
async def open_to_this_machine(anyio_backend, tmp_path_factory):
    async with open_house(
        tmp_path_factory.mktemp("open"), work=False, public_url="https://Video.example.com/"
    ) as house:
        yield house
