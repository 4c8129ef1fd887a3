"""`Prefer: wait`: the answer comes with the end, or when the time is over, and costs the database little."""

from __future__ import annotations

import asyncio
import time

import httpx
import pytest
from starlette.requests import Request

from pipeline.api.waiters import Waiters
from pipeline.api.waiting import MAX_SECONDS, asked_seconds
from tests.house import House, eventually, open_house
from tests.pipeline.api.settings import SETTINGS

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def house(house_on_each_engine):
    return house_on_each_engine


def waiters(house: House) -> Waiters:
    return house.service.waiters


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ((), None),
        (("wait=10",), 10),
        (("wait=0",), 0),
        (("Wait = 7 ",), 7),
        (('wait="9"',), 9),
        (("wait=100000",), MAX_SECONDS),
        (("respond-async, wait=10",), 10),
        (('note="a, wait=3", wait=4',), 4),
        (("wait=5; strict=yes",), 5),
        (("respond-async", "wait=6"), 6),
        (("wait=1, wait=2",), 1),
        (("wait",), None),
        (("wait=",), None),
        (("wait=-1",), None),
        (("wait=1.5",), None),
        (("wait=ten",), None),
        (("wait=\u0663",), None),
        (("await=3",), None),
        (("wait=" + "9" * 30,), None),
        (('wait="1',), None),
        (("," * 1000,), None),
    ],
)
def test_preferences_are_read_as_the_rfc_says(headers, seconds):
    scope = {"type": "http", "headers": [(b"prefer", each.encode()) for each in headers]}
    request = Request(scope)
    assert asked_seconds(request) == seconds


async def test_the_end_is_answered_on_post_and_get(tmp_path, place):
    async with open_house(tmp_path, **SETTINGS | {"database_url": place.url}) as house:
        made = await house.api.post("/api/generations", json={"prompt": "x"}, headers={"Prefer": "wait=9"})
        assert (made.status_code, made.json()["status"]) == (200, "completed")
        assert made.headers["preference-applied"] == "wait=9"
        assert "retry-after" not in made.headers
        assert made.headers["location"] == f"/api/generations/{made.json()['id']}"

        slow = await house.submit("[[slow:0.5]] y")
        path = f"/api/generations/{slow['id']}"
        read = await house.api.get(path, headers={"Prefer": "respond-async, wait=9"})
        assert (read.status_code, read.json()["status"]) == (200, "completed")
        assert read.headers["preference-applied"] == "wait=9"


async def test_a_repeat_waits_too(house, name):
    headers = {"Idempotency-Key": name(), "Prefer": "wait=0"}
    first = await house.api.post("/api/generations", json={"prompt": "x"}, headers=headers)
    again = await house.api.post("/api/generations", json={"prompt": "x"}, headers=headers)
    assert [first.status_code, again.status_code] == [202, 200]
    assert again.headers["preference-applied"] == "wait=0"
    assert again.headers["retry-after"]


async def test_when_the_time_is_over_the_answer_is_as_without(house):
    started = time.monotonic()
    made = await house.api.post("/api/generations", json={"prompt": "x"}, headers={"Prefer": "wait=1"})
    assert time.monotonic() - started >= 1
    assert (made.status_code, made.json()["status"]) == (202, "queued")
    assert (made.headers["preference-applied"], made.headers["retry-after"]) == ("wait=1", "1")
    assert waiters(house).count == 0


async def test_a_preference_that_cannot_be_read_is_as_if_it_were_not_there(house):
    made = await house.api.post("/api/generations", json={"prompt": "x"}, headers={"Prefer": "wait=soon"})
    assert made.status_code == 202
    assert "preference-applied" not in made.headers


async def test_many_wait_for_one_question(house, monkeypatch):
    asked = []
    look = Waiters._ended
    monkeypatch.setattr(Waiters, "_ended", lambda self, tx: asked.append(1) or look(self, tx))
    made = [await house.submit("x") for _ in range(20)]

    async def wait(generation_id: str) -> httpx.Response:
        return await house.api.get(f"/api/generations/{generation_id}", headers={"Prefer": "wait=30"}, timeout=60)

    waiting = [asyncio.create_task(wait(each["id"])) for each in made for _ in range(4)]
    await eventually(lambda: _count(house), lambda count: count == 80, 10)
    for each in made:
        await house.api.post(f"/api/generations/{each['id']}/cancel")
    began = time.monotonic()
    answers = await asyncio.gather(*waiting)
    assert time.monotonic() - began < 5
    assert {answer.json()["status"] for answer in answers} == {"cancelled"}
    assert len(asked) < 80, "a question each would be at least so many"
    assert waiters(house).count == 0


