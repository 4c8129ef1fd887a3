"""The same request, sent again: one generation, whatever happened to the first answer."""

from __future__ import annotations

import asyncio
import base64
from contextlib import AsyncExitStack

import httpx
import pytest

from pipeline.app import make_api, open_plant
from pipeline.server import HttpServer
from tests.house import House

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def house(house_on_each_engine):
    return house_on_each_engine


PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(100)).decode()
PICTURE = {"prompt": "x", "parameters": {"image": {"data": PNG, "mimeType": "image/png"}}}


async def post(api: httpx.AsyncClient, body: dict, key: str | None = None) -> httpx.Response:
    return await api.post("/api/generations", json=body, headers={} if key is None else {"Idempotency-Key": key})


def rows(house: House, column: str, value: str) -> int:
    sql = f"SELECT count(*) FROM generation WHERE {column} = :value"
    return house.plant.db.read_now(lambda tx: tx.value(sql, {"value": value}))


def inputs(house: House) -> int:
    return sum(path.is_file() for path in (house.plant.settings.data_dir / "files" / "inputs").rglob("*"))


async def test_the_same_key_and_body_are_answered_with_the_first_generation(house, name):
    key = name()
    first = await post(house.api, {"prompt": "x"}, key)
    again = await post(house.api, {"prompt": "x"}, key)
    assert (first.status_code, again.status_code) == (202, 200)
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    assert again.headers["location"] == first.headers["location"]
    assert again.json() == first.json()


async def test_a_member_left_out_is_the_same_as_its_default(house, name):
    key = name()
    await post(house.api, {"prompt": "x"}, key)
    spelled = {"prompt": " x ", "priority": 5, "metadata": {}, "parameters": {"seed": None}, "userId": None}
    assert (await post(house.api, spelled, key)).status_code == 200


async def test_the_same_key_with_another_body_is_a_conflict(house, name):
    key = name()
    first = (await post(house.api, {"prompt": "x"}, key)).json()
    for other in ({"prompt": "y"}, {"prompt": "x", "parameters": {"seed": 1}}, {"prompt": "x", "metadata": {"a": "b"}}):
        answer = await post(house.api, other, key)
        assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_conflict")
        assert answer.json()["existingId"] == first["id"]


async def test_quotes_of_a_structured_field_are_no_part_of_the_key(house, name):
    key = name()
    await post(house.api, {"prompt": "x"}, key)
    assert (await post(house.api, {"prompt": "x"}, f'"{key}"')).status_code == 200


@pytest.mark.parametrize("key", ["", '""', "two words", "x" * 256, "ü".encode()])
async def test_keys_that_cannot_be_used(house, key):
    answer = await post(house.api, {"prompt": "x"}, key)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_idempotency_key")


async def test_two_keys_on_one_request_are_none(house, name):
    headers = [("Idempotency-Key", name()), ("Idempotency-Key", name())]
    answer = await house.api.post("/api/generations", json={"prompt": "x"}, headers=headers)
    assert answer.status_code == 400


async def test_the_apps_own_id_repeats_too(house, name):
    client_id = name()
    first = await post(house.api, {"prompt": "x", "generationId": client_id})
    again = await post(house.api, {"prompt": "x", "generationId": client_id}, name())
    other = await post(house.api, {"prompt": "y", "generationId": client_id})
    assert (first.status_code, again.status_code, other.status_code) == (202, 200, 409)
    assert again.json()["id"] == first.json()["id"] == other.json()["existingId"]
    assert other.json()["code"] == "generation_id_conflict"
    assert other.json()["errors"] == [{"pointer": "/generationId", "detail": "is taken"}]


async def test_a_key_of_one_generation_and_an_id_of_another_are_a_conflict(house, name):
    key, client_id = name(), name()
    by_key = (await post(house.api, {"prompt": "x"}, key)).json()
    await post(house.api, {"prompt": "y", "generationId": client_id})
    answer = await post(house.api, {"prompt": "y", "generationId": client_id}, key)
    assert (answer.status_code, answer.json()["existingId"]) == (422, by_key["id"])


async def test_keys_belong_to_a_tenant(house, name):
    key = name()
    first = (await post(house.api, {"prompt": "x"}, key)).json()
    await house.plant.db.write(
        lambda tx: tx.update("generation", {"tenant_id": "other"}, "id = :id", {"id": first["id"]})
    )
    mine = await post(house.api, {"prompt": "y"}, key)
    assert mine.status_code == 202
    # The operator, who calls here, reaches anybody's generation by our id, and lists only the own.
    assert (await house.api.get(f"/api/generations/{first['id']}")).status_code == 200
    listed = (await house.api.get("/api/generations", params={"generationId": first["id"]})).json()
    assert listed["data"] == []


def only_one(house: House, answers: list[httpx.Response], column: str, value: str) -> None:
    codes = [answer.status_code for answer in answers]
    assert codes.count(202) == 1
    assert set(codes) <= {200, 202, 409}
    for answer in answers:
        if answer.status_code == 409:
            assert answer.json()["code"] == "request_in_progress"
            assert answer.json()["retryable"]
            assert answer.headers["retry-after"] == "1"
    assert len({answer.json()["id"] for answer in answers if answer.status_code != 409}) == 1
    assert rows(house, column, value) == 1


async def test_fifty_at_once_make_one(house, name):
    key, client_id = name(), name()
    only_one(
        house,
        await asyncio.gather(*(post(house.api, {"prompt": "x"}, key) for _ in range(50))),
        "idempotency_key",
        key,
    )
    only_one(
        house,
        await asyncio.gather(*(post(house.api, {"prompt": "x", "generationId": client_id}) for _ in range(50))),
        "client_id",
        client_id,
    )


async def test_fifty_at_once_with_a_picture_store_it_once(house, name):
    before, key = inputs(house), name()
    only_one(house, await asyncio.gather(*(post(house.api, PICTURE, key) for _ in range(50))), "idempotency_key", key)
    assert (await post(house.api, PICTURE, key)).status_code == 200
    assert inputs(house) == before + 1


async def test_a_refused_repetition_stores_no_picture(house, name):
    key, before = name(), inputs(house)
    await post(house.api, {"prompt": "x"}, key)
    assert (await post(house.api, PICTURE, key)).status_code == 422
    assert inputs(house) == before


async def test_two_processes_on_one_database_make_one(house, name):
    """A second API with its own writer, as `dailies api` started twice."""
    async with AsyncExitStack() as stack:
        plant = await stack.enter_async_context(open_plant(house.plant.settings))
        server = await stack.enter_async_context(HttpServer(make_api(plant), "127.0.0.1", 0))
        other = await stack.enter_async_context(
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", timeout=10)
        )
        for body in ({"prompt": "x"}, PICTURE):
            key, before = name(), inputs(house)
            answers = await asyncio.gather(*(post((house.api, other)[n % 2], body, key) for n in range(50)))
            only_one(house, answers, "idempotency_key", key)
            assert inputs(house) == before + ("parameters" in body)
