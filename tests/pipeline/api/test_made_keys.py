"""Keys that were made, over HTTP on both engines: the door, scopes, limits, ends, and what is written of their use."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipeline import credentials
from pipeline.api import KeyRing, Service
from pipeline.api.ratelimit import Buckets
from pipeline.app import make_api
from pipeline.credentials import Scope
from pipeline.db import Row, Tx, WriterFull
from pipeline.server import HttpServer
from tests.house import House, open_house
from tests.pipeline.api.settings import SETTINGS
from tests.pipeline.engines import Place

pytestmark = pytest.mark.anyio

LIST = "/api/generations"
SECRETS = {name: SETTINGS[name] for name in ("secret_key", "webhook_secret")}


@dataclass
class Desk:
    """A listening API whose memory of keys, and whose limits, go by a clock that the test moves."""

    house: House
    service: Service
    api: httpx.AsyncClient
    port: int
    seconds: float = 0.0

    def now(self) -> float:
        return self.seconds

    async def make(self, *scopes: Scope, **values: Any) -> tuple[Row, dict[str, str]]:
        """A key and the headers to call with it."""
        asked = {"name": "k", "tenant": "acme", "scopes": scopes or (Scope.READ, Scope.SUBMIT), "random": os.urandom}
        row, key = await self.house.plant.db.write(lambda tx: credentials.create(tx, **(asked | values)))
        return row, {"Authorization": f"Bearer {key}"}

    async def get(self, headers: dict[str, str], path: str = LIST) -> int:
        return (await self.api.get(path, headers=headers)).status_code

    async def used_at(self, row: Row) -> int | None:
        sql = "SELECT last_used_at FROM api_key WHERE id = :id"
        found: int | None = await self.house.plant.db.read(lambda tx: tx.value(sql, row))
        return found


@pytest.fixture(scope="module")
async def open_desk(house_on_each_engine: House) -> AsyncIterator[Desk]:
    """One for all tests of an engine."""
    app = make_api(house_on_each_engine.plant)
    async with (
        HttpServer(app, "127.0.0.1", 0) as server,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as api,
    ):
        yield Desk(house_on_each_engine, app.state.service, api, server.port)


@pytest.fixture
async def desk(open_desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """Nobody has a key yet, and nothing is remembered."""
    plant, service = open_desk.house.plant, open_desk.service
    await plant.db.write(lambda tx: tx.run("DELETE FROM api_key"))
    plant.clock.sync(await plant.db.read(lambda tx: tx.now))
    monkeypatch.setattr(service, "keys", KeyRing(service.keys.look_up, service.keys.ask_any, open_desk.now))
    monkeypatch.setattr(service, "buckets", Buckets(open_desk.now))
    return open_desk


async def test_from_the_first_key_on_nobody_calls_without_one(desk: Desk) -> None:
    assert await desk.get({}) == 200
    assert await desk.get({"Authorization": "Bearer anything"}) == 200
    _, key = await desk.make()
    desk.seconds += 5
    for headers in (
        {},
        {"Authorization": "Bearer anything"},
        {"Authorization": "Basic x"},
        {"Authorization": "Bearer"},
    ):
        answer = await desk.api.get(LIST, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized"), headers
        assert answer.headers["www-authenticate"] == 'Bearer realm="dailies"'
        assert "ratelimit" not in answer.headers
    assert await desk.get(key) == 200
    assert await desk.get({}, "/healthz") == 200


async def test_once_a_key_is_needed_the_service_answers_under_any_name(desk: Desk) -> None:
    abroad = {"Host": "video.example.com", "Origin": "https://app.example.com"}
    assert (await desk.api.get(LIST, headers=abroad)).json()["code"] == "host_not_allowed"
    _, key = await desk.make()
    desk.seconds += 5
    assert (await desk.api.post(LIST, json={"prompt": "x"}, headers=key | abroad)).status_code == 202
    assert await desk.get(abroad) == 401


async def test_a_new_key_works_at_once(desk: Desk) -> None:
    await desk.make()
    desk.seconds += 5
    assert await desk.get({}) == 401
    _, key = await desk.make()
    assert await desk.get(key) == 200


async def test_a_revoked_key_stops_within_five_seconds(desk: Desk) -> None:
    row, key = await desk.make()
    assert await desk.get(key) == 200
    await desk.house.plant.db.write(lambda tx: credentials.revoke(tx, row["id"]))
    desk.seconds += 5
    answer = await desk.api.get(LIST, headers=key)
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
    assert "revoked" in answer.json()["detail"]


async def test_a_key_ends_on_time_although_it_was_looked_up_a_moment_ago(desk: Desk) -> None:
    row, key = await desk.make(lifetime_ms=60_000)
    assert await desk.get(key) == 200
    desk.house.plant.clock.sync(row["expires_at"])
    assert await desk.get(key) == 401
    assert await desk.get({}) == 401


async def test_when_a_key_was_last_used_is_written_once_a_minute(desk: Desk) -> None:
    row, key = await desk.make()
    assert await desk.used_at(row) is None
    await asyncio.gather(*(desk.get(key) for _ in range(5)))
    first = await desk.used_at(row)
    assert first is not None
    assert first >= row["created_at"]
    commits = desk.house.plant.db.commits
    desk.seconds += 5
    await desk.get(key)
    assert (await desk.used_at(row), desk.house.plant.db.commits) == (first, commits)


async def test_a_note_that_cannot_be_written_refuses_nobody(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    _, key = await desk.make()

    async def full(unit: object, **_: object) -> None:
        raise WriterFull("full")

    monkeypatch.setattr(desk.service.db, "write", full)
    assert await desk.get(key) == 200


CALLS: tuple[tuple[str, str, frozenset[Scope]], ...] = (
    ("POST", LIST, frozenset({Scope.SUBMIT})),
    ("GET", LIST, frozenset({Scope.READ})),
    ("GET", f"{LIST}/x", frozenset({Scope.READ})),
    ("GET", f"{LIST}/x/events", frozenset({Scope.READ})),
    ("GET", f"{LIST}/x/content", frozenset({Scope.READ})),
    ("POST", f"{LIST}/x/cancel", frozenset({Scope.SUBMIT})),
    ("GET", "/api/queue/status", frozenset()),
)


@pytest.mark.parametrize("held", [(Scope.SUBMIT,), (Scope.READ,), (Scope.READ, Scope.SUBMIT), (Scope.ADMIN,)])
async def test_a_key_may_do_what_its_scopes_say(desk: Desk, held: Sequence[Scope]) -> None:
    _, key = await desk.make(*held)
    for method, path, enough in CALLS:
        answer = await desk.api.request(method, path, headers=key, json={"prompt": "x"} if method == "POST" else None)
        if Scope.ADMIN in held or enough & set(held):
            assert answer.status_code not in {401, 403}, (method, path)
        else:
            needed = next(iter(enough), Scope.ADMIN)
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden"), (method, path)
            assert f"the scope {needed.value!r}; this one has: {', '.join(sorted(held))}" in answer.json()["detail"]


async def test_a_key_of_the_settings_and_a_made_one_go_side_by_side(place: Place, tmp_path: Path) -> None:
    async with open_house(tmp_path, work=False, database_url=place.url, **SECRETS, api_key="sesame") as house:
        random = os.urandom
        _, key = await house.plant.db.write(
            lambda tx: credentials.create(tx, name="k", tenant="acme", scopes=[Scope.READ], random=random)
        )
        for given, status in (("sesame", 200), (key, 200), (f"{key}x", 401), (key[:-1], 401), (key.upper(), 401)):
            answer = await house.api.get(LIST, headers={"Authorization": f"Bearer {given}"})
            assert answer.status_code == status, given
            assert ("ratelimit" in answer.headers) is (given == key)


# --- limits ----------------------------------------------------------------------------------------------------------


async def test_a_key_that_asks_too_often_is_told_to_wait(desk: Desk) -> None:
    _, key = await desk.make(rate_per_minute=6)
    answers = [await desk.api.get(LIST, headers=key) for _ in range(6)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429]
    assert answers[0].headers["ratelimit-policy"] == '"key";q=6;w=60'
    assert answers[0].headers["ratelimit"] == '"key";r=4;t=40'
    refused = answers[-1]
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.headers["ratelimit"] == '"key";r=0;t=10'
    assert refused.headers["retry-after"] == "10"
    assert (refused.json()["code"], refused.json()["retryable"]) == ("rate_limited", True)
    desk.seconds += 10
    assert await desk.get(key) == 200


async def test_refusals_count_too_and_other_keys_do_not(desk: Desk) -> None:
    _, key = await desk.make(Scope.SUBMIT, rate_per_minute=6)
    _, other = await desk.make(rate_per_minute=6)
    assert [await desk.get(key) for _ in range(6)] == [403] * 5 + [429]
    assert await desk.get(other) == 200


async def test_a_key_without_a_rate_of_its_own_has_that_of_the_settings(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, key = await desk.make()
    assert (await desk.api.get(LIST, headers=key)).headers["ratelimit-policy"] == '"key";q=600;w=60'
    monkeypatch.setattr(desk.service, "key_rate", 0)
    assert "ratelimit-policy" not in (await desk.api.get(LIST, headers=key)).headers


async def test_the_operator_has_no_limit(desk: Desk) -> None:
    answers = [await desk.api.get(LIST) for _ in range(120)]
    assert {answer.status_code for answer in answers} == {200}
    assert "ratelimit" not in answers[0].headers


# --- attacks ---------------------------------------------------------------------------------------------------------


async def test_a_flood_of_made_up_keys_is_cheap(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    _, key = await desk.make()
    assert await desk.get(key) == 200
    questions: list[int] = []
    look_up = desk.service.keys.look_up

    async def counted(hashes: Any) -> Any:
        questions.append(len(hashes))
        return await look_up(hashes)

    monkeypatch.setattr(desk.service.keys, "look_up", counted)
    flood = [desk.get({"Authorization": f"Bearer dk_{n}"}) for n in range(90)]
    assert set(await asyncio.gather(*flood)) == {401}
    assert sum(questions) == 90
    assert await desk.get(key) == 200
    assert sum(questions) == 90
    repeated = [desk.get({"Authorization": "Bearer dk_1"}) for _ in range(20)]
    assert set(await asyncio.gather(*repeated)) == {401}
    assert sum(questions) == 90


ODD = [
    b"\xff\xfe",
    b"\xc3\xa0",
    b"\xa0",
    b"dk_\x80\x85",
    b"x" * 20_000,
    b"a b c",
    b"\t",
    b"'; DROP TABLE api_key; --",
    b"%00",
    b"=?utf-8?q?x?=",
    b",",
    b'"',
    b"\xf0\x9f\xa6\x8a",
]


async def test_keys_of_any_bytes_are_refused_and_nothing_worse(desk: Desk) -> None:
    """Written to the socket by hand: no client would send some of these."""
    await desk.make()
    desk.seconds += 5
    for given in ODD:
        reader, writer = await asyncio.open_connection("127.0.0.1", desk.port)
        writer.write(b"GET /api/generations HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer " + given)
        writer.write(b"\r\n\r\n")
        line = await reader.readline()
        writer.close()
        assert line.split()[1] in {b"401", b"400", b"431"}, (given, line)


async def test_a_key_of_the_settings_may_be_any_text(tmp_path: Path) -> None:
    keys = ["sesamà", "Å", "schlüssel", "🦊", "a b"]
    async with open_house(tmp_path, work=False, api_key=", ".join(keys)) as house:
        for key in keys:
            assert (await house.api.get(LIST, headers={"Authorization": f"Bearer {key}".encode()})).status_code == 200
            assert (await house.api.get(LIST, headers={"Authorization": f"Bearer {key}x".encode()})).status_code == 401


# --- what needs no key -----------------------------------------------------------------------------------------------


async def test_signed_links_work_for_every_tenant(desk: Desk) -> None:
    _, key = await desk.make()
    made = (await desk.api.post(LIST, json={"prompt": "x"}, headers=key)).json()
    video = b"a video" * 100
    source = desk.house.plant.settings.data_dir / "source"
    source.write_bytes(video)
    video_key, sha256 = f"acme/{made['id']}/sub_1.mp4", hashlib.sha256(video).hexdigest()
    await desk.house.plant.storage.put(video_key, source, content_type="video/mp4", sha256=sha256)
    values = {"status": "completed", "stage": None, "video_key": video_key, "video_sha256": sha256}

    def complete(tx: Tx) -> None:
        tx.update("generation", values | {"finished_at": tx.now}, "id = :id", {"id": made["id"]})

    await desk.house.plant.db.write(complete)
    desk.seconds += 5
    done = (await desk.api.get(f"{LIST}/{made['id']}", headers=key)).json()
    link = httpx.URL(done["result"]["videoUrl"])
    answer = await desk.api.get(link.raw_path.decode())
    assert (answer.status_code, answer.content) == (200, video)
    assert await desk.get({}, f"{LIST}/{made['id']}/content") == 401
    assert await desk.get({}, f"{LIST}/{made['id']}/content?token=x") == 401


async def test_webhooks_and_callbacks_work_for_every_tenant(place: Place, tmp_path: Path) -> None:
    """A whole life of a generation of a tenant, while nobody can call without a key; the provider rings, too."""
    async with open_house(tmp_path, database_url=place.url, **SECRETS, mock_recovery="callback") as house:
        random = os.urandom
        _, key = await house.plant.db.write(
            lambda tx: credentials.create(tx, name="k", tenant="acme", scopes=[Scope.ADMIN], random=random)
        )
        house.api.headers["Authorization"] = f"Bearer {key}"
        made = await house.submit("a fox of acme")
        done = await house.ended(made["id"])
        assert done["status"] == "completed", done
        (received,) = await house.webhooks(1)
        assert json.loads(received.body)["data"]["id"] == made["id"]
        rows = await house.plant.db.read(lambda tx: tx.all("SELECT tenant_id, endpoint_id FROM webhook_delivery"))
        assert rows == [{"tenant_id": "acme", "endpoint_id": "ep_default"}]
        rung = await house.plant.db.read(lambda tx: tx.all("SELECT generation_id FROM callback"))
        assert {row["generation_id"] for row in rung} == {made["id"]}
        token = await house.plant.db.read(lambda tx: tx.value("SELECT token FROM submission"))
        assert f"acme/{made['id']}/{token}.mp4" == await house.plant.db.read(
            lambda tx: tx.value("SELECT video_key FROM generation")
        )
