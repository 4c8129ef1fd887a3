"""What can be asked of whom and what it costs, and what a request would cost and take, before anything is paid."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import Any

import pytest

from pipeline.api.estimate import usd
from providers.catalogue import load_catalogue
from providers.registry import PROVIDERS
from tests.house import House, eventually, open_house
from tests.pipeline.api.settings import SETTINGS

pytestmark = pytest.mark.anyio

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(100)).decode()


@pytest.fixture(scope="module")
async def house(anyio_backend: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    folder = tmp_path_factory.mktemp("house")
    async with open_house(folder, work=False, speed=3.0, **SETTINGS, runway_api_key="k", fallback="runway") as found:
        yield found


async def offers(house: House) -> dict[str, dict[str, Any]]:
    answer = await house.api.get("/api/models")
    assert answer.status_code == 200
    return {each["name"]: each for each in answer.json()["data"]}


async def estimate(house: House, **body: Any) -> dict[str, Any]:
    answer = await house.api.post("/api/generations/estimate", json={"prompt": "x", **body})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def count(house: House, table: str) -> int:
    return int(await house.plant.db.read(lambda tx: tx.value(f"SELECT count(*) FROM {table}")))


# --- models ----------------------------------------------------------------------------------------------------------


async def test_every_provider_is_listed_with_what_it_needs(house):
    found = await offers(house)
    assert set(found) == set(PROVIDERS)
    assert list(found)[:2] == ["mock", "runway"], "those that can be asked come first"
    assert (found["mock"]["ready"], found["mock"]["default"], found["mock"]["playMoney"]) == (True, True, True)
    assert (found["runway"]["ready"], found["runway"]["needs"]) == (True, [])
    lacking = found["luma"]
    assert (lacking["ready"], lacking["needs"], lacking["cancel"]) == (False, ["LUMA_API_KEY"], None)
    assert all(each["models"] and each["catalogueDate"] for each in found.values())


async def test_a_model_is_told_as_its_catalogue_does(house):
    mock = (await offers(house))["mock"]
    (model,) = mock["models"]
    assert model["id"] == "mock-1"
    assert model["default"]
    assert model["durations"] == list(range(1, 61))
    assert (model["defaultDuration"], model["defaultResolution"]) == (8, "360p")
    assert model["prices"] == {"*": 50_000}
    assert model["perImage"] == 0
    grok = next(each for each in (await offers(house))["openrouter"]["models"] if "grok" in each["id"])
    assert grok["perImage"] == 10_000
    assert (model["lastImage"], model["audio"], model["maxPrompt"]) == (True, "optional", 4000)
    assert mock["retired"] == [{"id": "mock-0", "on": "2026-10-01", "successor": "mock-1"}]
    assert (mock["cancel"], mock["callbacks"]) == (True, "token")


async def test_who_is_asked_next_is_told(house):
    answer = (await house.api.get("/api/models")).json()
    assert answer["fallback"] == [{"provider": "runway", "model": None}]


async def test_there_is_nothing_to_narrow_it_by(house):
    assert (await house.api.get("/api/models", params={"provider": "mock"})).status_code == 400


# --- estimates -------------------------------------------------------------------------------------------------------


async def test_nothing_is_stored_and_nobody_is_asked(house):
    before = [await count(house, table) for table in ("generation", "job", "submission")]
    picture = {"data": PNG, "mimeType": "image/png"}
    found = await estimate(house, parameters={"image": picture, "lastImage": picture}, provider="mock")
    assert found["candidates"][0]["parameters"]["lastImage"] == {"mimeType": "image/png"}
    assert [await count(house, table) for table in ("generation", "job", "submission")] == before
    assert not (house.plant.settings.data_dir / "files" / "inputs").exists()
    assert await house.ledger() == []


async def test_each_that_would_be_asked_has_its_own_price_and_time(house):
    found = await estimate(house, parameters={"resolution": "720p"})
    mine, other = found["candidates"]
    assert (mine["provider"], mine["model"]) == ("mock", "mock-1")
    assert mine["parameters"] == {"duration": 8, "resolution": "720p"}
    assert (mine["estimatedCostMicros"], mine["estimatedCostUsd"]) == (400_000, "0.40")
    typical = house.plant.providers.ready["mock"].capabilities.catalogue.models["mock-1"].typical_seconds
    assert mine["expectedSeconds"] == {"p50": typical, "p90": 2 * typical, "samples": 0, "basis": "catalogue"}
    assert (other["provider"], other["parameters"]["duration"]) == ("runway", 5)
    assert other["estimatedCostMicros"] == 5 * load_catalogue("runway").models["gen4.5"].prices["*"]
    assert found["leftOut"] == []


async def test_the_same_is_kept_with_the_generation_that_follows(house):
    body = {"provider": "mock", "parameters": {"duration": 11}}
    found = await estimate(house, **body)
    made = await house.submit("x", **body)
    assert made["estimatedCostMicros"] == found["candidates"][0]["estimatedCostMicros"]


async def test_an_unknown_model_is_warned_of(house):
    (found,) = (await estimate(house, provider="runway", model="gen-99"))["candidates"]
    assert "gen-99" in found["warnings"][0]
    assert found["expectedSeconds"]["p50"] == 60.0


async def test_history_tells_once_there_is_enough(house):
    made = await house.submit("x", provider="mock", parameters={"duration": 13})
    await repeat(house, made["id"], 7, [4, 5, 6, 7, 8, 9, 30])
    (found,) = (await estimate(house, provider="mock", parameters={"duration": 13}))["candidates"]
    assert found["expectedSeconds"] == {"p50": 7.0, "p90": 30.0, "samples": 7, "basis": "history"}


async def test_what_would_be_refused_is_refused(house):
    for body, code in (
        ({"prompt": "x", "parameters": {"duration": 61}}, "unsupported_parameters"),
        ({"prompt": "x", "provider": "luma"}, "provider_not_configured"),
        ({"prompt": "x", "webhook": {"url": "https://evil.example/"}}, "webhook_not_allowed"),
        ({"promt": "x"}, "invalid_request"),
        ([{"prompt": "x"}], "invalid_request"),
    ):
        answer = await house.api.post("/api/generations/estimate", json=body)
        assert (answer.status_code, answer.json()["code"]) == (422, code)


@pytest.mark.parametrize(
    ("micros", "text"), [(0, "0.00"), (400_000, "0.40"), (1_005_000, "1.005"), (12, "0.000012"), (10**9, "1000.00")]
)
def test_money_is_exact(micros, text):
    assert usd(micros) == text


# --- eta -------------------------------------------------------------------------------------------------------------


async def repeat(house: House, generation_id: str, first: int, seconds: list[int]) -> None:
    """Generations like this one that took so long, in the past."""

    def write(tx: Any) -> None:
        row = tx.one("SELECT * FROM generation WHERE id = :id", {"id": generation_id})
        for number, each in enumerate(seconds):
            changed = {"id": f"gen_{first:016x}{number:016x}", "status": "failed", "accepted_at": 1_000}
            tx.insert("generation", row | changed | {"generated_at": 1_000 + each * 1000, "finished_at": 50_000})

    await house.plant.db.write(write)


async def at_stage(house: House, generation_id: str, **values: Any) -> dict[str, Any]:
    changed = {"status": "processing", "accepted_at": 1_800_000_000_000} | values
    await house.plant.db.write(lambda tx: tx.update("generation", changed, "id = :id", {"id": generation_id}))
    return await house.get(generation_id)


async def test_while_its_provider_works_a_generation_says_when_it_should_be_done(house):
    made = await house.submit("x", provider="mock", parameters={"duration": 17})
    assert made["eta"] is None
    shown = await at_stage(house, made["id"], stage="generating")
    typical = house.plant.providers.ready["mock"].capabilities.catalogue.models["mock-1"].typical_seconds
    assert shown["eta"] == {
        "p50": f"2027-01-15T08:00:{typical:06.3f}Z",
        "p90": f"2027-01-15T08:00:{2 * typical:06.3f}Z",
    }
    await repeat(house, made["id"], 9, [4, 5, 6, 7, 8])
    house.plant.durations._entries.clear()

    async def look() -> dict[str, Any]:
        return await house.get(made["id"])

    learned = await eventually(look, lambda g: g["eta"]["p50"] != shown["eta"]["p50"], 5)
    assert learned["eta"] == {"p50": "2027-01-15T08:00:06.000Z", "p90": "2027-01-15T08:00:08.000Z"}


@pytest.mark.parametrize(
    "values",
    [
        {"stage": "held"},
        {"stage": "storing"},
        {"stage": "submitting", "accepted_at": None},
        {"status": "cancelled", "stage": None},
        {"status": "queued", "stage": "waiting", "accepted_at": None},
    ],
)
async def test_at_other_times_it_does_not(house, values):
    made = await house.submit("x", provider="mock")
    assert (await at_stage(house, made["id"], **values))["eta"] is None
