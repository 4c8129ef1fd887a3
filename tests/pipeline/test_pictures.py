"""The pictures that come with a request, the first and the last: kept, sent, pruned, deleted and swept alike."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from pipeline import retention
from pipeline.lifecycle import Advance, Retry, Step
from pipeline.names import generation_of, input_key, last_input_key
from pipeline.storage import StorageUnavailable
from providers.base import Provider, SubmitContext, SubmitResult, VideoRequest
from tests.house import House, open_house
from tests.pipeline.provider_script import Hand, by_hand
from tests.pipeline.yard import DAY, Yard

pytestmark = pytest.mark.anyio

FIRST, LAST = b"\x89PNG\r\n\x1a\n" + bytes(100), b"\xff\xd8\xff" + bytes(200)
BOTH = {
    "image": {"data": base64.b64encode(FIRST).decode(), "mimeType": "image/png"},
    "lastImage": {"data": base64.b64encode(LAST).decode(), "mimeType": "image/jpeg"},
}
ADDRESS = {"image": {"url": "https://x.example/a.png"}, "lastImage": {"url": "https://x.example/z.png"}}


class Recording:
    """A provider that remembers what it was asked."""

    def __init__(self, inner: Provider) -> None:
        self.inner, self.name, self.capabilities = inner, inner.name, inner.capabilities
        self.asked: list[VideoRequest] = []

    async def submit(self, request: VideoRequest, context: SubmitContext) -> SubmitResult:
        self.asked.append(request)
        return await self.inner.submit(request, context)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def recording(hand: Hand) -> Recording:
    ready = hand.house.plant.providers.ready
    wrapped = Recording(ready["mock"])
    ready["mock"] = wrapped
    return wrapped


def files(house: House) -> list[str]:
    root = house.plant.settings.data_dir / "files"
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def row(house: House, generation_id: str) -> dict[str, Any]:
    found = house.plant.db.read_now(lambda tx: tx.one("SELECT * FROM generation WHERE id = :id", {"id": generation_id}))
    assert found is not None
    return found


async def test_both_are_kept_and_sent(tmp_path: Path) -> None:
    async with by_hand(tmp_path) as hand:
        provider = recording(hand)
        made = await hand.house.submit("x", parameters=BOTH, extra={"tag": 1})
        assert made["parameters"] == {"image": {"mimeType": "image/png"}, "lastImage": {"mimeType": "image/jpeg"}}
        assert files(hand.house) == [input_key("default", made["id"]), last_input_key("default", made["id"])]
        assert isinstance(await hand.take(Step.SUBMIT), Advance)
        (asked,) = provider.asked
        assert asked.image is not None
        assert asked.last_image is not None
        assert (asked.image.data, asked.image.mime_type) == (FIRST, "image/png")
        assert (asked.last_image.data, asked.last_image.mime_type) == (LAST, "image/jpeg")
        assert (asked.model, asked.duration, asked.extra) == ("mock-1", 8, {"tag": 1})


async def test_addresses_are_passed_on(tmp_path: Path) -> None:
    async with by_hand(tmp_path) as hand:
        provider = recording(hand)
        made = await hand.house.submit("x", parameters=ADDRESS)
        assert made["parameters"] == ADDRESS
        assert files(hand.house) == []
        await hand.take(Step.SUBMIT)
        assert provider.asked[0].last_image is not None
        assert provider.asked[0].last_image.url == ADDRESS["lastImage"]["url"]


@pytest.mark.parametrize("gone", ["input_key", "last_input_key"])
async def test_nothing_is_paid_once_one_of_them_is_gone(tmp_path: Path, gone: str) -> None:
    async with by_hand(tmp_path) as hand:
        provider = recording(hand)
        made = await hand.house.submit("x", parameters=BOTH)
        await hand.change("generation", **{gone: None})
        assert isinstance(await hand.take(Step.SUBMIT), Retry)
        assert provider.asked == []
        assert "submit.intended" not in await hand.house.timeline(made["id"])


async def test_of_two_that_cannot_both_be_kept_none_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_house(tmp_path, work=False) as house:
        storage = house.plant.storage
        real = storage.put

        async def put(key: str, source: Path, **words: Any) -> None:
            if key.endswith(".last"):
                raise StorageUnavailable("the disk is full")
            await real(key, source, **words)

        monkeypatch.setattr(storage, "put", put)
        answer = await house.api.post("/api/generations", json={"prompt": "x", "parameters": BOTH})
        assert (answer.status_code, answer.json()["code"]) == (503, "storage_unavailable")
        assert files(house) == []


async def test_a_repeat_keeps_nothing_twice_and_another_last_picture_is_another_request(tmp_path: Path) -> None:
    async with open_house(tmp_path, work=False) as house:
        key = {"Idempotency-Key": "k"}
        body = {"prompt": "x", "parameters": BOTH}
        assert (await house.api.post("/api/generations", json=body, headers=key)).status_code == 202
        assert (await house.api.post("/api/generations", json=body, headers=key)).status_code == 200
        assert len(files(house)) == 2
        other = {"prompt": "x", "parameters": BOTH | {"lastImage": BOTH["image"]}}
        answer = await house.api.post("/api/generations", json=other, headers=key)
        assert answer.json()["code"] == "idempotency_conflict"
        assert len(files(house)) == 2


@pytest.mark.parametrize(
    ("last", "pointer"),
    [
        ({"data": "aGk=", "mimeType": "image/png"}, "/parameters/lastImage/data"),
        ({"data": "aGk="}, "/parameters/lastImage"),
        ({}, "/parameters/lastImage"),
    ],
)
async def test_a_last_picture_is_looked_at_as_the_first_is(tmp_path: Path, last: object, pointer: str) -> None:
    async with open_house(tmp_path, work=False) as house:
        answer = await house.api.post("/api/generations", json={"prompt": "x", "parameters": {"lastImage": last}})
        assert answer.status_code == 422
        assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]


async def test_both_go_with_the_generation(tmp_path: Path) -> None:
    async with open_house(tmp_path, work=False) as house:
        made = await house.submit("x", parameters=BOTH)
        await house.api.post(f"/api/generations/{made['id']}/cancel")
        assert (await house.api.delete(f"/api/generations/{made['id']}")).status_code == 204
        assert files(house) == []
        kept = row(house, made["id"])
        assert (kept["input_key"], kept["last_input_key"]) == (None, None)


# --- their time ------------------------------------------------------------------------------------------------------


async def with_last(yard: Yard, status: str = "failed", *, first: bool = False) -> str:
    """A generation with a last picture, and perhaps a first one."""
    made = await yard.ended(status, picture=first)
    key = last_input_key("default", made)
    await yard.put(key)
    values = {"last_input_key": key, "last_input_type": "image/png"}
    await yard.db.write(lambda tx: tx.update("generation", values, "id = :id", {"id": made}))
    return made


@pytest.mark.parametrize("first", [False, True])
async def test_a_last_picture_goes_after_its_time(yard: Yard, first: bool) -> None:
    made = await with_last(yard, first=first)
    yard.time.passes(31 * DAY)
    assert await yard.clean(dry_run=True, inputs=30 * DAY) == {"inputs": 1}
    assert await yard.clean(inputs=30 * DAY) == {"inputs": 1}
    assert yard.files() == []
    kept = await yard.row(made)
    assert kept is not None
    assert (kept["last_input_key"], kept["last_input_type"]) == (None, "image/png")
    assert await yard.clean(inputs=30 * DAY) == {}


async def test_it_goes_with_the_whole_generation(yard: Yard) -> None:
    await with_last(yard, first=True)
    yard.time.passes(31 * DAY)
    assert await yard.clean(generations=30 * DAY) == {"generations": 1}
    assert yard.files() == []


async def test_it_is_no_orphan_while_its_row_names_it(yard: Yard) -> None:
    made = await with_last(yard)
    yard.clock.sync(yard.clock.now_ms() + int(2 * DAY * 1000))
    assert (await yard.cleaner().sweep_orphans()).orphans == []
    await yard.db.write(lambda tx: retention.forget_input(tx, made, tx.now + 1))
    (orphan,) = (await yard.cleaner().sweep_orphans()).orphans
    assert orphan.key == last_input_key("default", made)


def test_its_name_says_whose_it_is() -> None:
    generation = f"gen_{'0' * 32}"
    assert generation_of(last_input_key("acme", generation)) == generation
    assert generation_of(f"{last_input_key('acme', generation)}.last") is None
