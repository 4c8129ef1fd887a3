"""What failures mean for an endpoint: pauses that grow, probes one by one, the end after days; and what waits costs
nothing."""

from __future__ import annotations

import asyncio
import json
import time as host
from typing import Any

import pytest

from pipeline import admission, queue
from pipeline.db import Database, Tx
from pipeline.lifecycle import JobKind, Step
from pipeline.outbox import (
    DEFAULT_ENDPOINT,
    OPERATOR_ENDPOINT,
    Breaker,
    managing,
    set_default_endpoint,
    set_operator_endpoint,
)
from tests.pipeline.delivery_help import BAD, OK, Post, answered, make_post
from tests.pipeline.engines import Place, Time, transaction

pytestmark = pytest.mark.anyio

DAY = 86_400.0


@pytest.fixture
def post(db: Database, time: Time) -> Post:
    return make_post(db, time)


async def operator_notices(post: Post) -> list[tuple[str, dict[str, Any]]]:
    rows = await post.db.read(
        lambda tx: tx.all("SELECT type, body FROM webhook_event WHERE type LIKE 'operator.%' ORDER BY id")
    )
    return [(row["type"], json.loads(row["body"])["data"]) for row in rows]


async def test_five_failures_in_a_row_close_the_lane_and_one_at_a_time_is_tried_until_one_succeeds(post: Post) -> None:
    await post.endpoint()
    waiting = await post.event(count=30)
    await post.fail(4)
    assert await post.pause() == 0
    await post.fail(1)
    assert 9.9 < await post.pause() <= 10
    assert await post.claim() == []
    for longer in (20, 40, 80):
        post.time.passes(await post.pause() + 0.1)
        assert len(await post.attempt(BAD)) == 1
        assert longer - 0.2 < await post.pause() <= longer
    post.time.passes(81)
    assert len(await post.attempt(OK)) == 1
    assert len(await post.claim()) == 8
    assert len(set(waiting)) == 30


async def test_the_pause_grows_to_ten_minutes_and_no_further(post: Post) -> None:
    await post.endpoint()
    await post.event(count=30)
    await post.fail(5)
    for _ in range(9):
        post.time.passes(await post.pause() + 0.1)
        await post.attempt(BAD)
    assert 599 < await post.pause() <= 600


async def test_a_success_in_between_and_failures_that_are_long_apart_close_nothing(post: Post) -> None:
    await post.endpoint()
    await post.event(count=20)
    for result in (BAD, BAD, BAD, BAD, OK, BAD, BAD, BAD, BAD):
        await post.attempt(result, limit=1)
        post.time.passes(0.01)
    assert await post.pause() == 0
    post.time.passes(700)
    await post.attempt(BAD, limit=1)
    assert await post.pause() == 0


async def test_what_ends_while_the_lane_is_closed_neither_opens_nor_prolongs_it(post: Post) -> None:
    await post.endpoint()
    await post.event(count=8)
    turns = await post.claim()
    for turn in turns[:5]:
        await post.record(turn, BAD)
    closed = await post.pause()
    await post.record(turns[5], BAD)
    await post.record(turns[6], OK)
    assert 0 < await post.pause() <= closed
    assert (await post.lane())["probing"] == 1


@pytest.mark.parametrize(("status", "asked", "pause"), [(429, 120.0, 120), (503, 86_400.0, 86_400), (503, 0.4, 0.4)])
async def test_a_receiver_that_names_a_time_is_left_alone_until_then(
    post: Post, status: int, asked: float, pause: float
) -> None:
    await post.endpoint()
    await post.event(count=20)
    sent = await post.attempt(answered(status, asked), limit=1)
    assert pause - 0.3 <= await post.pause() <= pause
    assert await post.claim() == [] or pause < 1
    job = await post.one("SELECT scheduled_for, attempts FROM job WHERE subject_id = :id", id=sent[0])
    now = await post.db.read(lambda tx: tx.now)
    assert job["scheduled_for"] - now > pause * 1000 - 300
    waiting = await post.db.read(lambda tx: tx.all("SELECT attempts FROM job WHERE subject_id <> :id", {"id": sent[0]}))
    assert {row["attempts"] for row in waiting} == {0}


@pytest.mark.parametrize("status", [500, 502, 404])
async def test_only_429_and_503_speak_for_the_whole_receiver(post: Post, status: int) -> None:
    await post.endpoint()
    await post.event(count=2)
    await post.attempt(answered(status, 120.0), limit=1)
    assert await post.pause() == 0


