"""Requests that name several providers and members for them: each is held against its own catalogue, all at once."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from pipeline.app import open_plant
from pipeline.config import SettingsError
from tests.house import House, make_settings, open_house
from tests.pipeline.api.settings import SETTINGS

pytestmark = pytest.mark.anyio

OTHERS = {"runway_api_key": "test-key", "replicate_api_key": "test-key", "fallback": "runway:gen4.5,luma"}
UNCAPPED = {"spend_per_user_day": "none", "spend_per_provider_day": "none", "spend_per_day": "none"}


@pytest.fixture(scope="module")
async def house(anyio_backend: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """The mock, Runway and Replicate can be asked; nobody is."""
    async with open_house(tmp_path_factory.mktemp("house"), work=False, **SETTINGS, **OTHERS, **UNCAPPED) as found:
        yield found


def row(house: House, table: str, generation_id: str) -> dict[str, Any]:
    column = "id" if table == "generation" else "subject_id"
    sql = f"SELECT * FROM {table} WHERE {column} = :id"
    found = house.plant.db.read_now(lambda tx: tx.one(sql, {"id": generation_id}))
    assert found is not None
    return found


async def refused(house: House, code: str = "unsupported_parameters", **body: Any) -> dict[str, dict[str, Any]]:
    answer = await house.api.post("/api/generations", json={"prompt": "x", **body})
    assert (answer.status_code, answer.json()["code"]) == (422, code), answer.text
    estimated = await house.api.post("/api/generations/estimate", json={"prompt": "x", **body})
    assert estimated.json()["errors"] == answer.json()["errors"], "the estimate refuses the same"
    return {error["pointer"]: error for error in answer.json()["errors"]}


async def left_out(house: House, generation_id: str) -> list[str]:
    body = (await house.api.get(f"/api/generations/{generation_id}/events")).json()
    return [line["detail"]["provider"] for line in body["data"] if line["event"] == "provider.left_out"]


# --- what is kept ----------------------------------------------------------------------------------------------------


async def test_every_candidate_is_settled_and_kept(house):
    fallback = [{"provider": "runway"}, {"provider": "replicate", "extra": {"input": {"loop": True}}}]
    made = await house.submit(
        "x", provider="mock", fallback=fallback, extra={"tag": 1}, parameters={"resolution": "720p"}
    )
    assert (made["provider"], made["model"]) == ("mock", "mock-1")
    assert made["fallback"] == [
        {"provider": "runway", "model": "gen4.5"},
        {"provider": "replicate", "model": "google/veo-3.1-fast"},
    ]
    assert (made["estimatedCostMicros"], made["warnings"], made["eta"]) == (400_000, [], None)
    kept = row(house, "generation", made["id"])
    assert [each["provider"] for each in json.loads(kept["chain"])] == ["mock", "runway", "replicate"]
    assert [each["extra"] for each in json.loads(kept["chain"])] == [{"tag": 1}, {}, {"input": {"loop": True}}]
    assert (kept["candidate"], kept["duration"], kept["extra"], kept["reserved_micros"]) == (0, 8, '{"tag": 1}', 0)
    job = row(house, "job", made["id"])
    assert (job["lane"], job["fallback"]) == ("provider:mock", 1)


async def test_the_answer_names_the_price_of_the_dearest_who_may_be_asked(house):
    asked = {"prompt": "x", "provider": "mock", "fallback": [{"provider": "runway"}]}
    found = (await house.api.post("/api/generations/estimate", json=asked)).json()["candidates"]
    prices = [each["estimatedCostMicros"] for each in found]
    assert prices[1] > prices[0]
    made = (await house.api.post("/api/generations", json=asked)).json()
    assert (made["estimatedCostMicros"], made["maxEstimatedCostMicros"]) == (prices[0], max(prices))
    several = (await house.api.post("/api/generations", json=[asked])).json()["data"]
    assert several[0]["generation"]["maxEstimatedCostMicros"] == max(prices)


async def test_one_provider_needs_no_chain(house):
    made = await house.submit("x", provider="mock")
    assert row(house, "generation", made["id"])["chain"] == "[]"
    assert row(house, "job", made["id"])["fallback"] == 0


async def test_an_unknown_model_is_taken_with_a_warning(house):
    made = await house.submit("x", provider="runway", model="gen-99")
    assert made["model"] == "gen-99"
    assert "'gen-99' is not in the catalogue" in made["warnings"][0]
    assert made["estimatedCostMicros"] >= 1_000_000


# --- FALLBACK --------------------------------------------------------------------------------------------------------


async def test_who_names_nobody_gets_the_services_own_chain(house):
    made = await house.submit("x", parameters={"duration": 6})
    assert made["fallback"] == [{"provider": "runway", "model": "gen4.5"}]
    assert await left_out(house, made["id"]) == ["luma"], "it has no key"


@pytest.mark.parametrize(
    "named", [{"provider": "mock"}, {"model": "mock-1"}, {"fallback": []}, {"fallback": [{"provider": "replicate"}]}]
)
async def test_who_names_somebody_gets_what_was_named(house, named):
    made = await house.submit("x", **named)
    assert [each["provider"] for each in made["fallback"]] == [each["provider"] for each in named.get("fallback", [])]


async def test_what_only_the_services_own_chain_cannot_do_is_no_reason_to_refuse(house):
    made = await house.submit("x", parameters={"duration": 20})
    assert made["fallback"] == []
    assert await left_out(house, made["id"]) == ["runway", "luma"]
    assert row(house, "job", made["id"])["fallback"] == 0


@pytest.mark.parametrize(
    ("fallback", "said"),
    [("veo", "there is no provider 'veo'"), ("runway,mock:mock-0", "shut mock-0 down"), ("runway:,x", "'x'")],
)
async def test_a_chain_of_the_service_that_cannot_be_refuses_the_start(tmp_path, fallback, said):
    with pytest.raises(SettingsError, match="FALLBACK") as error:
        async with open_plant(make_settings(tmp_path, fallback=fallback)):
            pass
    assert said in str(error.value)


# --- who is not configured -------------------------------------------------------------------------------------------


async def test_the_first_that_can_be_asked_is_asked_first(house):
    made = await house.submit("x", provider="luma", fallback=[{"provider": "fal"}, {"provider": "runway"}])
    assert (made["provider"], made["model"], made["fallback"]) == ("runway", "gen4.5", [])
    assert await left_out(house, made["id"]) == ["luma", "fal"]
    assert row(house, "job", made["id"])["lane"] == "provider:runway"


async def test_nobody_who_can_be_asked_is_refused_naming_the_settings(house):
    errors = await refused(house, "provider_not_configured", provider="luma", fallback=[{"provider": "fal"}])
    assert "LUMA_API_KEY" in errors["/provider"]["detail"]
    assert "FAL_API_KEY" in errors["/fallback/0/provider"]["detail"]
    assert errors["/provider"]["allowed"] == ["mock", "replicate", "runway"]


async def test_a_name_that_is_none_is_refused_wherever_it_stands(house):
    errors = await refused(house, "unknown_provider", fallback=[{"provider": "runway"}, {"provider": "veo"}])
    assert set(errors) == {"/fallback/1/provider"}


# --- what a fallback cannot do ---------------------------------------------------------------------------------------


async def test_what_only_a_fallback_does_not_take_is_said_of_it(house):
    errors = await refused(
        house, parameters={"duration": 20, "resolution": "480p"}, fallback=[{"provider": "runway"}], provider="mock"
    )
    assert set(errors) == {"/fallback/0"}
    found = await house.api.post(
        "/api/generations",
        json={"prompt": "x", "parameters": {"duration": 20}, "fallback": [{"provider": "runway"}]},
    )
    (error,) = found.json()["errors"]
    assert error["detail"].startswith("parameters/duration: 20 is not offered by gen4.5; taken would be 2, 3")
    assert error["allowed"] == list(range(2, 11))


async def test_members_of_its_own_are_pointed_at(house):
    errors = await refused(
        house,
        fallback=[{"provider": "mock", "model": "mock-0"}, {"provider": "runway", "extra": {"promptText": "y"}}],
        provider="replicate",
    )
    assert set(errors) == {"/fallback/0/model", "/fallback/1/extra/promptText"}
    assert errors["/fallback/0/model"]["allowed"] == ["mock-1"]


async def test_extra_adds_and_replaces_nothing(house):
    errors = await refused(house, provider="runway", extra={"promptText": "another", "seedling": 1})
    assert set(errors) == {"/extra/promptText"}


async def test_what_costs_more_is_refused_unless_the_operator_allows_it(house, tmp_path):
    dear = {"input": {"fps": 60}}
    errors = await refused(house, provider="replicate", extra=dear, fallback=[{"provider": "runway", "extra": dear}])
    assert set(errors) == {"/extra/input/fps", "/fallback/0/extra/input/fps"}
    settings = SETTINGS | OTHERS | {"extra_allowed": "replicate:FPS, replicate:steps"}
    async with open_house(tmp_path / "allowed", work=False, **settings) as other:
        made = await other.submit("x", provider="replicate", extra=dear)
        assert json.loads(row(other, "generation", made["id"])["extra"]) == dear
        assert set(await refused(other, provider="runway", extra=dear)) == {"/extra/input/fps"}
        assert set(await refused(other, provider="replicate", extra={"webhook": "x"})) == {"/extra/webhook"}


@pytest.mark.parametrize(
    ("allowed", "said"), [("veo:n", "there is no provider 'veo'"), ("runway", "'runway'"), ("runway:", "'runway:'")]
)
async def test_what_is_allowed_of_nobody_refuses_the_start(tmp_path, allowed, said):
    with pytest.raises(SettingsError, match="EXTRA_ALLOWED") as error:
        async with open_plant(make_settings(tmp_path, extra_allowed=allowed)):
            pass
    assert said in str(error.value)


async def test_nobody_is_asked_twice(house):
    twice = [{"provider": "runway"}, {"provider": "runway", "model": "gen4.5"}]
    assert set(await refused(house, "invalid_request", provider="mock", fallback=twice)) == {"/fallback/1"}
    assert set(await refused(house, "invalid_request", fallback=[{"provider": "mock"}])) == {"/fallback/0"}
    made = await house.submit("x", provider="runway", fallback=[{"provider": "runway", "model": "veo3.1"}])
    assert made["fallback"] == [{"provider": "runway", "model": "veo3.1"}]


# --- bounds ----------------------------------------------------------------------------------------------------------


def nested(depth: int) -> Any:
    return {"a": nested(depth - 1)} if depth > 1 else {}


@pytest.mark.parametrize("extra", [nested(8), {"a": "x" * 16_300}, {"big": 2**63 - 1, "f": 1e300}, {"ü": ["ö", None]}])
async def test_extra_that_can_be_taken(house, extra):
    made = await house.submit("x", provider="mock", extra=extra)
    assert json.loads(row(house, "generation", made["id"])["extra"]) == extra


@pytest.mark.parametrize(
    "raw",
    [
        json.dumps(nested(9)),
        json.dumps({"a": "x" * 16_400}),
        '{"a": "\\u0000"}',
        '{"\\u0000": 1}',
        '{"a": NaN}',
        '{"a": [-Infinity]}',
        '{"a": 1e999}',
        f'{{"a": {"9" * 5000}}}',
        f'{{"a": {2**63}}}',
        '{"": {"seconds": "12"}}',
        '{"a": [{"": 1}]}',
        '{"a": {" b": 1}}',
        '{"b\\u00a0": 1}',
        "[]",
        '"x"',
        "null",
    ],
)
@pytest.mark.parametrize("at", ["/extra", "/fallback/0/extra"])
async def test_extra_that_cannot(house, raw, at):
    place = f'"extra": {raw}' if at == "/extra" else f'"fallback": [{{"provider": "runway", "extra": {raw}}}]'
    answer = await house.api.post(
        "/api/generations", content=f'{{"prompt": "x", {place}}}', headers={"Content-Type": "application/json"}
    )
    problem = answer.json()
    if problem["code"] != "invalid_json":  # what the parser itself does not take
        assert (answer.status_code, problem["code"]) == (422, "invalid_request"), answer.text
        assert [error["pointer"] for error in problem["errors"]] == [at]
    assert answer.status_code in {400, 422}


@pytest.mark.parametrize("code", ["\\ud800", "\\udc00 x"])
async def test_half_a_character_is_refused(house, code):
    answer = await house.api.post(
        "/api/generations",
        content=f'{{"prompt": "x", "extra": {{"a": "{code}"}}}}',
        headers={"Content-Type": "application/json"},
    )
    assert answer.status_code in {400, 422}


async def test_a_chain_has_an_end(house):
    fallback = [{"provider": "runway", "model": f"m{number}"} for number in range(6)]
    assert set(await refused(house, "invalid_request", fallback=fallback)) == {"/fallback"}
    made = await house.submit("x", fallback=fallback[:5])
    assert len(made["fallback"]) == 5


@pytest.mark.parametrize(
    ("fallback", "pointer"),
    [
        ([{"provider": ""}], "/fallback/0/provider"),
        ([{"model": "x"}], "/fallback/0/provider"),
        ([{"provider": "runway", "prompt": "y"}], "/fallback/0/prompt"),
        (["runway"], "/fallback/0"),
        ("runway", "/fallback"),
    ],
)
async def test_a_fallback_is_read_strictly(house, fallback, pointer):
    assert set(await refused(house, "invalid_request", fallback=fallback)) == {pointer}


async def test_the_same_key_with_another_chain_is_another_request(house, name):
    key = {"Idempotency-Key": name()}
    body = {"prompt": "x", "provider": "mock", "extra": {"a": 1}, "fallback": [{"provider": "runway"}]}
    first = await house.api.post("/api/generations", json=body, headers=key)
    again = await house.api.post("/api/generations", json=body, headers=key)
    assert (first.status_code, again.status_code) == (202, 200)
    for change in ({"extra": {"a": 2}}, {"fallback": []}, {"fallback": [{"provider": "replicate"}]}):
        other = await house.api.post("/api/generations", json=body | change, headers=key)
        assert other.json()["code"] == "idempotency_conflict"


async def test_deleting_leaves_no_word_of_it(house):
    made = await house.submit("x", provider="mock", extra={"secret": 1}, fallback=[{"provider": "runway"}])
    await house.api.post(f"/api/generations/{made['id']}/cancel")
    assert (await house.api.delete(f"/api/generations/{made['id']}")).status_code == 204
    kept = row(house, "generation", made["id"])
    assert (kept["extra"], kept["chain"], kept["candidate"], kept["warnings"]) == ("{}", "[]", 0, None)
