"""Endpoints of one's own in a whole house: their secrets sign, their headers go along, nothing of either is told."""

from __future__ import annotations

import io
import json
import logging
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pipeline import telemetry
from pipeline.app import open_plant
from pipeline.db import Tx
from pipeline.outbox import DEFAULT_ENDPOINT, OPERATOR_ENDPOINT, forget_deleted, forget_expired, managing, secrets
from pipeline.server import HttpServer
from tests.house import House, eventually, make_settings, open_house
from webhooks.signing import InvalidSignature, verify

pytestmark = pytest.mark.anyio

PATH = "/api/webhooks/endpoints"
TOKEN = "Bearer a-token-that-nobody-sees"
KEYS = {"secret_key": "a key for tests", "webhook_secret": f"whsec_{'A' * 32}"}


SLOW = {"webhook_schedule": "0,1,1,1"}


@dataclass
class Listener:
    url: str = ""
    status: int = 204
    requests: list[tuple[dict[str, str], bytes]] = field(default_factory=list)


@asynccontextmanager
async def listening() -> AsyncIterator[Listener]:
    heard = Listener()

    async def take(request: Request) -> Response:
        heard.requests.append((dict(request.headers), await request.body()))
        return Response(status_code=heard.status)

    app = Starlette(routes=[Route("/hook", take, methods=["POST"])])
    async with HttpServer(app, "127.0.0.1", 0) as server:
        heard.url = f"http://127.0.0.1:{server.port}/hook"
        yield heard


async def heard(listener: Listener, count: int) -> list[tuple[dict[str, str], bytes]]:
    async def look() -> list[tuple[dict[str, str], bytes]]:
        return listener.requests

    return await eventually(look, lambda requests: len(requests) >= count, 15)


async def call(house: House, method: str, path: str, **more: Any) -> dict[str, Any]:
    response = await house.api.request(method, path, **more)
    assert response.status_code < 300, response.text
    return response.json() if response.content else {}


async def told(house: House) -> str:
    """A generation that has ended at once, and so an event; its id."""
    made = await house.submit("[[fail:moderation]] x")
    await house.ended(made["id"])
    return str(made["id"])


async def deliveries(house: House, endpoint: str) -> list[dict[str, Any]]:
    data: list[dict[str, Any]] = (await call(house, "GET", f"/api/webhooks/deliveries?endpoint={endpoint}"))["data"]
    return data


