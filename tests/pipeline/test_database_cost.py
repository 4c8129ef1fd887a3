"""What a generation costs the database stays within a budget: a statement, an index or a commit too many shows here.

The bounds are about twice what is measured (docs/scaling.md), since other tests share the machine.
"""

from pathlib import Path

import pytest

from tests.database_cost import Cost, run
from tests.pipeline.engines import Place

pytestmark = pytest.mark.anyio

ORDERS = 25


async def test_a_generation_stays_within_its_budget(place: Place, tmp_path: Path) -> None:
    cost: Cost = (await run(place, tmp_path, ORDERS, at_once=True)).over(ORDERS)
    assert cost.commits < 8
    if place.url.startswith("sqlite"):
        assert 10_000 < cost.log < 400_000
        return
    assert 5_000 < cost.log < 60_000
    assert 10 < cost.inserted < 25
    assert 10 < cost.updated < 45
    assert cost.dead < 40
