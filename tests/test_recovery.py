"""Who is killed is followed within 15 seconds, and who stops hands over within one. `make recovery` does it at length,
and prints the times."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.recovery import graceful, kills, open_crew, places, spread

pytestmark = pytest.mark.anyio

SLACK = 3.0
"""Seconds by which a busy machine may be late beyond the second that a stop may take."""


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
async def test_others_go_on_soon(engine: str, tmp_path: Path) -> None:
    with places(engine, tmp_path) as new:
        with new() as place:
            async with open_crew(tmp_path / "kills", place.url, hanging_webhooks=False) as crew:
                assert max(await kills(crew, 2, random.Random(1))) < 15
        with new() as place:
            async with open_crew(tmp_path / "stop", place.url) as crew:
                stop = await graceful(crew)
    assert stop.handed_back < 1 + SLACK
    assert stop.taken < 1 + SLACK
    assert stop.ended > stop.handed_back


def test_times_are_told_by_rank() -> None:
    assert spread([float(number) for number in range(1, 11)]) == "1.00 / 5.00 / 9.00 / 10.00"