async def ended(house: House, endpoint: str, state: str, count: int = 1) -> list[dict[str, Any]]:
    async def look() -> list[dict[str, Any]]:
        return [each for each in await deliveries(house, endpoint) if each["state"] == state]

    return await eventually(look, lambda found: len(found) >= count, 15)


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Everything that would be logged, at the lowest level."""
    stream, handler = io.StringIO(), logging.StreamHandler()
    handler.setStream(stream)
    handler.setFormatter(telemetry._JsonFormatter())
    logger = logging.getLogger("dailies")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield stream
    logger.removeHandler(handler)
    logger.setLevel(level)


async def test_an_event_goes_to_all_that_want_it_signed_by_their_own_secrets(tmp_path, place):
    async with listening() as one, listening() as two, open_house(tmp_path, **KEYS, database_url=place.url) as house:
        first = await call(house, "POST", PATH, json={"url": one.url, "signing": "both", "headers": {"X-Key": "k"}})
        second = await call(house, "POST", PATH, json={"url": two.url, "events": ["generation.*"]})
        third = await call(house, "POST", PATH, json={"url": two.url, "events": ["generation.completed"]})
        await told(house)
        (headers, body), *_ = await heard(one, 1)
        public = next(each["publicKey"] for each in first["secrets"] if each["publicKey"])
        now = house.plant.clock.now()
        for secret in (first["secret"], public):
            verify([secret], headers, body, now=now)
        for other in (second["secret"], *house.plant.secrets.webhook):
            with pytest.raises(InvalidSignature):
                verify([other], headers, body, now=now)
        assert headers["x-key"] == "k"
        for headers, body in await heard(two, 2):
            verify([second["secret"]], headers, body, now=now)
            assert "x-key" not in headers

        async def types() -> set[str]:
            return {json.loads(body)["type"] for _, body in two.requests}

        await eventually(types, lambda found: found >= {"generation.processing", "generation.failed"}, 15)
        assert await deliveries(house, third["id"]) == []
        (default,) = await house.webhooks(1)
        assert default.headers["webhook-signature"].count("v1,") == 1


async def test_what_is_on_its_way_is_signed_by_the_secrets_of_the_moment(tmp_path, place):
    async with listening() as one, open_house(tmp_path, **KEYS, **SLOW, database_url=place.url) as house:
        made = await call(house, "POST", PATH, json={"url": one.url})
        one.status = 500
        await told(house)
        await heard(one, 1)
        path = f"{PATH}/{made['id']}/rotate-secret"
        second = await call(house, "POST", path, json={})
        third = await call(house, "POST", path, json={"overlapSeconds": 0})
        one.requests.clear()
        one.status = 204
        (headers, body), *_ = await heard(one, 1)
        verify([third["secret"]], headers, body, now=house.plant.clock.now())
        for gone in (made["secret"], second["secret"]):
            with pytest.raises(InvalidSignature):
                verify([gone], headers, body, now=house.plant.clock.now())


async def test_neither_log_nor_answer_nor_database_tells_a_secret(tmp_path, place, log):
    async with listening() as one, open_house(tmp_path, **KEYS, database_url=place.url) as house:
        asked = {"url": one.url, "signing": "both", "headers": {"Authorization": TOKEN}}
        made = await call(house, "POST", PATH, json=asked)
        rows = await house.plant.db.read(lambda tx: secrets.live(tx, [made["id"]]))
        words = [*secrets.opened(house.plant.signatory.box, rows), TOKEN]
        assert len(words) == 3
        await told(house)
        (headers, _), *_ = await heard(one, 1)
        assert headers["authorization"] == TOKEN
        one.status = 500
        await call(house, "POST", f"{PATH}/{made['id']}/test")
        (delivery, *_) = await ended(house, made["id"], "delivered")
        shown = [
            await call(house, "GET", PATH),
            await call(house, "GET", f"{PATH}/{made['id']}"),
            await call(house, "PATCH", f"{PATH}/{made['id']}", json={"description": "x"}),
            await call(house, "GET", f"/api/webhooks/deliveries/{delivery['id']}"),
            await call(house, "POST", f"{PATH}/{made['id']}/disable"),
            await call(house, "POST", f"{PATH}/{made['id']}/enable"),
            await house.plant.db.read(everything),
        ]
        text = json.dumps(shown, default=str) + log.getvalue()
        assert "webhook.endpoint" in log.getvalue()
        assert "hidden" in text, "the attempt names the header that it does not show"
        for word in words:
            for part in (word, word.partition("_")[2] or word):
                assert part not in text


def everything(tx: Tx) -> list[Any]:
    tables = ("webhook_endpoint", "webhook_secret", "webhook_delivery", "webhook_attempt", "webhook_event", "timeline")
    return [tx.all(f"SELECT * FROM {table}") for table in tables]


async def test_what_is_switched_off_by_hand_stays_off_and_its_deliveries_can_be_sent_again(tmp_path, place):
    told_at = {"operator_webhook_url": "http://127.0.0.1:1/x"}
    async with open_house(tmp_path, **KEYS, **told_at, database_url=place.url) as house:
        await call(house, "POST", f"{PATH}/{OPERATOR_ENDPOINT}/disable")
        await call(house, "POST", f"{PATH}/{DEFAULT_ENDPOINT}/disable", json={"reason": "moving"})
        await told(house)
        (dead,) = await ended(house, DEFAULT_ENDPOINT, "dead")
        assert dead["lastError"] == "switched off by hand: moving"
        await call(house, "POST", f"/api/webhooks/deliveries/{dead['id']}/redeliver")
        await ended(house, DEFAULT_ENDPOINT, "dead", 2)
        settings = make_settings(tmp_path / "again", **KEYS, database_url=place.url, webhook_url="http://127.0.0.1:1/x")
        settings = settings.model_copy(update={"operator_webhook_url": "http://127.0.0.1:1/new"})
        async with open_plant(settings) as again:
            row = await again.db.write(lambda tx: managing.hold(tx, None, DEFAULT_ENDPOINT))
            assert row is not None
            assert (row["disabled_reason"], row["url"]) == ("switched off by hand: moving", "http://127.0.0.1:1/x")
            row = await again.db.write(lambda tx: managing.hold(tx, None, OPERATOR_ENDPOINT))
            assert row is not None
            assert (row["disabled_reason"], row["url"]) == ("switched off by hand", "http://127.0.0.1:1/new")
        assert house.received == []


async def test_what_was_on_its_way_to_a_deleted_endpoint_is_cancelled(tmp_path, place):
    async with (
        listening() as one,
        open_house(tmp_path, **KEYS, database_url=place.url, webhook_schedule="0,1,1") as house,
    ):
        one.status = 500
        made = await call(house, "POST", PATH, json={"url": one.url})
        await told(house)
        await heard(one, 1)
        await call(house, "DELETE", f"{PATH}/{made['id']}")
        (gone,) = await ended(house, made["id"], "cancelled")
        response = await house.api.post(f"/api/webhooks/deliveries/{gone['id']}/redeliver")
        assert (response.status_code, response.json()["code"]) == (410, "gone")
        assert "endpoint was deleted" in response.json()["detail"]
        await told(house)
        assert len(await deliveries(house, made["id"])) == 1
        assert await house.plant.db.write(forget_deleted) == 0
        await house.plant.db.write(lambda tx: tx.run("DELETE FROM webhook_delivery"))
        assert await house.plant.db.write(forget_deleted) == 1


async def test_what_waits_for_hours_goes_to_another_url_at_once(tmp_path, place):
    async with (
        listening() as broken,
        listening() as well,
        open_house(tmp_path, **KEYS, database_url=place.url, webhook_schedule="0,7200") as house,
    ):
        broken.status = 500
        made = await call(house, "POST", PATH, json={"url": broken.url})

        async def waiting() -> list[dict[str, Any]]:
            return [each for each in await deliveries(house, made["id"]) if each["lastError"]]

        await told(house)
        await eventually(waiting, bool, 15)
        await call(house, "PATCH", f"{PATH}/{made['id']}", json={"url": well.url})
        await ended(house, made["id"], "delivered")
        assert len(broken.requests) == len(well.requests) == 1


async def test_a_tenant_whose_last_endpoint_is_deleted_has_that_of_the_settings_again(tmp_path, place):
    async with open_house(tmp_path, **KEYS, database_url=place.url, api_key="op") as house:
        house.api.headers["Authorization"] = "Bearer op"
        made = await call(house, "POST", f"{PATH}?tenant=acme", json={"url": "http://127.0.0.1:1/x"})
        generation = {"tenant_id": "acme", "webhook_url": None, "webhook_events": None}

        async def where() -> list[str]:
            from pipeline.outbox.endpoints import places

            found = await house.plant.db.read(lambda tx: places(tx, generation, "generation.completed"))
            return [row["id"] for row in found]

        assert await where() == [made["id"]]
        await call(house, "DELETE", f"{PATH}/{made['id']}")
        assert await where() == [DEFAULT_ENDPOINT]


async def test_after_a_rotation_of_the_secret_key_all_is_sealed_anew(tmp_path, place):
    keys = {"database_url": place.url, "webhook_url": "http://127.0.0.1:1/x"}
    secret = f"whsec_{'A' * 32}"
    async with open_plant(make_settings(tmp_path, **keys, secret_key="old", webhook_secret=secret)) as plant:
        wanted = managing.Wanted("https://x.example", ["generation.*"], headers={"X-A": TOKEN})
        made = secrets.new_secrets(("v1", "v1a"), os.urandom)
        about: Any = {"tenant": "default", "random": os.urandom}
        row = await plant.db.write(lambda tx: managing.create(tx, plant.signatory, wanted, made, **about))
    texts = sorted(each.text for each in made)
    for key in ("new,old", "new"):
        async with open_plant(make_settings(tmp_path, **keys, secret_key=key, webhook_secret=secret)) as plant:
            assert await plant.db.read(lambda tx, at=plant, row=row: opened(tx, at, row)) == (texts, {"X-A": TOKEN})


def opened(tx: Tx, plant: Any, row: dict[str, Any]) -> tuple[list[str], dict[str, str]]:
    shown = managing.find(tx, None, row["id"])
    assert shown is not None
    signatory = plant.signatory
    return sorted(signatory.secrets(shown.row, shown.secrets)), signatory.headers(shown.row)


async def test_a_lost_secret_key_is_told_at_the_start_and_by_what_cannot_be_sent(tmp_path, place, caplog):
    secret = {"database_url": place.url, "webhook_secret": f"whsec_{'A' * 32}"}
    async with open_house(tmp_path / "a", **secret, secret_key="old", work=False) as house:
        made = await call(house, "POST", PATH, json={"url": "http://127.0.0.1:1/x", "headers": {"X-A": "1"}})
        await house.submit("[[fail:moderation]] x")
    schedule = {"webhook_schedule": "0,0.05"}
    async with open_house(tmp_path / "b", **secret, **schedule, secret_key="new", log_level="warning") as house:
        assert any(
            "2 secrets or headers" in str(record.fields) for record in caplog.records if hasattr(record, "fields")
        )
        (dead,) = await ended(house, made["id"], "dead")
        assert dead["errorCode"] == "endpoint_sealed_away"
        assert "SECRET_KEY" in dead["lastError"]
        assert dead["attemptCount"] == 0
        assert len(await house.webhooks(1)) == 1, "the others get theirs"
        shown = await call(house, "GET", f"{PATH}/{made['id']}")
        assert shown["headers"] == {}


async def test_secrets_that_have_ended_sign_no_more_and_are_forgotten(db, time, tmp_path):
    from pipeline.keys import Box
    from pipeline.outbox import Signatory

    signatory = Signatory(Box(["a"], "webhook"), [])
    wanted = managing.Wanted("https://x.example", ["generation.*"])
    about: Any = {"tenant": "default", "random": os.urandom}
    first, second = (secrets.new_secrets(("v1",), os.urandom) for _ in range(2))
    row = await db.write(lambda tx: managing.create(tx, signatory, wanted, first, **about))
    rotation: Any = {"overlap_ms": 60_000, "random": os.urandom}
    await db.write(lambda tx: managing.rotate(tx, signatory.box, row, second, **rotation))

    async def live() -> list[str]:
        rows = await db.read(lambda tx: secrets.live(tx, [row["id"]]))
        return secrets.opened(signatory.box, rows)

    assert sorted(await live()) == sorted([first[0].text, second[0].text])
    assert await db.write(forget_expired) == 0
    time.passes(61)
    assert await live() == [second[0].text]
    assert await db.write(forget_expired) == 1
    assert await live() == [second[0].text]
