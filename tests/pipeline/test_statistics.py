"""Events become figures: counted once, by any number of processes, and never fewer than before."""

from __future__ import annotations

import asyncio
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import ledger
from pipeline.db import CommitUnknown, Database, Tx
from pipeline.statistics import Statistics, catalog, last_hour, rows, totals
from pipeline.statistics.metric import OTHER, Cell, Metric, Rule, text_of
from pipeline.statistics.recorder import MAX_LABELS
from pipeline.statistics.rows import Key
from pipeline.statistics.summary import quantile
from pipeline.telemetry import emit, subscribe
from providers.base import Operation, Recovery
from tests.pipeline.engines import Place, Time

pytestmark = pytest.mark.anyio

ENDED = {"provider": "mock", "status": "completed"}


def ended(statistics: Statistics, count: int = 1, **fields: object) -> None:
    for _ in range(count):
        statistics.hear("generation.ended", ENDED | {"wait_ms": 1500, "total_ms": 9000} | fields)


async def completed(db: Database) -> int:
    sums = await db.read(totals)
    return sum(cell.count for key, cell in sums.items() if key.name == catalog.ENDED.name)


async def row_count(db: Database) -> int:
    return int(await db.read(lambda tx: tx.value("SELECT count(*) FROM metric WHERE minute >= 0")))


@pytest.fixture
def statistics(db: Database):
    made = Statistics(db, "one:1")
    yield made
    made._unsubscribe()


async def test_what_two_processes_count_is_one_sum(place: Place) -> None:
    one, two = Statistics(place.open(), "one:1"), Statistics(place.open(), "two:2")
    ended(one, 3)
    ended(two, 4)
    await asyncio.gather(one.flush(), two.flush())
    ended(one, 2)
    await one.flush()
    await one.flush()
    assert await completed(place.open()) == 9
    await asyncio.gather(one.close(), two.close())


async def test_events_are_heard_whatever_the_log_shows(db: Database, statistics: Statistics) -> None:
    emit("provider.call", level=logging.DEBUG, provider="mock", operation="poll", outcome="ok", ms=12.0)
    await statistics.flush()
    sums = await db.read(totals)
    key = Key(catalog.CALL_TIME.name, '{"operation": "poll", "provider": "mock"}')
    assert sums[key] == Cell(1, 0.012, {"0.025": 1})


async def test_an_event_of_a_unit_that_is_run_again_counts_once(db: Database, statistics: Statistics) -> None:
    def bad(tx: object) -> None:
        raise ValueError("ends the group: its units run again one by one")

    good = db.write(lambda tx: tx.emit("webhook.disabled", endpoint="ep"))
    results = await asyncio.gather(good, db.write(bad), return_exceptions=True)
    assert isinstance(results[1], ValueError)
    await db.write(lambda tx: None)
    await statistics.flush()
    assert (await db.read(totals))[Key(catalog.DISABLED.name, "{}")].count == 1


async def test_folding_changes_no_total_and_leaves_few_rows(place: Place, time: Time) -> None:
    db = place.open()
    one, two = Statistics(db, "one:1"), Statistics(place.open(), "two:2")
    for _ in range(30):
        ended(one, 2)
        ended(two, 1, wait_ms=70_000)
        await one.flush()
        await two.flush()
        time.passes(3600)
    before, many = await db.read(totals), await row_count(db)
    results = await asyncio.gather(*(place.open().write(rows.fold) for _ in range(3)))
    assert sum(results) > 0
    assert await db.read(totals) == before
    assert await row_count(db) < many / 1.5
    assert await db.read(lambda tx: tx.value("SELECT count(*) FROM metric WHERE minute = 0")) > 0
    assert await db.read(lambda tx: tx.value("SELECT count(*) FROM metric WHERE minute > 0 AND worker <> ''")) == 0
    time.passes(30 * 3600)
    await db.write(rows.fold)
    assert await db.read(totals) == before
    assert await db.read(lambda tx: tx.value("SELECT count(*) FROM metric WHERE minute > 0")) == 0
    await asyncio.gather(one.close(), two.close())