async def test_ten_thousand_that_wait_for_a_dead_endpoint_cost_little_and_hold_up_nobody(post: Post) -> None:
    await post.endpoint()
    await post.endpoint("ep_b")
    for _ in range(10):
        await post.event(count=1000)
    await post.fail(5)
    (healthy,) = await post.event("ep_b")
    statements: list[str] = []

    class Counting(Tx):
        def all(self, sql: str, parameters: Any = None) -> list[Any]:
            statements.append(sql)
            return super().all(sql, parameters)

    def look(tx: Tx) -> list[str]:
        counting = Counting(tx.connection, tx.now, postgres=tx.postgres)
        rooms = admission.rooms(counting)
        claims = queue.claim(counting, worker="w", step=Step.DELIVER, limit=64, lease=600.0, rooms=rooms.free)
        return [claim.subject_id for claim in claims]

    started = host.perf_counter()
    assert await post.db.write(look) == [healthy]
    for _ in range(20):
        assert await post.db.write(look) == []
    assert host.perf_counter() - started < 2.0
    assert len(statements) < 21 * 3
    due = await post.db.read(lambda tx: queue.next_due(tx, [Step.DELIVER]))
    assert due is None or due >= await post.db.read(lambda tx: tx.now)


async def test_days_of_nothing_but_failures_switch_an_endpoint_off_and_keep_what_was_for_it(post: Post) -> None:
    await post.endpoint()
    await post.db.write(lambda tx: set_operator_endpoint(tx, url="https://ops.example/hook"))
    await post.event(count=12)
    await post.fail(5)
    for _ in range(5):
        post.time.passes(DAY + 1)
        assert (await post.one("SELECT * FROM webhook_endpoint WHERE id = 'ep_a'"))["disabled_at"] is None
        await post.attempt(BAD)
    row = await post.one("SELECT * FROM webhook_endpoint WHERE id = 'ep_a'")
    assert "5.0 days (WEBHOOK_DISABLE_AFTER)" in row["disabled_reason"]
    while await post.attempt(BAD):
        pass
    assert set((await post.states()).values()) <= {"dead", "pending"}
    kept = await post.db.read(lambda tx: tx.all("SELECT * FROM webhook_delivery WHERE endpoint_id = 'ep_a'"))
    assert {row["error_code"] for row in kept} <= {"endpoint_disabled", "webhook_answered"}
    kinds = [kind for kind, _ in await operator_notices(post)]
    assert kinds.count("operator.endpoint.disabled") == kinds.count("operator.endpoint.paused") == 1


async def test_a_success_ends_the_days_of_failures(post: Post) -> None:
    await post.endpoint()
    await post.event(count=20)
    await post.attempt(BAD)
    post.time.passes(6 * DAY)
    await post.attempt(OK)
    assert (await post.one("SELECT * FROM webhook_endpoint WHERE id = 'ep_a'"))["failing_since"] is None
    await post.attempt(BAD)
    assert (await post.one("SELECT * FROM webhook_endpoint WHERE id = 'ep_a'"))["disabled_at"] is None


async def test_few_failures_switch_nothing_off_however_long_ago_the_first_was(post: Post) -> None:
    await post.endpoint()
    await post.event(count=2)
    await post.attempt(BAD)
    post.time.passes(9 * DAY)
    await post.attempt(BAD)
    assert (await post.one("SELECT * FROM webhook_endpoint WHERE id = 'ep_a'"))["disabled_at"] is None


async def test_failures_after_a_quiet_week_count_anew(post: Post) -> None:
    await post.endpoint()
    await post.event(count=20)
    await post.fail(5)
    post.time.passes(7 * DAY)
    for _ in range(5):
        await post.attempt(BAD, limit=1)
        post.time.passes(await post.pause() + 0.1)
    row = await post.one("SELECT * FROM webhook_endpoint WHERE id = 'ep_a'")
    assert row["disabled_at"] is None
    assert row["failing_since"] > await post.db.read(lambda tx: tx.now) - DAY * 1000


async def test_days_of_failures_can_be_borne(db: Database, time: Time) -> None:
    post = make_post(db, time, Breaker(disable_after=0))
    await post.endpoint()
    await post.event(count=10)
    for _ in range(3):
        await post.attempt(BAD)
        time.passes(30 * DAY)
    assert (await post.one("SELECT * FROM webhook_endpoint WHERE id = 'ep_a'"))["disabled_at"] is None


