"""Who is killed is followed within 15 seconds, and who stops hands over within one. `make recovery` does it at length,
and prints the times."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.pipeline.engines import Place
from tests.recovery import graceful, kills, open_crew, spread

pytestmark = pytest.mark.anyio

SLACK = 3.0
"""Seconds by which a busy machine may be late beyond the second that a stop may take."""


async def test_a_killed_worker_is_followed(sqlite_place: Place, tmp_path: Path) -> None:
    async with open_crew(tmp_path, sqlite_place.url, hanging_webhooks=False) as crew:
        assert max(await kills(crew, 1, random.Random(1))) < 15


async def test_a_stopping_worker_hands_over(postgres_place: Place, tmp_path: Path) -> None:
    async with open_crew(tmp_path, postgres_place.url) as crew:
        stop = await graceful(crew)
    assert stop.handed_back < 1 + SLACK
    assert stop.taken < 1 + SLACK
    assert stop.ended > stop.handed_back


def test_times_are_told_by_rank() -> None:
    assert spread([float(number) for number in range(1, 11)]) == "1.00 / 5.00 / 9.00 / 10.00"
