"""The short form of `make chaos`: a drill on each engine, and on each a saboteur that must be caught."""

from __future__ import annotations

import pytest

from pipeline.drill.plan import FAULTS, Plan
from pipeline.drill.table import complaints
from tests.chaos.cases import Case, saboteurs
from tests.chaos.running import as_expected, run_case
from tests.pipeline.engines import PostgresServer, start_postgres

DRILLS = [
    Case(
        "sqlite, key",
        "sqlite",
        Plan(generations=30, seed=20261124, blows=4, in_flight=6, pause=(0.3, 0.8), patience=90),
    ),
    Case(
        "postgresql, none, faults",
        "postgresql",
        Plan(
            generations=30,
            seed=20261125,
            recovery="none",
            faults=FAULTS,
            blows=4,
            workers=4,
            in_flight=6,
            pause=(0.3, 0.8),
            patience=90,
        ),
    ),
]
CAUGHT = [case for case in saboteurs() if case.name in {"fence_off, sqlite", "blind_requeue, postgresql"}]


@pytest.fixture(scope="module")
def server():
    started = start_postgres()
    yield started
    started.stop()


@pytest.mark.parametrize("case", [*DRILLS, *CAUGHT], ids=lambda case: case.name)
def test_it_ends_as_it_must(case: Case, server: PostgresServer):
    result = run_case(case, server.url("postgres"))
    assert as_expected(case, result), complaints(result)
    assert len(result.evidence.generations) == case.plan.generations
    if not case.expected:
        assert result.evidence.blows.kills + result.evidence.blows.stops > 0
