"""All that failed since a time is sent again: portion by portion, nothing twice, nothing left out."""

from __future__ import annotations

import os
from typing import Any

import pytest

from pipeline import queue
from pipeline.db import Database, Row, Tx
from pipeline.lifecycle import Step
from pipeline.outbox import Recoveries, recovering
from pipeline.outbox.addressing import address
from pipeline.outbox.recovering import Wish
from pipeline.turn import Report, Turn
from tests.pipeline.delivery_help import BAD, OK, Post, answered, make_post
from tests.pipeline.engines import Time

pytestmark = pytest.mark.anyio

HANDLER = Recoveries()
SINCE_EVER = 0


@pytest.fixture
def post(db: Database, time: Time) -> Post:
    return make_post(db, time)


async def ask(post: Post, **wish: Any) -> Row:
    """A new recovery; of everything unless told otherwise."""
    now = await post.db.read(lambda tx: tx.now)
    asked = Wish(**({"since": SINCE_EVER, "until": now} | wish))
    total = await post.db.read(lambda tx: recovering.count(tx, asked))
    return await post.db.write(lambda tx: recovering.begin(tx, asked, total=total, random=os.urandom))


async def claim(post: Post, worker: str = "w1") -> list[Turn]:
    def unit(tx: Tx) -> list[Turn]:
        claims = queue.claim(tx, worker=worker, step=Step.RECOVER, limit=1, lease=10.0)
        found = HANDLER.load(tx, claims)
        return [Turn(each, found[each.id], None) for each in claims]  # type: ignore[arg-type] # no lease is asked

    return await post.db.write(unit)


async def record(post: Post, turn: Turn) -> object:
    report: Report = await HANDLER.run(turn)
    return await post.db.write(lambda tx: HANDLER.record_turn(tx, turn, report))


async def work(post: Post) -> int:
    """Turn after turn until nothing is left; how many that took."""
    turns = 0
    while found := await claim(post):
        await record(post, found[0])
        turns += 1
    return turns


async def state(post: Post, recovery: Row) -> tuple[str, int, int, int]:
    row = await post.one("SELECT * FROM webhook_recovery WHERE id = :id", id=recovery["id"])
    return row["state"], row["total"], row["done"], row["skipped"]


async def kill_all(post: Post, endpoint: str = "ep_a") -> None:
    """Every delivery of an endpoint is given up."""
    sql = "UPDATE webhook_delivery SET state = 'dead', finished_at = :now, attempts = 4 WHERE endpoint_id = :id"
    end = "UPDATE job SET status = 'dead', finished_at = :now WHERE lane = :lane"

    def unit(tx: Tx) -> None:
        tx.run(sql, {"now": tx.now, "id": endpoint})
        tx.run(end, {"now": tx.now, "lane": f"endpoint:{endpoint}"})

    await post.db.write(unit)


async def test_what_is_dead_gets_a_new_schedule_once_and_in_portions(post: Post) -> None:
    await post.endpoint()
    dead = await post.event(count=250)
    await kill_all(post)
    recovery = await ask(post)
    assert await work(post) == 3
    assert await state(post, recovery) == ("done", 250, 250, 0)
    assert set((await post.states()).values()) == {"pending"}
    sent: list[str] = []
    while portion := await post.attempt(OK):
        sent += portion
    assert sorted(sent) == sorted(dead)
    again = await ask(post)
    await work(post)
    assert await state(post, again) == ("done", 0, 0, 0)


async def test_a_worker_that_dies_between_two_portions_costs_nothing(post: Post) -> None:
    await post.endpoint()
    dead = await post.event(count=250)
    await kill_all(post)
    recovery = await ask(post)
    (first,) = await claim(post)
    await record(post, first)
    (lost,) = await claim(post)
    post.time.passes(11)
    (rescued,) = await claim(post, "w2")
    assert rescued.claim.rescued
    assert await record(post, lost) is None
    await record(post, rescued)
    await work(post)
    assert await state(post, recovery) == ("done", 250, 250, 0)
    jobs = await post.db.read(lambda tx: tx.all("SELECT subject_id FROM job WHERE kind = 'delivery'"))
    assert sorted(row["subject_id"] for row in jobs) == sorted(dead)


async def test_what_waits_for_its_next_try_goes_now(post: Post) -> None:
    await post.endpoint()
    (waiting,) = await post.event()
    (untried,) = await post.event("ep_b")
    await post.attempt(BAD, limit=1)
    await post.attempt(BAD, limit=1)
    assert await post.claim() == []
    recovery = await ask(post, endpoint="ep_a")
    await work(post)
    assert await state(post, recovery) == ("done", 1, 1, 0)
    assert await post.attempt(OK) == [waiting]
    row = await post.one("SELECT * FROM webhook_delivery WHERE id = :id", id=waiting)
    assert (row["state"], row["attempts"]) == ("delivered", 2)
    assert untried


