"""`GET .../events`: JSON or a stream, as asked for; who may watch, from where, and how many."""

from __future__ import annotations

import json
import time
from urllib.parse import urlsplit

import httpx
import pytest

from tests.house import open_house
from tests.sse import STREAM, lines, stream

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def house(house_on_each_engine):
    return house_on_each_engine


@pytest.mark.parametrize(
    ("accept", "streams"),
    [
        ("text/event-stream", True),
        ("TEXT/Event-Stream; charset=utf-8", True),
        ("text/event-stream, application/json;q=0.5", True),
        ("text/event-stream;q=0.9, */*;q=0.1", True),
        ("*/*", False),
        ("application/json", False),
        ("application/json, text/event-stream", False),
        ("text/event-stream;q=0", False),
        ("text/event-stream;q=x", False),
        ("text/*", False),
        ("", False),
    ],
)
async def test_a_stream_is_for_those_who_ask_for_it(house, complete, accept, streams):
    made = await complete(house)
    response = await house.api.get(f"/api/generations/{made['id']}/events", headers={"Accept": accept})
    assert response.headers["content-type"].startswith("text/event-stream" if streams else "application/json")
    assert response.headers["vary"] == "Accept"


async def test_one_that_has_ended_is_told_and_the_stream_ends(house, complete):
    made = await complete(house)
    path = f"/api/generations/{made['id']}/events"
    async with stream(house.api.base_url, path) as open_stream:
        events = await open_stream.all()
    assert [event.name for event in events] == ["generation", "queued", "generation", "end"]
    assert events[0].data == events[2].data == made
    assert lines(events)[0].data == (await house.api.get(path)).json()["data"][0]
    assert events[-1].last_id == f"{lines(events)[0].last_id}-end"

    async with stream(house.api.base_url, path, Last_Event_ID=lines(events)[0].last_id) as open_stream:
        assert [event.name for event in await open_stream.all()] == ["generation", "generation", "end"]
    async with stream(house.api.base_url, path, Last_Event_ID=events[-1].last_id) as open_stream:
        assert open_stream.response.status_code == 204


async def test_the_header_goes_before_the_query_which_keeps_its_first_value(house, complete):
    made = await complete(house)
    path = f"/api/generations/{made['id']}/events"
    first = (await house.api.get(path)).json()["data"][0]["id"]
    async with stream(house.api.base_url, f"{path}?lastEventId={first}", Last_Event_ID="0") as open_stream:
        assert "queued" in [event.name for event in await open_stream.all()]
    async with stream(house.api.base_url, f"{path}?lastEventId={first}") as open_stream:
        assert "queued" not in [event.name for event in await open_stream.all()]
    behind = await house.api.get(path, params={"lastEventId": str(first)})
    assert behind.json()["data"] == []


@pytest.mark.parametrize("given", ["x", "-1", "1.5", "", "9" * 19, "12-END", "12-end-end", "²"])
async def test_an_id_that_is_none_of_ours_is_refused(house, given):
    made = await house.submit("a fox")
    for accept in ({}, STREAM):
        response = await house.api.get(
            f"/api/generations/{made['id']}/events", params={"lastEventId": given}, headers=accept
        )
        assert (response.status_code, response.json()["code"]) == (400, "invalid_parameter")


async def test_what_does_not_exist_cannot_be_watched(house):
    response = await house.api.get("/api/generations/gen_nothing/events", headers=STREAM)
    assert (response.status_code, response.json()["code"]) == (404, "not_found")


async def test_only_the_head_of_a_stream_can_be_had(house):
    made = await house.submit("a fox")
    response = await house.api.head(f"/api/generations/{made['id']}/events", headers=STREAM)
    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["content-type"].startswith("text/event-stream")


async def test_more_than_the_service_can_bear_are_told_to_read_instead(tmp_path):
    async with open_house(tmp_path, work=False, max_watchers=1) as house:
        made = await house.submit("a fox")
        path = f"/api/generations/{made['id']}/events"
        async with stream(house.api.base_url, path) as open_stream:
            await open_stream.until(lambda event: event.name == "queued")
            response = await house.api.get(path, headers=STREAM)
            assert (response.status_code, response.json()["code"]) == (503, "too_many_watchers")
            assert (response.headers["retry-after"], response.json()["retryable"]) == ("10", True)
            assert (await house.api.get(path)).status_code == 200

        deadline = time.monotonic() + 5
        while response.status_code == 503:  # the place of one who left is free again
            assert time.monotonic() < deadline
            async with stream(house.api.base_url, path) as open_stream:
                response = open_stream.response


