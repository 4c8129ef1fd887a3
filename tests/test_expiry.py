"""A video that expires: its end is told before it comes, and then nothing plays any more."""

import asyncio
import json
from datetime import datetime

import httpx
import pytest

from pipeline.app import make_maintenance, make_worker
from pipeline.worker import run_until
from tests.house import eventually, open_house

pytestmark = pytest.mark.anyio

EVENTS = "generation.completed,generation.failed,generation.cancelled,generation.expired"


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


async def test_a_video_ends_when_it_was_said_to(tmp_path):
    async with open_house(tmp_path, keep_videos=3600, webhook_events=EVENTS) as house:
        made = await house.submit("a fox")
        assert (made["expiresAt"], made["expired"]) == (None, False)
        done = await house.ended(made["id"])
        assert at(done["expiresAt"]) == pytest.approx(at(done["completedAt"]) + 3600)
        (hook,) = await house.webhooks(1)
        assert json.loads(hook.body)["data"]["expiresAt"] == done["expiresAt"]
        link = httpx.URL(done["result"]["videoUrl"])
        assert int(link.params["token"].split("-")[0], 16) == int(at(done["expiresAt"]))
        assert (await house.api.get(link)).status_code == 200

        past = {"expires_at": house.plant.clock.now_ms() - 1}
        await house.plant.db.write(lambda tx: tx.update("generation", past, "id = :id", {"id": made["id"]}))
        answer = await house.api.get(f"/api/generations/{made['id']}/content")
        assert (answer.status_code, answer.json()["code"]) == (410, "video_gone")

        counts = (await make_maintenance(house.plant).run()).counts
        assert counts["videos"] == 1
        gone = await house.get(made["id"])
        assert (gone["status"], gone["expired"], gone["result"]["videoUrl"]) == ("completed", True, None)
        assert gone["links"]["content"] is None
        assert gone["result"]["sha256"] == done["result"]["sha256"]
        assert list((tmp_path / "files").rglob("*.mp4")) == []
        told = await house.webhooks(2)
        event = json.loads(told[1].body)
        assert (event["type"], event["status"], event["data"]["expired"]) == ("generation.expired", "completed", True)
        assert event["result"]["videoUrl"] is None
        assert event["data"]["sequence"] > json.loads(hook.body)["data"]["sequence"]


async def test_a_video_without_an_end_is_kept(tmp_path):
    async with open_house(tmp_path) as house:
        done = await house.ended((await house.submit("a fox"))["id"])
        assert (done["expiresAt"], done["expired"]) == (None, False)
        assert (await make_maintenance(house.plant).run()).counts["videos"] == 0


async def test_a_redrive_without_its_picture_is_never_submitted(tmp_path):
    png = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    image = {"data": png, "mimeType": "image/png"}
    async with open_house(tmp_path, work=False) as house:
        made = await house.submit("a fox", parameters={"image": image})
        gone = {"input_key": None}
        await house.plant.db.write(lambda tx: tx.update("generation", gone, "id = :id", {"id": made["id"]}))
        await _work_until_it_fails(house, made["id"])
        assert await house.ledger() == []


async def _work_until_it_fails(house, generation_id):
    stop = asyncio.Event()
    worker = asyncio.create_task(run_until(make_worker(house.plant), stop))
    try:
        done = await eventually(lambda: house.get(generation_id), lambda g: g["status"] == "failed", 10)
        assert done["error"]["code"] == "object_missing"
        assert "KEEP_INPUTS" in done["error"]["message"]
    finally:
        stop.set()
        await worker