async def test_a_410_switches_off_and_the_operator_is_told(post: Post) -> None:
    await post.endpoint()
    await post.db.write(lambda tx: set_operator_endpoint(tx, url="https://ops.example/hook"))
    await post.event(count=3)
    await post.attempt(answered(410), limit=1)
    assert len(await post.attempt(BAD)) >= 2
    notices = dict(await operator_notices(post))
    assert sorted(notices) == ["operator.delivery.dead", "operator.endpoint.disabled"]
    told = notices["operator.endpoint.disabled"]
    assert (told["endpoint"], told["reason"]) == ("ep_a", "410: as it was told")


async def test_the_operator_hears_of_what_is_dead_but_never_of_its_own_endpoint(post: Post) -> None:
    await post.endpoint()
    await post.db.write(lambda tx: set_operator_endpoint(tx, url="https://ops.example/hook"))
    (lost,) = await post.event()
    for _ in range(40):
        post.time.passes(1000)
        await post.attempt(BAD)
    notices = await operator_notices(post)
    assert [data["delivery"] for kind, data in notices if kind == "operator.delivery.dead"] == [lost]
    states = await post.db.read(
        lambda tx: tx.all("SELECT state FROM webhook_delivery WHERE endpoint_id = :id", {"id": OPERATOR_ENDPOINT})
    )
    assert {row["state"] for row in states} == {"dead"}


async def test_without_a_place_for_them_no_notices_are_made(post: Post) -> None:
    await post.endpoint()
    await post.event()
    await post.attempt(answered(410))
    await post.db.write(lambda tx: set_operator_endpoint(tx, url=None))
    assert await operator_notices(post) == []


# --- how many at once -------------------------------------------------------------------------------------------------


async def test_no_more_are_under_way_than_an_endpoint_takes_in_all_processes_together(post: Post) -> None:
    await post.endpoint(max_in_flight=3)
    await post.endpoint("ep_b")
    await post.event(count=20)
    await post.event("ep_b", count=20)
    first = await post.claim("w1", limit=2)
    second = await post.claim("w2")
    lanes = [turn.claim.lane for turn in first + second]
    assert (lanes.count("endpoint:ep_a"), lanes.count("endpoint:ep_b")) == (3, 8)
    assert await post.claim("w3") == []
    await post.record(first[0], OK)
    assert [turn.claim.lane for turn in await post.claim("w3")] == [first[0].claim.lane]


async def test_two_processes_that_claim_at_once_stay_within_the_bound(post: Post, place: Place) -> None:
    await post.endpoint(max_in_flight=5)
    await post.event(count=50)
    others = [make_post(place.open(), post.time) for _ in range(3)]
    taken = 0
    for _ in range(5):
        found = await asyncio.gather(*(each.claim(f"w{n}") for n, each in enumerate(others)))
        taken += sum(map(len, found))
    assert taken == 5


async def test_one_process_chooses_at_a_time_and_the_other_is_told_to_come_again(postgres_place: Place) -> None:
    db = postgres_place.open()
    post = make_post(db, postgres_place.time)
    await post.endpoint()
    await post.event()
    with transaction(db) as tx:
        assert admission.rooms(tx).free == {"endpoint:ep_a": 8}
        rooms = await db.write(admission.rooms)
        assert rooms.free == {}
        assert rooms.again is not None


async def test_a_rate_is_kept_and_its_end_foreseen(post: Post) -> None:
    await post.endpoint(rate_per_minute=5)
    await post.event(count=30)
    assert len(await post.attempt(OK)) == 5
    rooms = await post.db.write(admission.rooms)
    now = await post.db.read(lambda tx: tx.now)
    assert rooms.free == {}
    assert rooms.again is not None
    assert 58_000 < rooms.again - now <= 60_000
    post.time.passes(30)
    assert await post.claim() == []
    post.time.passes(30.1)
    assert len(await post.claim()) == 5
    assert await post.claim() == []


async def test_a_lost_lease_is_taken_over_within_the_bound(post: Post) -> None:
    await post.endpoint(max_in_flight=2)
    await post.event(count=4)
    lost = await post.claim("w1")
    post.time.passes(601)
    again = await post.claim("w2")
    assert sorted(turn.claim.subject_id for turn in again) == sorted(turn.claim.subject_id for turn in lost)
    assert await post.record(lost[0], OK) is None


async def test_the_url_of_a_request_has_bounds_by_its_host(post: Post) -> None:
    await post.event("request", count=12)
    await post.proven("endpoint:own.example")
    turns = await post.claim()
    assert [turn.claim.lane for turn in turns] == ["endpoint:own.example"] * 8
    for turn in turns:
        await post.record(turn, BAD)
    assert await post.pause("endpoint:own.example") > 9


