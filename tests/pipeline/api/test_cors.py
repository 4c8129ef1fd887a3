"""Pages of other origins: those of CORS_ORIGINS may call and read every answer, and nobody else is let in by it."""

from __future__ import annotations

import pytest

from pipeline.config import SettingsError, load_settings
from tests.house import House, open_house
from tests.sse import stream

pytestmark = pytest.mark.anyio

APP = "https://app.example.com"
KEY = {"Authorization": "Bearer a-key"}
PREFLIGHT = {
    "Origin": APP,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type,idempotency-key",
}


@pytest.fixture(scope="module")
async def keyed(anyio_backend, tmp_path_factory):
    """With a key, open to the pages of one origin."""
    folder = tmp_path_factory.mktemp("keyed")
    async with open_house(folder, work=False, api_key="a-key", cors_origins=f"{APP},http://localhost:3000") as house:
        yield house


@pytest.fixture(scope="module")
async def keyless(anyio_backend, tmp_path_factory):
    async with open_house(tmp_path_factory.mktemp("keyless"), work=False, cors_origins=APP) as house:
        yield house


def allowed(response) -> str | None:
    return response.headers.get("access-control-allow-origin")


async def test_a_preflight_needs_no_key(keyed: House):
    response = await keyed.api.options("/api/generations", headers=PREFLIGHT)
    assert (response.status_code, allowed(response)) == (200, APP)
    assert "POST" in response.headers["access-control-allow-methods"]
    assert "access-control-allow-credentials" not in response.headers
    private = PREFLIGHT | {"Access-Control-Request-Private-Network": "true"}
    response = await keyed.api.options("/api/generations", headers=private)
    assert response.headers["access-control-allow-private-network"] == "true"


async def test_a_page_that_may_call_reads_what_it_needs(keyed: House):
    headers = KEY | {"Origin": APP, "Idempotency-Key": "a-page"}
    response = await keyed.api.post("/api/generations", json={"prompt": "a fox on a page"}, headers=headers)
    assert (response.status_code, allowed(response)) == (202, APP)
    assert "Origin" in response.headers["vary"]
    exposed = {name.strip() for name in response.headers["access-control-expose-headers"].split(",")}
    assert {"Location", "Retry-After", "ETag", "RateLimit", "X-Request-Id", "Idempotency-Replayed"} <= exposed


async def test_refusals_can_be_read_by_a_page_as_well(keyed: House):
    page = {"Origin": APP}
    refused = [
        await keyed.api.get("/api/generations/gen_1", headers=page),
        await keyed.api.get("/api/generations/gen_1", headers=page | KEY),
        await keyed.api.post("/api/generations", json={}, headers=page | KEY),
        await keyed.api.get("/nothing", headers=page),
        await keyed.api.get("/api/generations/gen_1/events?token=x", headers=page | {"Accept": "text/event-stream"}),
        await keyed.api.get("/api/generations?status=%00", headers=page),
    ]
    assert [response.status_code for response in refused] == [401, 404, 422, 404, 401, 400]
    assert {allowed(response) for response in refused} == {APP}


@pytest.mark.parametrize("origin", ["https://evil.example", "https://app.example.com.evil.example", "null", f"{APP}:8"])
async def test_other_pages_are_told_nothing(keyed: House, origin):
    response = await keyed.api.options("/api/generations", headers=PREFLIGHT | {"Origin": origin})
    assert (response.status_code, allowed(response)) == (400, None)
    response = await keyed.api.get("/api/generations", headers=KEY | {"Origin": origin})
    assert (response.status_code, allowed(response)) == (200, None)


async def test_a_stream_is_open_to_a_page_with_a_token(keyed: House):
    made = (await keyed.api.post("/api/generations", json={"prompt": "a fox"}, headers=KEY)).json()
    page = KEY | {"Origin": APP}
    token = (await keyed.api.post(f"/api/generations/{made['id']}/tokens", json={}, headers=page)).json()["token"]
    async with stream(keyed.api.base_url, f"/api/generations/{made['id']}/events?token={token}", Origin=APP) as opened:
        assert allowed(opened.response) == APP
        assert opened.response.headers["vary"] == "Accept, Origin"
        await opened.until(lambda event: event.name == "queued")


async def test_without_a_key_a_page_that_is_named_may_do_what_this_machine_may(keyless: House):
    response = await keyless.api.post("/api/generations", json={"prompt": "a fox"}, headers={"Origin": APP})
    assert (response.status_code, allowed(response)) == (202, APP)
    response = await keyless.api.post(
        "/api/generations", json={"prompt": "x"}, headers={"Origin": "https://evil.example"}
    )
    assert (response.status_code, response.json()["code"], allowed(response)) == (403, "origin_not_allowed", None)
    response = await keyless.api.get("/api/generations", headers={"Origin": APP, "Host": "evil.example"})
    assert (response.status_code, response.json()["code"]) == (403, "host_not_allowed")


async def test_every_page_means_none_while_there_is_no_key(tmp_path):
    async with open_house(tmp_path, work=False, cors_origins="*") as house:
        for method in ("GET", "POST"):
            response = await house.api.request(
                method, "/api/generations", headers={"Origin": "https://evil.example"}, json={"prompt": "x"}
            )
            assert (response.status_code, response.json()["code"]) == (403, "origin_not_allowed")
            assert "CORS_ORIGINS" in response.json()["detail"]
        own = await house.api.get("/api/generations", headers={"Origin": "http://localhost:3000"})
        assert own.status_code == 200


async def test_every_page_may_call_with_a_key(tmp_path):
    async with open_house(tmp_path, work=False, api_key="a-key", cors_origins="*") as house:
        headers = KEY | {"Origin": "https://anything.example"}
        response = await house.api.get("/api/generations", headers=headers)
        assert (response.status_code, allowed(response)) == (200, "*")
        response = await house.api.get("/api/generations", headers={"Origin": "https://anything.example"})
        assert (response.status_code, allowed(response)) == (401, "*")


async def test_without_the_setting_no_page_is_told_anything(house):
    response = await house.api.options("/api/generations", headers=PREFLIGHT)
    assert (response.status_code, allowed(response)) == (405, None)
    assert allowed(await house.api.get("/api/generations", headers={"Origin": "http://localhost:3000"})) is None


@pytest.mark.parametrize(
    "origin", ["app.example.com", f"{APP}/", f"{APP}/app", "HTTPS://app.example.com", "null", "ftp://x"]
)
async def test_what_is_no_origin_is_named(origin, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CORS_ORIGINS", f"http://[::1]:3000,{origin}")
    with pytest.raises(SettingsError, match=r"CORS_ORIGINS: .* is no origin"):
        load_settings()
