"""The story of one generation, from POST to a verified webhook. Read this first."""

import json

import pytest

from pipeline.media import probe
from tests.house import open_house

pytestmark = pytest.mark.anyio


async def test_one_generation_from_post_to_verified_webhook(tmp_path):
    async with open_house(tmp_path) as house:
        # The frontend posts a prompt; 202 means that it is kept.
        response = await house.api.post(
            "/api/generations",
            json={
                "prompt": "a red fox in the snow",
                "userId": "user_42",
                "generationId": "order-7",
                "parameters": {"duration": 4, "aspectRatio": "9:16", "seed": 7},
                "metadata": {"campaign": "winter"},
            },
        )
        assert response.status_code == 202
        asked = response.json()
        assert asked["status"] == "queued"
        assert response.headers["location"] == f"/api/generations/{asked['id']}"

        # The worker submits once, polls, stores, and the receiver gets one signed webhook.
        (hook,) = await house.webhooks(1)
        assert hook.valid
        assert hook.headers["webhook-id"].startswith("evt_")

        # Its body serves readers of Standard Webhooks and readers of the plain members alike.
        event = json.loads(hook.body)
        assert event["type"] == event["event"] == "generation.completed"
        assert event["data"]["id"] == event["jobId"] == asked["id"]
        assert event["generationId"] == "order-7"
        assert event["userId"] == "user_42"
        assert event["result"]["duration"] == 4
        assert event["error"] is None

        # The link in it plays without a key, whole or in ranges.
        video = await house.api.get(event["result"]["videoUrl"])
        assert video.status_code == 200
        assert video.headers["content-type"] == "video/mp4"
        part = await house.api.get(event["result"]["videoUrl"], headers={"Range": "bytes=0-99"})
        assert part.status_code == 206
        assert part.content == video.content[:100]

        # It is a real video of the asked length and shape.
        (tmp_path / "seen.mp4").write_bytes(video.content)
        seen = probe(tmp_path / "seen.mp4")
        assert seen.duration == pytest.approx(4)
        assert seen.height > seen.width

        # The app finds it under its own id; the timeline tells what happened, in order.
        found = (await house.api.get("/api/generations/order-7")).json()
        assert found["status"] == "completed"
        assert found["result"]["sha256"]
        assert await house.timeline(asked["id"]) == [
            "queued",
            "submit.intended",
            "submit.accepted",
            "generated",
            "stored",
            "completed",
        ]

        # The provider was asked once and charged once.
        (charge,) = await house.ledger()
        assert charge["prompt"] == "a red fox in the snow"
        assert charge["charged_micros"] == 200_000


async def test_a_refused_prompt_ends_in_one_failed_webhook(tmp_path):
    async with open_house(tmp_path) as house:
        asked = await house.submit("[[fail:moderation]] something")
        (hook,) = await house.webhooks(1)
        event = json.loads(hook.body)
        assert event["type"] == "generation.failed"
        assert event["data"]["error"]["code"] == "content_blocked"
        assert event["result"] is None
        assert isinstance(event["error"], str)
        assert (await house.ended(asked["id"]))["status"] == "failed"


async def test_a_webhook_is_repeated_until_it_arrives_with_the_same_id_and_bytes(tmp_path):
    async with open_house(tmp_path) as house:
        house.answers[:] = [500, 503]
        await house.submit("a patient fox")
        tries = await house.webhooks(3)
        assert len({hook.headers["webhook-id"] for hook in tries}) == 1
        assert len({hook.body for hook in tries}) == 1
        assert [hook.headers["webhook-attempt"] for hook in tries] == ["1", "2", "3"]
        assert all(hook.valid for hook in tries)