async def _count(house: House) -> int:
    return waiters(house).count


async def test_an_end_from_another_process_is_seen(house):
    """Written past our writer, as another process does it."""
    made = await house.submit("x")
    waiting = asyncio.create_task(house.api.get(f"/api/generations/{made['id']}", headers={"Prefer": "wait=20"}))
    await eventually(lambda: _count(house), lambda count: count == 1, 10)
    ended = "UPDATE generation SET status = 'cancelled', finished_at = created_at WHERE id = :id"
    with house.plant.db.engine.connect() as connection:
        text = ended.replace(":id", f"'{made['id']}'")
        connection.exec_driver_sql(text)
        connection.commit() if house.plant.db.postgres else connection.exec_driver_sql("SELECT 1")
    started = time.monotonic()
    answer = await asyncio.wait_for(waiting, 20)
    assert answer.json()["status"] == "cancelled"
    assert time.monotonic() - started < 10


async def test_who_hangs_up_is_forgotten(house):
    made = await house.submit("x")
    for method, path, body in (
        ("GET", f"/api/generations/{made['id']}", None),
        ("POST", "/api/generations", b'{"prompt": "y"}'),
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", house.api.base_url.port)
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nPrefer: wait=60\r\n"
        if body:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        writer.write(head.encode() + b"\r\n" + (body or b""))
        await eventually(lambda: _count(house), lambda count: count == 1, 10)
        writer.close()
        await eventually(lambda: _count(house), lambda count: count == 0, 10)
        assert reader is not None


async def test_a_server_that_ends_answers_those_who_wait(tmp_path):
    waiting: asyncio.Task[httpx.Response]
    async with httpx.AsyncClient(timeout=30) as client:
        async with open_house(tmp_path, work=False, **SETTINGS) as house:
            made = await house.submit("x")
            url = f"{house.api.base_url}/api/generations/{made['id']}"
            waiting = asyncio.create_task(client.get(url, headers={"Prefer": "wait=60"}))
            await eventually(lambda: _count(house), lambda count: count == 1, 10)
            started = time.monotonic()
        assert time.monotonic() - started < 4
        answer = await waiting
    assert (answer.status_code, answer.json()["status"]) == (200, "queued")


async def test_a_tag_changes_with_whatever_is_shown(house):
    made = await house.submit("x")
    path = f"/api/generations/{made['id']}"

    async def tag() -> str:
        response = await house.api.get(path)
        return response.headers["etag"]

    seen = {await tag()}
    assert seen == {await tag()}
    first = seen.copy().pop()
    assert first.startswith('W/"')
    for changed in ({"progress": 0.1}, {"progress": 0.2}, {"stage": "storing"}, {"run": 2}, {"priority": 1}):
        await house.plant.db.write(
            lambda tx, values=changed: tx.update("generation", values, "id = :id", {"id": made["id"]})
        )
        seen.add(await tag())
    assert len(seen) == 6


@pytest.mark.parametrize("form", ["{}", '{}, W/"other"', 'W/"other" , {}', "*", "strong"])
async def test_who_has_it_already_is_told_so(house, form):
    made = await house.submit("x")
    path = f"/api/generations/{made['id']}"
    tag = (await house.api.get(path)).headers["etag"]
    asked = tag.removeprefix("W/") if form == "strong" else form.format(tag)
    same = await house.api.get(path, headers={"If-None-Match": asked})
    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tag)
    assert same.headers["retry-after"]
    other = await house.api.get(path, headers={"If-None-Match": 'W/"other"'})
    assert other.status_code == 200


@pytest.mark.parametrize(
    ("stage", "seconds"),
    [("waiting", "2"), ("submitting", "1"), ("generating", "3"), ("held", "5"), ("storing", "1"), ("new", "2")],
)
async def test_when_to_ask_again_depends_on_the_stage(house, stage, seconds):
    made = await house.submit("x")
    values = {"status": "processing", "stage": stage}
    await house.plant.db.write(lambda tx: tx.update("generation", values, "id = :id", {"id": made["id"]}))
    response = await house.api.get(f"/api/generations/{made['id']}")
    assert response.headers["retry-after"] == seconds


async def test_what_has_ended_is_not_to_be_asked_again(house, complete):
    made = await complete(house)
    response = await house.api.get(f"/api/generations/{made['id']}", headers={"Prefer": "wait=60"})
    assert "retry-after" not in response.headers
    assert response.headers["preference-applied"] == "wait=60"