async def make_token(client: httpx.AsyncClient, generation_id: str, **body: object) -> httpx.Response:
    return await client.post(f"/api/generations/{generation_id}/tokens", json=body)


def in_links(body: dict) -> tuple[str, str]:
    """The path and query of both links."""
    events, video = urlsplit(body["eventsUrl"]), urlsplit(body["videoUrl"])
    return f"{events.path}?{events.query}", f"{video.path}?{video.query}"


KEY = {"Authorization": "Bearer a-key"}


async def test_a_token_opens_one_generation_and_nothing_else(tmp_path, complete, video):
    async with open_house(tmp_path, work=False, api_key="a-key", secret_key="a key for tests") as house:
        house.api.headers.update(KEY)
        made, other = await complete(house), await house.submit("another", generationId="other-1")
        before = int(time.time())
        response = await make_token(house.api, made["id"])
        body = response.json()
        assert (response.status_code, response.headers["cache-control"]) == (201, "no-store")
        assert set(body) == {"object", "token", "expiresAt", "eventsUrl", "videoUrl"}
        assert before + 595 <= int(body["token"].partition("-")[0], 16) <= time.time() + 600
        events_path, video_path = in_links(body)
        del house.api.headers["Authorization"]

        one = await house.api.get(f"/api/generations/{made['id']}", params={"token": body["token"]})
        assert one.json() == made
        assert (await house.api.get(events_path)).json()["id"] == made["id"]
        assert (await house.api.get(video_path)).content == video
        async with stream(house.api.base_url, events_path) as open_stream:
            assert (await open_stream.all())[-1].name == "end"

        query = {"token": body["token"]}
        for method, path in (
            ("GET", f"/api/generations/{other['id']}"),
            ("GET", f"/api/generations/{other['id']}/events"),
            ("GET", f"/api/generations/{other['id']}/content"),
            ("GET", "/api/generations/other-1"),
            ("GET", "/api/generations"),
            ("POST", f"/api/generations/{made['id']}/cancel"),
            ("POST", f"/api/generations/{made['id']}/tokens"),
            ("GET", "/api/queue/status"),
        ):
            refused = await house.api.request(method, path, params=query if "/api/generations/" in path else None)
            assert refused.status_code == 401, (method, path)
            assert body["token"] not in refused.text


@pytest.mark.parametrize("change", [lambda t: t.swapcase(), lambda t: "f" + t, lambda t: "", lambda t: "x"])
async def test_a_token_that_was_changed_opens_nothing(house, change):
    made = await house.submit("a fox")
    token = (await make_token(house.api, made["id"])).json()["token"]
    for accept in ({}, STREAM):
        response = await house.api.get(
            f"/api/generations/{made['id']}/events", params={"token": change(token)}, headers=accept
        )
        assert (response.status_code, response.json()["code"]) == (401, "unauthorized")


async def test_a_token_ends_and_its_streams_with_it(house):
    made = await house.submit("a fox")
    body = (await make_token(house.api, made["id"], expiresIn=1)).json()
    events_path, _ = in_links(body)
    async with stream(house.api.base_url, events_path) as open_stream:
        events = await open_stream.all()
    assert [event.name for event in events] == ["generation", "queued"]
    response = await house.api.get(events_path, headers=STREAM)
    assert (response.status_code, response.json()["code"]) == (401, "unauthorized")


@pytest.mark.parametrize("body", [{"expiresIn": 0}, {"expiresIn": 3601}, {"expiresIn": "60"}, {"expires": 60}])
async def test_how_long_is_checked(house, body):
    made = await house.submit("a fox")
    response = await make_token(house.api, made["id"], **body)
    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")
    assert (await make_token(house.api, "gen_nothing")).status_code == 404


async def test_tokens_are_in_no_log(house, capfd, caplog):
    made = await house.submit("a fox")
    with caplog.at_level("DEBUG"):
        body = (await make_token(house.api, made["id"])).json()
        events_path, video_path = in_links(body)
        await house.api.get(events_path)
        await house.api.get(video_path)
        async with stream(house.api.base_url, events_path) as open_stream:
            await open_stream.until(lambda event: event.name == "queued")
    ours = [json.dumps([r.getMessage(), r.__dict__.get("fields")]) for r in caplog.records if r.name != "httpx"]
    assert any("request.done" in line for line in ours)
    out = capfd.readouterr()
    assert body["token"] not in "".join(ours) + out.out + out.err
