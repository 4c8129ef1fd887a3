"""What a worker costs the database while much is in flight: the benchmark in small, with its counts held to bounds.

`make bench-in-flight` is the long form, with 20,000 in flight and times;
here are only counts, which hold on any machine.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.in_flight import Plan, figures, hold, misses, table
from tests.pipeline.engines import Place

IN_FLIGHT = 300
PLAN = Plan(interval=2.0, settle=2.0, seconds=3.0)


def test_polls_share_looks_commits_and_connections(place: Place, tmp_path: Path) -> None:
    row = hold(place.url, tmp_path, IN_FLIGHT, PLAN)
    assert row["polls_s"] > 10, "polls are made"
    assert row["crashed"] == 0
    assert row["connections"]["made"] == 0
    assert row["connections"]["most"] <= 5
    assert row["statements"] < 25, "a look says about 15, a record two"
    assert row["commits"] < 2.5
    assert row["looks"] < 1.5
    assert row["peak"] < 300
    assert len(table([row | {"engine": "sqlite"}]).splitlines()) == 2


def test_the_bar_is_told() -> None:
    good = {"engine": "sqlite", "count": 9, "late_worst": 900, "overdue_ms": 0, "peak": 120, "starved": 0.0}
    good |= {"connections": {"made": 0}}
    assert misses(good) == []
    bad = good | {"late_worst": 5001, "peak": 301, "connections": {"made": 2}}
    assert len(misses(bad)) == 3
    assert len(misses(bad | {"starved": 0.5})) == 2, "a machine that others use makes nobody punctual"


def test_nothing_polled_is_no_division_by_zero() -> None:
    found = {"claimed": [], "answered": [], "recorded": [], "units": {}, "unit_cpu": {}, "seconds": 1.0, "cpu": 0.1}
    found |= {"threads": {"loop": 0.1, "database": 0.0}, "commits": 1, "statements": 9, "crashed": 0, "overdue": 0}
    found["starved"] = 0.0
    found |= {"connections": {"now": 1, "most": 1, "made": 0}, "memory": {"rss": 60.0, "peak": 61.0}}
    assert figures(found)["polls_s"] == 0
