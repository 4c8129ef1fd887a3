"""A generation is watched from the request to the video, with every way in which a connection can end."""

from __future__ import annotations

import asyncio

import pytest

from tests.house import House, open_house
from tests.sse import lines, stream

pytestmark = pytest.mark.anyio


async def told(house: House, generation_id: str) -> list[dict]:
    """The timeline as JSON."""
    return (await house.api.get(f"/api/generations/{generation_id}/events")).json()["data"]


async def test_a_generation_is_told_from_its_request_to_its_end(tmp_path):
    async with open_house(tmp_path, speed=20) as house:
        made = await house.submit("a watched fox", parameters={"duration": 3})
        async with stream(house.api.base_url, f"/api/generations/{made['id']}/events") as open_stream:
            response = open_stream.response
            events = await open_stream.all()
        now, history = await house.get(made["id"]), await told(house, made["id"])
    assert response.headers["content-type"].startswith("text/event-stream")
    assert (response.headers["cache-control"], response.headers["x-accel-buffering"]) == ("no-store", "no")
    assert open_stream.raw[:2] == ["retry: 2000", ""]

    names = [event.name for event in events]
    assert names[0] == "generation"
    assert names[-2:] == ["generation", "end"]
    assert events[-2].data == now
    assert events[-1].data == {"id": made["id"], "status": "completed"}

    assert [event.data for event in lines(events)] == history
    assert [event.name for event in lines(events)] == [line["event"] for line in history]
    assert [event.last_id for event in lines(events)] == [str(line["id"]) for line in history]
    assert not any(event.has_id for event in events if event.name == "generation")

    stages = [event.data["stage"] for event in events if event.name == "generation"]
    assert "generating" in stages
    assert stages[-1] is None
    progress = [event.data["progress"] for event in events if event.name == "generation" and event.data["progress"]]
    assert progress == sorted(progress)


async def test_a_stream_that_is_cut_again_and_again_loses_nothing_and_tells_nothing_twice(tmp_path):
    async with open_house(tmp_path, speed=20) as house:
        made = await house.submit("a fox by a bad line", parameters={"duration": 3})
        path, seen, last_id, ended = f"/api/generations/{made['id']}/events", [], None, False
        while not ended:
            resume = {} if last_id is None else {"Last_Event_ID": last_id}
            async with stream(house.api.base_url, path, **resume) as open_stream:
                part = await open_stream.until(lambda event: event.has_id)
            assert part[0].name == "generation"
            seen += part
            last_id, ended = part[-1].last_id, part[-1].name == "end"
        history = await told(house, made["id"])
        assert [event.data for event in lines(seen)] == history

        async with stream(house.api.base_url, path, Last_Event_ID=last_id) as after_the_end:
            assert after_the_end.response.status_code == 204
        async with stream(house.api.base_url, f"{path}?lastEventId={last_id}") as after_the_end:
            assert after_the_end.response.status_code == 204


async def test_the_service_restarts_in_between(tmp_path):
    async with open_house(tmp_path, work=False) as house:
        made = await house.submit("a fox through a deployment")
        path = f"/api/generations/{made['id']}/events"
        client = stream(house.api.base_url, path)
        before = await client.__aenter__()
        first = await before.until(lambda event: event.has_id)
    await client.__aexit__(None, None, None)
    async with (
        open_house(tmp_path) as house,
        stream(house.api.base_url, path, Last_Event_ID=first[-1].last_id) as after,
    ):
        rest = await after.all()
        history = await told(house, made["id"])
    assert rest[-1].name == "end"
    assert [event.data for event in lines([*first, *rest])] == history


async def test_a_cancelled_generation_ends_its_streams(tmp_path):
    async with open_house(tmp_path, work=False) as house:
        made = await house.submit("a fox that goes home")
        async with stream(house.api.base_url, f"/api/generations/{made['id']}/events") as open_stream:
            reading = asyncio.create_task(open_stream.all())
            await house.api.post(f"/api/generations/{made['id']}/cancel")
            events = await asyncio.wait_for(reading, 5)
    assert [event.name for event in events][-3:] == ["ended.cancelled", "generation", "end"]
    assert events[-1].data["status"] == "cancelled"
