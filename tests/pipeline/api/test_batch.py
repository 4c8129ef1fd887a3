"""Many requests in one call: one commit, an answer to each, and what is wrong with one hinders no other."""

from __future__ import annotations

import base64
import json

import httpx
import pytest

from pipeline.db import CommitUnknown, WriterFull
from tests.house import House

pytestmark = pytest.mark.anyio

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(100)).decode()
PICTURE = {"prompt": "x", "parameters": {"image": {"data": PNG, "mimeType": "image/png"}}}


@pytest.fixture(scope="module")
def house(house_on_each_engine):
    return house_on_each_engine


async def post(house: House, items: list, key: str | None = None) -> httpx.Response:
    headers = {} if key is None else {"Idempotency-Key": key}
    return await house.api.post("/api/generations", json=items, headers=headers)


async def raw(house: House, text: bytes) -> httpx.Response:
    return await house.api.post("/api/generations", content=text, headers={"Content-Type": "application/json"})


def inputs(house: House) -> int:
    return sum(path.is_file() for path in (house.plant.settings.data_dir / "files" / "inputs").rglob("*"))


def total(house: House) -> int:
    return house.plant.db.read_now(lambda tx: tx.value("SELECT count(*) FROM generation"))


async def test_a_hundred_are_kept_with_one_commit_in_their_order(house):
    await house.api.get("/api/generations")
    before = house.plant.db.commits
    answer = await post(house, [{"prompt": f"fox {n}"} for n in range(100)])
    assert answer.status_code == 202
    body = answer.json()
    assert body["object"] == "batch"
    assert [item["status"] for item in body["data"]] == [202] * 100
    assert [item["generation"]["prompt"] for item in body["data"]] == [f"fox {n}" for n in range(100)]
    assert house.plant.db.commits == before + 1
    for item in (body["data"][0], body["data"][99]):
        assert item["generation"] == await house.get(item["generation"]["id"])


async def test_an_item_with_mistakes_hinders_no_other(house, name):
    taken, before = name(), total(house)
    await house.submit("x", generationId=taken)
    items = [
        {"prompt": "x"},
        {"prompt": ""},
        {"prompt": "x", "provider": "nobody"},
        {"prompt": "x", "parameters": {"duration": 99}},
        {"prompt": "y", "generationId": taken},
        {"prompt": "x", "generationId": taken},
        5,
        [],
        None,
        PICTURE,
    ]
    answer = await post(house, items)
    assert answer.status_code == 200
    found = answer.json()["data"]
    assert [item["status"] for item in found] == [202, 422, 422, 422, 409, 200, 422, 422, 422, 202]
    codes = [item["problem"]["code"] for item in found if "problem" in item]
    assert codes == [
        "invalid_request",
        "unknown_provider",
        "unsupported_parameters",
        "generation_id_conflict",
        *["invalid_request"] * 3,
    ]
    assert found[1]["problem"]["errors"][0]["pointer"] == "/prompt"
    assert found[4]["problem"]["existingId"] == found[5]["generation"]["id"]
    assert found[1]["problem"]["requestId"] == answer.headers["x-request-id"]
    assert total(house) == before + 3


async def test_the_key_of_the_request_is_one_for_each_item(house, name):
    key, before = name(), total(house)
    items = [{"prompt": "x"}, {"prompt": "x"}, PICTURE]
    first = (await post(house, items, key)).json()["data"]
    again = await post(house, items, key)
    assert again.status_code == 200
    assert [item["status"] for item in again.json()["data"]] == [200] * 3
    assert [item["generation"] for item in again.json()["data"]] == [item["generation"] for item in first]
    assert total(house) == before + 3
    other = (await post(house, [{"prompt": "x"}, {"prompt": "y"}], key)).json()["data"]
    assert [item["status"] for item in other] == [200, 422]
    assert other[1]["problem"]["code"] == "idempotency_conflict"


async def test_the_same_id_twice_in_one_call_is_one_generation(house, name):
    one = name()
    answer = await post(house, [{"prompt": "x", "generationId": one}] * 2 + [{"prompt": "y", "generationId": one}])
    assert [item["status"] for item in answer.json()["data"]] == [202, 200, 409]


async def test_pictures_are_kept_for_those_that_are_new_and_for_no_other(house, name):
    key, before = name(), inputs(house)
    with_id = PICTURE | {"generationId": name()}
    answer = await post(house, [with_id, with_id, PICTURE], key)
    assert [item["status"] for item in answer.json()["data"]] == [202, 200, 202]
    assert inputs(house) == before + 2
    await post(house, [with_id, with_id, PICTURE], key)
    assert inputs(house) == before + 2


@pytest.mark.parametrize(("error", "kept"), [(WriterFull("full"), 0), (CommitUnknown("lost"), 2)])
async def test_a_commit_that_failed_leaves_pictures_only_where_it_may_have_been_done(house, monkeypatch, error, kept):
    async def fail(unit, **_):
        raise error

    before = inputs(house)
    monkeypatch.setattr(house.plant.db, "write", fail)
    answer = await post(house, [PICTURE, PICTURE])
    assert answer.status_code == 503
    assert inputs(house) == before + kept


@pytest.mark.parametrize(("count", "code"), [(0, "invalid_request"), (101, "invalid_request")])
async def test_how_many_may_come_at_once(house, count, code):
    before = total(house)
    answer = await post(house, [{"prompt": "x"}] * count)
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert total(house) == before


@pytest.mark.parametrize(
    "text",
    [
        b"[",
        b"[{}",
        b'[{"prompt": "x"}',
        b'[{"prompt": "x"},]',
        b'[{"prompt": "x"}]]',
        b'[{"prompt": "x"}] x',
        b'[{"prompt": "x"} {"prompt": "x"}]',
        b"[,]",
        b'[{"prompt": "\xff"}]',
        b"[" * 100_000,
        b"[" + b"9" * 5000 + b"]",
    ],
)
async def test_what_is_no_array_to_its_end_is_refused_whole(house, text):
    before = total(house)
    answer = await raw(house, text)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_json")
    assert total(house) == before


async def test_each_item_is_read_as_strictly_as_alone(house):
    text = b' [ {"prompt": "x", "prompt": "y"} , {"prompt": "x", "priority": NaN},\n{"prompt": "x", "seed": 1} , {} ] '
    found = (await raw(house, text)).json()["data"]
    assert [item["status"] for item in found] == [400, 422, 422, 422]
    assert "given twice" in found[0]["problem"]["detail"]


async def test_a_large_array_is_read_off_the_loop(house):
    items = [{"prompt": "x" * 2000, "metadata": {"n": str(n)}} for n in range(100)]
    assert len(json.dumps(items)) > 100_000
    answer = await post(house, items)
    assert [item["generation"]["metadata"]["n"] for item in answer.json()["data"]] == [str(n) for n in range(100)]
