"""Delete: words and files go, a tombstone stays, and a crash in between is finished by asking again."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipeline.names import video_key
from tests.house import House, eventually, free_port, open_house
from tests.pipeline.api.settings import SETTINGS
from tests.pipeline.provider_script import Script, scripted_house

pytestmark = pytest.mark.anyio

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(100)).decode()
WORDS = ("secret fox", "secret label", "secret-host")


@pytest.fixture(scope="module")
def house(house_on_each_engine):
    return house_on_each_engine


async def delete(house: House, reference: str) -> httpx.Response:
    return await house.api.delete(f"/api/generations/{reference}")


def path_of(house: House, key: str) -> Path:
    path = house.plant.storage.local_path(key)
    assert path is not None
    return path


def row(house: House, generation_id: str) -> dict[str, Any]:
    sql = "SELECT * FROM generation WHERE id = :id"
    found = house.plant.db.read_now(lambda tx: tx.one(sql, {"id": generation_id}))
    assert found is not None
    return found


def everything(house: House) -> str:
    """All that the tables hold, as text."""
    tables = ("generation", "submission", "timeline", "webhook_event", "webhook_delivery", "webhook_attempt", "job")
    return json.dumps(house.plant.db.read_now(lambda tx: [tx.all(f"SELECT * FROM {table}") for table in tables]))


async def test_of_one_that_has_ended_a_tombstone_stays(house, complete):
    made = await complete(house)
    key = row(house, made["id"])["video_key"]
    assert path_of(house, key).exists()
    answer = await delete(house, made["id"])
    assert (answer.status_code, answer.content) == (204, b"")
    assert not path_of(house, key).exists()
    kept = row(house, made["id"])
    assert (kept["prompt"], kept["parameters"], kept["labels"], kept["video_key"]) == ("", "{}", "{}", None)
    assert kept["video_sha256"] == made["result"]["sha256"]
    assert kept["request_hash"]
    assert (kept["status"], kept["deleted_at"] is not None) == ("completed", True)


async def test_what_is_deleted_answers_410_and_is_not_listed(house, complete, name):
    made = await complete(house)
    await delete(house, made["id"])
    for method, path in (
        ("GET", ""),
        ("GET", "/events"),
        ("GET", "/content"),
        ("POST", "/cancel"),
        ("POST", "/redrive"),
    ):
        answer = await house.api.request(method, f"/api/generations/{made['id']}{path}")
        assert (answer.status_code, answer.json()["code"]) == (410, "gone"), path
    played = await house.api.get(made["result"]["videoUrl"])
    assert played.status_code == 410
    listed = (await house.api.get("/api/generations", params={"generationId": made["id"]})).json()
    assert listed["data"] == []
    tombs = await house.api.get("/api/generations", params={"generationId": made["id"], "deleted": "true"})
    (tomb,) = tombs.json()["data"]
    assert tomb["deletedAt"] is not None
    assert (tomb["prompt"], tomb["expired"], tomb["result"]["videoUrl"]) == ("", True, None)


async def test_deleting_again_is_no_mistake(house, complete):
    made = await complete(house)
    assert [(await delete(house, made["id"])).status_code for _ in range(3)] == [204] * 3


async def test_what_is_under_way_is_not_deleted(house):
    made = await house.submit("x")
    answer = await delete(house, made["id"])
    assert (answer.status_code, answer.json()["code"]) == (409, "not_ended")
    assert "cancel" in answer.json()["detail"]
    assert (await house.get(made["id"]))["prompt"] == "x"
    assert (await delete(house, "gen_nothing")).status_code == 404


async def test_the_apps_own_id_stays_taken_and_tells_so(house, name):
    own, key = name(), name()
    body = {"prompt": "x", "generationId": own}
    made = (await house.api.post("/api/generations", json=body, headers={"Idempotency-Key": key})).json()
    await house.api.post(f"/api/generations/{own}/cancel")
    assert (await delete(house, own)).status_code == 204
    for again in (body, {"prompt": "x"}, {"prompt": "other"}):
        answer = await house.api.post("/api/generations", json=again, headers={"Idempotency-Key": key})
        assert (answer.status_code, answer.json()["code"]) == (410, "gone")
        assert answer.json()["existingId"] == made["id"]


async def test_a_picture_goes_too(house, name):
    picture = {"image": {"data": PNG, "mimeType": "image/png"}}
    made = await house.submit("x", parameters=picture)
    key = row(house, made["id"])["input_key"]
    await house.api.post(f"/api/generations/{made['id']}/cancel")
    await delete(house, made["id"])
    assert not path_of(house, key).exists()
    assert row(house, made["id"])["input_key"] is None


async def test_a_crash_before_the_files_went_is_finished_by_the_next_call(house, complete, monkeypatch):
    made = await complete(house)
    key = row(house, made["id"])["video_key"]

    async def die(_: str) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(house.plant.storage, "delete", die)
        assert (await delete(house, made["id"])).status_code == 500
    assert path_of(house, key).exists()
    assert (await house.api.get(f"/api/generations/{made['id']}")).status_code == 410
    assert row(house, made["id"])["video_key"] == key, "the row still names what is left"
    assert (await delete(house, made["id"])).status_code == 204
    assert not path_of(house, key).exists()


async def test_a_storage_that_does_not_answer_is_503_and_worth_repeating(tmp_path):
    nobody = {
        "r2_endpoint_url": f"http://127.0.0.1:{free_port()}",
        "r2_bucket": "videos",
        "r2_access_key_id": "key",
        "r2_secret_access_key": "secret",
    }
    async with open_house(tmp_path, work=False, **SETTINGS | nobody) as house:
        made = await house.submit("x")
        await house.api.post(f"/api/generations/{made['id']}/cancel")
        named = {"video_key": video_key("default", made["id"], "sub_1")}
        await house.plant.db.write(lambda tx: tx.update("generation", named, "id = :id", {"id": made["id"]}))
        answer = await delete(house, made["id"])
        assert (answer.status_code, answer.json()["code"]) == (503, "storage_unavailable"), answer.text
        assert answer.json()["retryable"]
        assert answer.headers["retry-after"] == "5"


async def test_no_word_of_it_is_left_and_pending_deliveries_still_go_out(tmp_path, place):
    """From the request to the last delivery, which comes after the end of everything else."""
    refusing = "[[fail:moderation]] secret fox"
    settings = SETTINGS | {"database_url": place.url, "webhook_schedule": "0,0.3,0.3,0.3,0.3,0.3,0.3,0.3,0.3,0.3"}
    async with open_house(tmp_path, **settings) as house:
        house.answers[:] = [500] * 3
        made = await house.submit(refusing, metadata={"a": "secret label"})
        await house.ended(made["id"])
        assert (await delete(house, made["id"])).status_code == 204
        received = (await house.webhooks(4))[-1]
        assert json.loads(received.body)["type"] == "generation.failed"
        assert b"secret fox" in received.body
        told = "SELECT count(*) FROM webhook_delivery WHERE state = 'delivered'"
        await eventually(lambda: house.plant.db.read(lambda tx: tx.value(told)), bool, 10)
        assert [word for word in WORDS if word in everything(house)] == []
        kept = "SELECT count(*) FROM webhook_attempt WHERE response IS NOT NULL OR response_headers IS NOT NULL"
        assert await house.plant.db.read(lambda tx: tx.value(kept)) == 0, "a receiver may have echoed it"
        (paid,) = await house.plant.db.read(lambda tx: tx.all("SELECT * FROM submission"))
        assert (paid["billed"], paid["operation_id"] is not None) == ("no", True)


async def test_a_file_whose_record_was_lost_goes_too(tmp_path):
    script = Script()
    async with scripted_house(tmp_path, script, **SETTINGS) as house:
        made = await house.submit("x")
        await house.ended(made["id"])
        (paid,) = await house.plant.db.read(lambda tx: tx.all("SELECT * FROM submission"))
        path = path_of(house, video_key("default", made["id"], paid["token"]))
        assert path.exists()
        lost = {"status": "cancelled", "video_key": None}
        await house.plant.db.write(lambda tx: tx.update("generation", lost, "id = :id", {"id": made["id"]}))
        assert (await delete(house, made["id"])).status_code == 204
        assert not path.exists()


async def test_a_dead_letter_of_it_is_gone(house):
    made = await house.submit("x")
    sql = "UPDATE job SET status = 'dead', finished_at = 1 WHERE subject_id = :id"
    await house.plant.db.write(lambda tx: tx.run(sql, {"id": made["id"]}))
    ended = {"status": "failed", "stage": None, "error_code": "poison", "finished_at": 1}
    await house.plant.db.write(lambda tx: tx.update("generation", ended, "id = :id", {"id": made["id"]}))
    await delete(house, made["id"])
    listed = (await house.api.get("/api/queue/dead", params={"limit": "100"})).json()["data"]
    assert made["id"] not in [each["id"] for each in listed]