# --- order ------------------------------------------------------------------------------------------------------------


async def test_a_later_event_waits_for_the_earlier_ones_and_goes_right_after(post: Post) -> None:
    await post.endpoint(ordered=1)
    first, second, third = await post.event(count=3)
    (other,) = await post.event(generation="gen_2")
    turns = {turn.claim.subject_id: turn for turn in await post.claim()}
    for delivery in (second, third, other, first):
        await post.record(turns[delivery], OK)
    states = await post.states()
    assert (states[first], states[other], states[second]) == ("delivered", "delivered", "pending")
    assert await post.attempt(OK) == [second]
    assert await post.attempt(OK) == [third]


async def test_it_waits_no_longer_than_a_minute(post: Post) -> None:
    await post.endpoint(ordered=1)
    first, second = await post.event(count=2)
    await post.attempt(BAD, limit=1)
    await post.attempt(OK)
    post.time.passes(59)
    sent = await post.attempt(answered(500))
    assert second not in sent
    post.time.passes(2)
    assert second in await post.attempt(OK)
    states = await post.states()
    assert (states[first], states[second]) == ("pending", "delivered")


async def test_a_dead_one_is_waited_for_no_longer(post: Post) -> None:
    await post.endpoint(ordered=1)
    first, second = await post.event(count=2)
    turns = {turn.claim.subject_id: turn for turn in await post.claim()}
    await post.record(turns[second], OK)
    await post.db.write(lambda tx: tx.run("UPDATE webhook_endpoint SET disabled_at = NULL"))
    await post.record(turns[first], answered(410))
    await post.db.write(lambda tx: tx.run("UPDATE webhook_endpoint SET disabled_at = NULL"))
    assert (await post.states())[first] == "dead"
    assert await post.attempt(OK) == [second]


async def test_without_the_wish_for_order_all_go_at_once(post: Post) -> None:
    await post.endpoint()
    sent = await post.event(count=3)
    assert sorted(await post.attempt(OK)) == sorted(sent)


async def test_news_of_the_earlier_one_during_the_turn_are_not_missed(post: Post) -> None:
    await post.endpoint(ordered=1)
    first, second = await post.event(count=2)
    turns = {turn.claim.subject_id: turn for turn in await post.claim()}
    await post.record(turns[first], OK)
    await post.record(turns[second], OK)
    assert await post.attempt(OK) == [second]
    job = await post.one("SELECT kind FROM job WHERE subject_id = :id", id=second)
    assert job["kind"] == JobKind.DELIVERY


def move(tx: Tx, name: str, url: str) -> None:
    """As the API does, or for the default endpoint a start."""
    if name == DEFAULT_ENDPOINT:
        set_default_endpoint(tx, url=url, events=[], tenant="default")
        return
    row = managing.hold(tx, None, name)
    assert row is not None
    managing.update(tx, row, {"url": url})


def enable(tx: Tx, name: str) -> None:
    row = managing.hold(tx, None, name)
    assert row is not None
    managing.enable(tx, row)


@pytest.mark.parametrize("name", ["ep_a", DEFAULT_ENDPOINT])
async def test_another_url_starts_afresh_and_the_same_one_does_not(post: Post, name: str) -> None:
    await post.endpoint(name)
    failed = await post.event(name, count=5)
    await post.fail(5)
    row = await post.one("SELECT url FROM webhook_endpoint WHERE id = :id", id=name)
    await post.db.write(lambda tx: move(tx, name, row["url"]))
    assert await post.pause(f"endpoint:{name}") > 0
    await post.db.write(lambda tx: move(tx, name, "https://new.example/hook"))
    row = await post.one("SELECT url, failing_since FROM webhook_endpoint WHERE id = :id", id=name)
    assert (row["url"], row["failing_since"]) == ("https://new.example/hook", None)
    assert sorted(await post.attempt(OK)) == sorted(failed)


async def test_what_failed_is_tried_at_once_where_a_person_says_that_it_is_well(post: Post) -> None:
    await post.endpoint()
    failed = await post.event(count=5)
    await post.fail(5)
    await post.db.write(lambda tx: enable(tx, "ep_a"))
    shown = await post.one("SELECT max(next_at) AS due FROM webhook_delivery")
    assert shown["due"] <= await post.db.read(lambda tx: tx.now)
    assert sorted(await post.attempt(OK)) == sorted(failed)
