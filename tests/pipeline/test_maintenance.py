"""What was kept for its time goes, file first; money, and what is still to be told, stays."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from pipeline import ledger, outbox, queue, retention, rings, timeline
from pipeline.db import Row, Tx
from pipeline.ids import border, new_id
from pipeline.lifecycle import JobKind, Step
from pipeline.maintenance.keep import BATCH
from pipeline.storage import StorageUnavailable
from providers.base import Callback, ErrorCode, ProviderError, Recovery
from tests.pipeline.engines import Place, transaction
from tests.pipeline.yard import DAY, Yard

pytestmark = pytest.mark.anyio
FREE = ProviderError(ErrorCode.INVALID_REQUEST, "no", billed=False)


async def deliver_to(yard: Yard, generation_id: str, state: str) -> str:
    """An event of a generation with one delivery, one attempt and its job."""

    def unit(tx: Tx) -> str:
        event, delivery = new_id("evt", tx.now), new_id("dlv", tx.now)
        over = tx.now if state in {"delivered", "dead"} else None
        shared = {"tenant_id": "default", "created_at": tx.now}
        tx.insert(
            "webhook_event",
            shared
            | {"id": event, "generation_id": generation_id, "run": 1, "sequence": 1, "type": "generation.completed"}
            | {"terminal": 1, "body": "{}"},
        )
        tx.insert(
            "webhook_delivery",
            shared
            | {"id": delivery, "event_id": event, "endpoint_id": "ep", "secret_ref": "settings", "redelivery": 0}
            | {"state": state, "attempts": 1, "finished_at": over},
        )
        tx.insert(
            "webhook_attempt",
            {"id": new_id("att", tx.now), "tenant_id": "default", "delivery_id": delivery, "attempt": 1, "url": "x"}
            | {"reason": "ok", "detail": "", "ms": 1, "at": tx.now},
        )
        queue.enqueue(tx, queue.NewJob(JobKind.DELIVERY, delivery, "default", "endpoint:ep", Step.DELIVER))
        return event

    return await yard.db.write(unit)


# --- videos ----------------------------------------------------------------------------------------------------------


async def test_a_video_is_kept_until_its_time_and_then_file_and_link_end(yard: Yard) -> None:
    now = await yard.db.read(lambda tx: tx.now)
    short = await yard.ended(expires_at=now + 10_000)
    long = await yard.ended(expires_at=now + 1_000_000)
    ever = await yard.ended()
    assert await yard.clean() == {}
    yard.time.passes(11)
    assert await yard.clean(dry_run=True) == {"videos": 1}
    assert len(yard.files()) == 3
    assert await yard.clean() == {"videos": 1}
    assert len(yard.files()) == 2
    expired, kept, forever = [await yard.row(one) for one in (short, long, ever)]
    assert expired is not None
    assert expired["expired_at"] is not None
    assert [row and row["expired_at"] for row in (kept, forever)] == [None, None]
    lines = await yard.db.read(lambda tx: timeline.read(tx, short))
    assert [line["event"] for line in lines] == ["completed", "video.expired"]
    assert await yard.clean() == {}


async def test_a_video_whose_file_was_deleted_before_a_crash_is_finished_by_the_next_round(yard: Yard) -> None:
    made = await yard.ended(expires_at=1)
    row = await yard.row(made)
    assert row is not None
    await yard.storage.delete(row["video_key"])
    assert await yard.clean() == {"videos": 1}


async def test_processes_that_clean_together_count_each_video_once(yard: Yard, place: Place) -> None:
    for _ in range(30):
        await yard.ended(expires_at=1)
    other = Yard(place.open(), yard.storage, yard.folder, yard.outbox, yard.clock, yard.time)
    counts = await asyncio.gather(yard.clean(), other.clean())
    assert sum(count.get("videos", 0) for count in counts) == 30
    assert yard.files() == []
    assert await yard.count("timeline WHERE event = 'video.expired'") == 30


async def test_a_storage_that_fails_keeps_the_row_and_says_so(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    made = await yard.ended(expires_at=1)

    async def refuse(key: str) -> None:
        raise StorageUnavailable("the disk is gone")

    monkeypatch.setattr(yard.storage, "delete", refuse)
    done = await yard.round()
    assert "the disk is gone" in done.problems[0]
    row = await yard.row(made)
    assert row is not None
    assert row["expired_at"] is None


# --- pictures and whole generations ----------------------------------------------------------------------------------


async def test_pictures_go_after_their_time_but_not_of_what_runs(yard: Yard) -> None:
    made = await yard.ended("failed", picture=True)
    await yard.ended("processing", picture=True)
    yard.time.passes(31 * DAY)
    assert await yard.clean(dry_run=True, inputs=30 * DAY) == {"inputs": 1}
    assert await yard.clean(inputs=30 * DAY) == {"inputs": 1}
    row = await yard.row(made)
    assert row is not None
    assert (row["input_key"], row["input_type"]) == (None, "image/png")
    assert len(yard.files()) == 1


async def test_a_generation_goes_with_all_that_belongs_to_it_and_what_was_paid_stays(yard: Yard) -> None:
    made = await yard.ended(picture=True)
    await deliver_to(yard, made, "delivered")
    generation = await yard.row(made)
    assert generation is not None
    await yard.db.write(lambda tx: ledger.intend(tx, generation, token="sub_1", estimate_micros=5, recovery=Recovery()))
    yard.time.passes(10 * DAY)
    assert await yard.clean(dry_run=True, generations=9 * DAY) == {"generations": 1}
    assert await yard.clean(generations=9 * DAY) == {"generations": 1}
    assert yard.files() == []
    for table in ("generation", "timeline", "job", "webhook_event", "webhook_delivery", "webhook_attempt"):
        assert await yard.count(table) == 0, table
    assert await yard.count("submission") == 1


@pytest.mark.parametrize("state", ["pending", "delivered"])
async def test_a_generation_stays_while_something_of_it_is_to_be_told(yard: Yard, state: str) -> None:
    made = await yard.ended("failed")
    await deliver_to(yard, made, state)
    yard.time.passes(100 * DAY)
    assert await yard.clean(generations=DAY, events=DAY) == ({"generations": 1} if state == "delivered" else {})


async def test_a_generation_that_runs_again_stays(yard: Yard) -> None:
    made = await yard.ended("failed")
    yard.time.passes(100 * DAY)
    living = {"status": "pending", "finished_at": None}
    await yard.db.write(lambda tx: tx.update("job", living, "subject_id = :id", {"id": made}))
    assert await yard.clean(generations=DAY) == {}


# --- rows ------------------------------------------------------------------------------------------------------------


async def test_each_kind_of_row_has_its_own_time(yard: Yard) -> None:
    made = await yard.ended()
    await deliver_to(yard, made, "delivered")
    await deliver_to_another(yard, "dead")
    ring = Callback("event-1", None)
    await yard.db.write(
        lambda tx: rings.keep(
            tx, new_id("cbk", tx.now), {"provider": "mock", "token": "t", "generation_id": made}, ring
        )
    )
    yard.time.passes(10 * DAY)
    assert await yard.clean(jobs=11 * DAY, events=11 * DAY, timeline=11 * DAY, callbacks=11 * DAY) == {}
    for kind, count in {"jobs": 1, "events": 2, "timeline": 2, "callbacks": 1}.items():
        assert await yard.clean(dry_run=True, **{kind: 9 * DAY}) == {kind: count}
        assert await yard.clean(**{kind: 9 * DAY}) == {kind: count}
        assert await yard.clean(**{kind: 9 * DAY}) == {}
    assert await yard.count("webhook_attempt") == await yard.count("webhook_delivery") == 0
    assert await yard.count("generation") == 2


async def deliver_to_another(yard: Yard, state: str) -> None:
    made = await yard.ended("failed")
    await yard.db.write(lambda tx: tx.update("job", {"status": "dead"}, "subject_id = :id", {"id": made}))
    await deliver_to(yard, made, state)


async def test_events_that_are_still_to_be_delivered_stay(yard: Yard) -> None:
    await deliver_to(yard, await yard.ended(), "pending")
    await deliver_to(yard, await yard.ended("processing"), "delivered")
    yard.time.passes(100 * DAY)
    assert await yard.clean(events=DAY) == {}


async def test_money_is_known_as_long_as_its_generation_and_while_it_is_open(yard: Yard) -> None:
    known = await yard.ended("failed")

    def pay(tx: Tx, generation_id: str, *, close: bool) -> None:
        row = {
            "id": generation_id,
            "tenant_id": "default",
            "user_id": None,
            "run": 1,
            "provider": "mock",
            "model": None,
        }
        token = new_id("sub", tx.now)
        ledger.intend(tx, row, token=token, estimate_micros=5, recovery=Recovery())
        if close:
            ledger.reject(tx, token, FREE)

    await yard.db.write(lambda tx: [pay(tx, known, close=True), pay(tx, "gen_gone", close=True)])
    await yard.db.write(lambda tx: pay(tx, "gen_lost", close=False))
    yard.time.passes(10 * DAY)
    assert await yard.clean(ledger=11 * DAY) == {}
    assert await yard.clean(dry_run=True, ledger=9 * DAY) == {"ledger": 1}
    assert await yard.clean(ledger=9 * DAY) == {"ledger": 1}
    assert await yard.count("submission") == 2


async def test_many_rows_go_in_small_commits_with_pauses(yard: Yard) -> None:
    fill = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :rows)"
        " INSERT INTO timeline (generation_id, tenant_id, run, at, event) SELECT 'gen_1', 'default', 1, i, 'x' FROM n"
    )
    await yard.db.write(lambda tx: tx.run(fill, {"rows": 3 * BATCH + 7}))
    commits = yard.db.commits
    assert await yard.clean(timeline=DAY) == {"timeline": 3 * BATCH + 7}
    assert yard.db.commits - commits >= 4
    assert len(yard.pauses) == 4
    assert min(yard.pauses) > 0


async def test_a_round_comes_once_an_hour(yard: Yard) -> None:
    cleaner = yard.cleaner()
    await yard.ended(expires_at=1)
    await cleaner.run_if_due()
    assert yard.files() == []
    await yard.ended(expires_at=1)
    await cleaner.run_if_due()
    assert len(yard.files()) == 1


def test_the_border_of_a_time_lies_between_ids() -> None:
    assert new_id("evt", 999) < border("evt", 1000) < new_id("evt", 1000)


# --- plans -----------------------------------------------------------------------------------------------------------


class Explained(Tx):
    """Asks for the plan of every query first."""

    plans: list[str]

    def all(self, sql: str, parameters: Any = None) -> list[Row]:
        rows = self.connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", dict(parameters or {})).fetchall()
        self.plans += [row[3] for row in rows]
        return super().all(sql, parameters)


@pytest.mark.parametrize(
    ("find", "index"),
    [
        (lambda tx: retention.due_videos(tx, 10), "generation_expires"),
        (lambda tx: retention.old_inputs(tx, 1, 10), "generation_input"),
        (lambda tx: retention.old(tx, 1, 10), "generation_finished"),
        (lambda tx: outbox.prune(tx, before=1, limit=10), "sqlite_autoindex_webhook_event_1"),
    ],
)
def test_what_is_due_is_found_by_an_index(sqlite_place: Place, find: Callable[[Tx], object], index: str) -> None:
    with transaction(sqlite_place.open()) as tx:
        asked = Explained(tx.connection, tx.now, postgres=False)
        asked.plans = []
        find(asked)
    assert any(index in plan for plan in asked.plans), asked.plans
    assert not [plan for plan in asked.plans if plan.startswith("SCAN") and "INDEX" not in plan]