async def test_a_flush_that_failed_is_made_up_for(
    db: Database, statistics: Statistics, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended(statistics, 2)
    with monkeypatch.context() as broken:
        broken.setattr(rows, "set_gauges", _fail)
        with pytest.raises(OSError, match="gone"):
            await statistics.flush()
    ended(statistics, 1)
    await statistics.flush()
    assert await completed(db) == 3


def _fail(*args: object) -> None:
    raise OSError("gone")


async def test_a_flush_whose_commit_is_unknown_is_not_counted_twice(
    db: Database, statistics: Statistics, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended(statistics, 2)
    write = db.write

    async def write_and_lose_the_answer(unit, **options):
        await write(unit, **options)
        raise CommitUnknown("the answer to COMMIT was lost")

    with monkeypatch.context() as broken:
        broken.setattr(db, "write", write_and_lose_the_answer)
        with pytest.raises(CommitUnknown):
            await statistics.flush()
    await statistics.flush()
    assert await completed(db) == 2


async def test_closing_writes_the_rest_and_takes_the_gauges_away(db: Database) -> None:
    statistics = Statistics(db, "one:1", gauges=lambda: {"process_open_fds": 7.0})
    ended(statistics)
    await statistics.flush()
    assert await db.read(rows.gauges) == [(Key("process_open_fds", '{"process": "one:1"}'), 7.0)]
    ended(statistics)
    await statistics.close()
    ended_later = emit("webhook.disabled", endpoint="ep")
    assert ended_later is None
    assert await db.read(rows.gauges) == []
    assert await completed(db) == 2


async def test_a_process_that_is_gone_says_nothing_any_more(db: Database, time: Time) -> None:
    statistics = Statistics(db, "one:1", gauges=lambda: {"process_open_fds": 7.0})
    await statistics.flush()
    time.passes(100)
    assert await db.read(rows.gauges) == []
    time.passes(3600)
    await db.write(rows.fold)
    assert await db.read(lambda tx: tx.value("SELECT count(*) FROM metric")) == 0
    statistics._unsubscribe()


async def test_a_counter_kept_elsewhere_is_added_by_its_difference(db: Database) -> None:
    value = 5.0
    statistics = Statistics(db, "one:1", sources={catalog.COMMITS.name: lambda: value})
    await statistics.flush()
    value = 12.0
    await statistics.flush()
    assert (await db.read(totals))[Key(catalog.COMMITS.name, "{}")].total == 12
    statistics._unsubscribe()


async def test_labels_without_end_become_other(db: Database, statistics: Statistics) -> None:
    for number in range(MAX_LABELS + 50):
        statistics.hear("generation.ended", ENDED | {"provider": f"p{number}"})
    await statistics.flush()
    keys = [key for key in await db.read(totals) if key.name == catalog.ENDED.name]
    assert len(keys) == MAX_LABELS + 1
    assert {"provider": OTHER, "status": OTHER} in [key.labels() for key in keys]


async def test_the_last_hour_in_figures(db: Database, statistics: Statistics, time: Time) -> None:
    ended(statistics, 7)
    await statistics.flush()
    time.passes(4300)
    ended(statistics, 6, wait_ms=3000)
    ended(statistics, 2, status="failed", code="content_blocked", wait_ms=8000)
    statistics.hear("turn.done", {"step": "poll", "decision": "Retry", "run_ms": 5, "late_ms": 0})
    delivery = {"step": "deliver", "reason": "answered", "run_ms": 20, "send_ms": 20, "late_ms": 1}
    statistics.hear("turn.done", delivery | {"decision": "Complete", "age_ms": 400})
    statistics.hear("turn.done", delivery | {"decision": "Retry", "age_ms": 400})
    statistics.hear("turn.done", delivery | {"decision": "DeadLetter", "age_ms": 400})
    call = {"provider": "mock", "operation": "submit", "ms": 3}
    statistics.hear("provider.call", call | {"outcome": "ok"})
    statistics.hear("provider.call", call | {"outcome": "rejected", "code": "provider_rate_limited"})
    await statistics.flush()
    found = await db.read(last_hour)
    assert (found["completed"], found["failed"], found["cancelled"], found["successRate"]) == (6, 2, 0, 0.75)
    assert found["seconds"]["waiting"]["average"] == 4.25
    assert 5 < found["seconds"]["waiting"]["p95"] <= 10
    assert found["seconds"]["delivery"] == {"count": 1, "average": 0.4, "p95": 0.475}
    assert found["seconds"]["storing"] == {"count": 0, "average": None, "p95": None}
    assert found["provider"] == {"calls": 2, "errors": 1, "rateLimited": 1, "costUsd": 0}
    assert found["webhooks"] == {"sent": 3, "delivered": 1, "retried": 1, "failed": 1}
    assert found["retries"] == 2


@given(st.lists(st.floats(0.001, 20_000), min_size=1, max_size=50))
def test_a_percentile_lies_in_the_bucket_of_the_true_one(values: list[float]) -> None:
    cell = Cell()
    for value in values:
        cell.add(value, catalog.DELIVERY)
    true = sorted(values)[max(0, -(-95 * len(values) // 100) - 1)]
    bounds = (0.0, *catalog.DELIVERY.bounds)
    above = next(bound for bound in bounds if bound >= true)
    found = quantile(catalog.DELIVERY, cell, 0.95)
    assert found is not None
    assert max(bound for bound in bounds if bound < true) <= found <= above


def test_a_method_that_nobody_knows_makes_no_new_series() -> None:
    (rule, _) = catalog.RULES["request.done"]
    assert rule.values({"method": "HAX", "route": "/x", "status": 200}) == (OTHER, "/x", "200")
    assert rule.values({"method": "GET"}) == ("GET", OTHER, OTHER)


def test_a_rule_takes_only_what_it_is_for() -> None:
    rule = Rule(Metric("m", "counter", ""), "ms", 0.001, when={"step": {"poll"}, "code": "*"})
    assert rule.amount({"step": "poll", "code": "x", "ms": 1500}) == 1.5
    assert rule.amount({"step": "poll", "ms": 1500}) is None
    assert rule.amount({"step": "store", "code": "x", "ms": 1500}) is None
    assert rule.amount({"step": "poll", "code": "x", "ms": None}) is None


def test_a_listener_that_fails_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[str] = []
    ends = [subscribe(_fail), subscribe(lambda event, fields: heard.append(event))]
    try:
        emit("service.notice", notice="hello")
    finally:
        for end in ends:
            end()
    assert heard == ["service.notice"]
    assert "a listener failed" in caplog.text
    emit("service.notice", notice="unheard")
    assert heard == ["service.notice"]


@pytest.mark.parametrize(("number", "text"), [(0.5, "0.5"), (10.0, "10"), (86_400.0, "86400"), (0, "0")])
def test_numbers_are_written_short(number: float, text: str) -> None:
    assert text_of(number) == text


async def test_money_is_counted_once_though_a_redrive_asks_again(db: Database, statistics: Statistics) -> None:
    generation = {"id": "gen_1", "tenant_id": "default", "user_id": None, "run": 1, "provider": "mock", "model": None}

    def pay(tx: Tx) -> None:
        assert ledger.intend(tx, generation, token="t", estimate_micros=500_000, recovery=Recovery())
        ledger.accept(tx, "t", Operation("op"))
        ledger.succeed(tx, "t", 400_000)

    def ask_again(tx: Tx) -> None:
        ledger.reopen(tx, "t")
        ledger.succeed(tx, "t", 450_000)

    await db.write(pay)
    await db.write(ask_again)
    await statistics.flush()
    sums = await db.read(totals)
    assert sums[Key(catalog.COST.name, '{"billed": "yes", "provider": "mock"}')].total == pytest.approx(0.45)
    assert sums[Key(catalog.ESTIMATED.name, '{"provider": "mock"}')].total == pytest.approx(0.5)
    closed = Key(catalog.CLOSED.name, '{"billed": "yes", "outcome": "succeeded", "provider": "mock"}')
    assert sums[closed].count == 2
