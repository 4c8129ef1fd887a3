"""The benchmark of webhooks runs, every contender delivers, and its words and bar are right; figures are no test."""

from __future__ import annotations

import pytest

from benchmarks.webhooks import RECORDED, SENDERS, Plan, measure, misses, table

pytestmark = pytest.mark.anyio


async def test_every_contender_is_measured() -> None:
    found = await measure(Plan(rounds=1, seconds=0.5, recorded=16))
    assert set(found) == {*SENDERS, RECORDED}
    assert all(row["rate"] > 0 and 0 <= row["p50_ms"] <= row["p99_ms"] <= row["worst_ms"] for row in found.values())
    assert len(table(found).splitlines()) == 1 + len(found)


def test_the_bar_is_told() -> None:
    good = {"ours, sending alone": {"rate": 900.0}, RECORDED: {"p99_ms": 20.0}}
    assert misses(good) == []
    bad = {"ours, sending alone": {"rate": 700.0}, RECORDED: {"p99_ms": 200.0}}
    assert misses(bad) == ["700 deliveries/s alone, the bar is 800", "p99 200 ms, the bar is 100"]
