"""Events as they are recorded: every one, the very bytes, whoever was cut off or committed late."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from pipeline import credentials
from pipeline.credentials import Scope
from pipeline.db import Database, Tx
from pipeline.ids import new_id
from pipeline.outbox import tape as tapes
from pipeline.outbox.tape import NotAPlace, Tape, behind, now_on
from tests.house import House, eventually
from tests.pipeline.engines import Place, Time
from tests.sse import Event, stream

pytestmark = pytest.mark.anyio

PATH = "/api/webhooks/stream"


@pytest.fixture(scope="module")
def house(house_on_each_engine):
    return house_on_each_engine


async def cancelled(house: House, prompt: str = "x", **more: Any) -> str:
    """A generation whose end is an event at once; its id."""
    made = await house.submit(prompt, **more)
    await house.api.post(f"/api/generations/{made['id']}/cancel")
    return str(made["id"])


def is_of(*generations: str) -> Any:
    waited = set(generations)

    def good(event: Event) -> bool:
        if event.name != "ready":
            waited.discard(event.data["generation"])
        return not waited

    return good


async def test_an_event_is_told_as_it_is_recorded_with_the_bytes_that_are_sent(house):
    async with stream(house.api.base_url, PATH) as heard:
        ready = await anext(heard.events)
        made = await cancelled(house, 'füchse – \\u0000 in quotes "')
        (event,) = await heard.until(is_of(made))
    assert (ready.name, ready.data, ready.has_id) == ("ready", {}, True)
    assert (event.name, event.data["type"], event.data["generation"]) == (
        "generation.cancelled", "generation.cancelled", made,
    )  # fmt: skip
    row = await house.plant.db.read(
        lambda tx: tx.one("SELECT * FROM webhook_event WHERE generation_id = :id", {"id": made})
    )
    assert event.data["body"].encode() == row["body"].encode()
    assert event.last_id == event.data["id"] == row["id"]
    assert json.loads(event.data["body"])["status"] == "cancelled"


async def test_whoever_comes_back_misses_nothing(house):
    async with stream(house.api.base_url, PATH) as heard:
        ready = await anext(heard.events)
        first = await cancelled(house)
        (event,) = await heard.until(is_of(first))
    second, third = await cancelled(house), await cancelled(house)
    for query, headers in ((f"?after={event.last_id}", {}), ("", {"last_event_id": event.last_id})):
        async with stream(house.api.base_url, PATH + query, **headers) as heard:
            seen = await heard.until(is_of(second, third))
        assert {second, third} <= {each.data.get("generation") for each in seen}
    answer = await house.api.get(PATH, params={"after": ready.last_id})
    assert all(made in answer.text for made in (first, second, third))


async def test_without_the_wish_for_a_stream_it_ends_with_what_there_is(house):
    made = await cancelled(house)
    answer = await house.api.get(PATH)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert made not in answer.text
    assert "event: ready" in answer.text
    assert (await house.api.head(PATH)).content == b""


@pytest.mark.parametrize("after", ["x", "evt_", "evt_ZZZ", "gen_0193a3f5b0c07", "evt_" + "0" * 40, ""])
async def test_a_place_that_is_none_is_refused(house, after):
    answer = await house.api.get(PATH, params={"after": after})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_parameter")


async def nobody_listens(house: House) -> None:
    async def open_streams() -> int:
        return house.service.streams.open

    await eventually(open_streams, lambda count: count == 0, 5)


async def test_too_many_listeners_are_told_to_come_later(house, monkeypatch):
    await nobody_listens(house)
    monkeypatch.setattr("pipeline.api.stream.MAX_STREAMS", 1)
    async with stream(house.api.base_url, PATH) as heard:
        await anext(heard.events)
        answer = await house.api.get(PATH)
        assert (answer.status_code, answer.json()["code"]) == (503, "too_many_watchers")
    await nobody_listens(house)


async def test_a_key_hears_its_own_tenants_events_alone(house):
    keys = {}
    for tenant in ("hearing", "deaf"):
        asked: Any = {"name": "k", "tenant": tenant, "scopes": (Scope.SUBMIT, Scope.READ), "random": os.urandom}
        _, keys[tenant] = await house.plant.db.write(lambda tx, asked=asked: credentials.create(tx, **asked))
    headers = {name: {"Authorization": f"Bearer {key}"} for name, key in keys.items()}
    url = str(house.api.base_url)
    async with stream(url, PATH, **headers["hearing"]) as heard:
        await anext(heard.events)
        made = {}
        for tenant in ("deaf", "hearing"):
            answer = await house.api.post("/api/generations", json={"prompt": "x"}, headers=headers[tenant])
            made[tenant] = answer.json()["id"]
            await house.api.post(f"/api/generations/{made[tenant]}/cancel", headers=headers[tenant])
        seen = await heard.until(is_of(made["hearing"]))
    assert [event.data["generation"] for event in seen] == [made["hearing"]]


async def test_a_stream_that_is_quiet_is_kept_alive_and_ends_in_time(house, monkeypatch):
    from pipeline.api.streams import Pace

    monkeypatch.setattr(house.service.streams, "pace", Pace(tick=0.01, keep_alive=0.05, lifetime=0.3))
    async with stream(house.api.base_url, PATH) as heard:
        events = await heard.all()
    assert [event.name for event in events] == ["ready"]
    assert heard.raw.count(": keep-alive") >= 2


# --- the tape ---------------------------------------------------------------------------------------------------------


def write_event(tx: Tx, at: int, *, tenant: str = "default", generation: str = "gen_1", body: str = "{}") -> str:
    row = {"id": new_id("evt", at), "tenant_id": tenant, "generation_id": generation, "run": 1, "sequence": 1}
    row |= {"type": "generation.failed", "terminal": 0, "body": body, "created_at": at}
    tx.insert("webhook_event", row)
    return str(row["id"])


async def hear(db: Database, tape: Tape) -> list[str]:
    """Everything that is new to it."""
    found, more = [], True
    while more:
        rows, more = await db.read(tape.listen)
        found += [row["id"] for row in rows]
    return found


async def test_what_commits_late_is_heard_once_and_so_is_everything_else(place: Place, time: Time) -> None:
    db = place.open()
    tape = await db.read(lambda tx: now_on(tx, None))
    time.passes(20)
    now = await db.read(lambda tx: tx.now)
    early = await db.write(lambda tx: write_event(tx, now))
    assert await hear(db, tape) == [early]
    late = await db.write(lambda tx: write_event(tx, now - 15_000))
    assert await hear(db, tape) == [late]
    assert await hear(db, tape) == []
    time.passes(100)
    assert await hear(db, tape) == []
    assert tape.heard == set()


async def test_a_long_past_is_heard_in_portions_and_not_remembered(place: Place, time: Time) -> None:
    db = place.open()
    now = await db.read(lambda tx: tx.now)
    past = [await db.write(lambda tx, at=now + n: write_event(tx, at)) for n in range(130)]
    time.passes(3600)
    tape = behind(past[0], None)
    rows, more = await db.read(tape.listen)
    assert (len(rows), more) == (tapes.BODIES, True)
    assert len(tape.heard) == 0
    assert [row["id"] for row in rows] + await hear(db, tape) == past


async def test_a_burst_is_heard_whole(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tapes, "PAGE", 7)
    db = place.open()
    tape = await db.read(lambda tx: now_on(tx, None))
    made = await db.write(lambda tx: [write_event(tx, tx.now + n) for n in range(120)])
    assert await hear(db, tape) == made
    assert await hear(db, tape) == []


async def test_notices_others_events_and_forgotten_ones_are_not_heard(place: Place) -> None:
    db = place.open()
    tape, whole = await db.read(lambda tx: (now_on(tx, "acme"), now_on(tx, None)))

    def unit(tx: Tx) -> list[str]:
        write_event(tx, tx.now, tenant="*", generation="")
        write_event(tx, tx.now, body="")
        return [write_event(tx, tx.now, tenant="acme"), write_event(tx, tx.now, tenant="globex")]

    mine, others = await db.write(unit)
    assert await hear(db, tape) == [mine]
    assert sorted(await hear(db, whole)) == sorted([mine, others])


def test_only_ids_of_events_are_places() -> None:
    for text in ("", "evt_", "evt_12345", "dlv_0193a3f5b0c0", "evt_0193A3F5B0C0", "evt_0193a3f5b0c0'--"):
        with pytest.raises(NotAPlace):
            behind(text, None)
    assert behind("evt_0193a3f5b0c0", None).floor < "evt_0193a3f5b0c0"