async def test_only_what_is_asked_for_is_sent_again(post: Post) -> None:
    for name in ("ep_a", "ep_b"):
        await post.endpoint(name)
        await post.event(name, count=2)
        await post.event(name, type="generation.failed")
        await post.event(name, tenant="acme")
    middle = await post.db.read(lambda tx: tx.now) + 1
    post.time.passes(60)
    await post.event(count=3)
    await kill_all(post)
    await kill_all(post, "ep_b")
    for wish, total in (
        ({"endpoint": "ep_b", "types": ["generation.failed"]}, 1),
        ({"since": middle}, 3),
        ({"until": middle, "tenant": "acme"}, 2),
        ({"types": ["generation.held"]}, 0),
        ({}, 5),
    ):
        recovery = await ask(post, **wish)
        await work(post)
        assert await state(post, recovery) == ("done", total, total, 0), wish


async def test_an_endpoint_that_is_off_is_passed_over_unless_it_is_named(post: Post) -> None:
    await post.endpoint()
    (sent,) = await post.event()
    await post.attempt(answered(410))
    await post.event()
    await post.attempt(OK)
    recovery = await ask(post)
    await work(post)
    assert await state(post, recovery) == ("done", 2, 0, 2)
    named = await ask(post, endpoint="ep_a")
    await work(post)
    assert await state(post, named) == ("done", 2, 2, 0)
    assert sent in await post.attempt(OK)


async def test_naming_an_endpoint_opens_its_lane_but_no_other_tenants(post: Post) -> None:
    await post.endpoint(tenant_id="acme")
    await post.event(count=6, tenant="globex")
    await post.fail(5)
    assert await post.pause() > 9
    await ask(post, endpoint="ep_a", tenant="globex")
    assert await post.pause() > 9
    await ask(post, endpoint="ep_a", tenant="acme")
    assert await post.pause() == 0


async def test_an_endpoint_that_is_gone_and_a_body_that_is_forgotten_are_passed_over(post: Post) -> None:
    await post.endpoint()
    await post.endpoint("ep_b", deleted_at=1)
    await post.event("ep_b")
    await post.event("ep_c")
    await post.event(body="")
    await post.event()
    for name in ("ep_a", "ep_b", "ep_c"):
        await kill_all(post, name)
    recovery = await ask(post)
    await work(post)
    assert await state(post, recovery) == ("done", 4, 1, 3)


async def test_many_that_went_well_are_looked_through_in_bounded_steps(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovering, "LOOKED_AT", 10)
    end = recovering._END_OF_LOOK.rpartition("OFFSET")[0] + "OFFSET 9"
    monkeypatch.setattr(recovering, "_END_OF_LOOK", end)
    await post.endpoint()
    await post.event(count=35)
    while await post.attempt(OK):
        pass
    (last,) = await post.event()
    await kill_all_of(post, [last])
    recovery = await ask(post)
    assert await work(post) == 4
    assert await state(post, recovery) == ("done", 1, 1, 0)


async def kill_all_of(post: Post, deliveries: list[str]) -> None:
    def unit(tx: Tx) -> None:
        values = {"ids": tx.of(deliveries), "now": tx.now}
        tx.run(f"UPDATE webhook_delivery SET state = 'dead', finished_at = :now WHERE id {tx.among}", values)
        tx.run(f"UPDATE job SET status = 'dead', finished_at = :now WHERE subject_id {tx.among}", values)

    await post.db.write(unit)


async def test_ended_recoveries_go_after_their_time(post: Post) -> None:
    await ask(post)
    await work(post)
    running = await ask(post)
    now = await post.db.read(lambda tx: tx.now)
    assert await post.db.write(lambda tx: recovering.forget_recoveries(tx, now + 1)) == 1
    left = await post.db.read(lambda tx: recovering.recoveries(tx, None, limit=9))
    assert [row["id"] for row in left] == [running["id"]]


async def again(post: Post, delivery_id: str, redelivery: int) -> str:
    """A redelivery of the same event to the same endpoint."""
    row = await post.one("SELECT * FROM webhook_delivery WHERE id = :id", id=delivery_id)
    place = {"id": row["endpoint_id"], "url": "https://own.example", "secret_ref": "settings"}
    about: dict[str, Any] = {"tenant": "default", "event_id": row["event_id"], "place": place, "redelivery": redelivery}
    made = await post.db.write(lambda tx: address(tx, **about, delay=0.0, random=os.urandom))
    assert made is not None
    return made


async def test_an_event_that_was_sent_again_by_hand_is_sent_once(post: Post) -> None:
    await post.endpoint()
    alone, first = await post.event(count=2)
    await again(post, first, 1)
    last = await again(post, first, 2)
    await kill_all(post)
    recovery = await ask(post)
    await work(post)
    assert await state(post, recovery) == ("done", 2, 2, 0)
    assert sorted(await post.attempt(OK)) == sorted([alone, last])
    over = await ask(post)
    await work(post)
    assert await state(post, over) == ("done", 0, 0, 0), "one that arrived speaks for those before it"
