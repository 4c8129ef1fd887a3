"""The operator's own webhook: what becomes of endpoints is told there, signed, through the same outbox."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.server import HttpServer
from tests.house import eventually, open_house
from webhooks.receiver import Received, create_receiver

pytestmark = pytest.mark.anyio

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


async def test_a_410_and_what_is_given_up_are_told_to_the_operator(tmp_path: Path) -> None:
    told: list[Received] = []
    receiver = create_receiver([SECRET], on_event=told.append, now=time.time)
    async with HttpServer(receiver, "127.0.0.1", 0) as desk:
        values: dict[str, Any] = {"operator_webhook_url": f"http://127.0.0.1:{desk.port}/ops", "webhook_secret": SECRET}
        async with open_house(tmp_path, webhook_schedule="0,0.01", **values) as house:
            house.answers[:] = [500, 500, 410]
            lost = await house.submit("a fox that nobody hears of")
            await notices(told, 1)
            await house.submit("a fox that is refused for good")
            await notices(told, 3)
    assert all(each.valid and each.path == "/ops" for each in told)
    events = [json.loads(each.body) for each in told]
    assert {event["type"] for event in events} == {"operator.delivery.dead", "operator.endpoint.disabled"}
    assert events[0]["data"]["generation"] == lost["id"]
    (off,) = [event["data"] for event in events if event["type"] == "operator.endpoint.disabled"]
    assert (off["endpoint"], off["tenant"]) == ("ep_default", "default")
    assert off["reason"].startswith("410")


async def notices(told: list[Received], count: int) -> None:
    async def now() -> int:
        return len(told)

    await eventually(now, lambda number: number >= count, 10)
