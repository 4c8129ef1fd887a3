"""What is remembered of keys: for five seconds, good ones apart from made-up ones, one question at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import pytest

from pipeline.api import keyring
from pipeline.api.keyring import REMEMBER_SECONDS, KeyRing
from pipeline.db import Row

pytestmark = pytest.mark.anyio


class Table:
    """Keys as the database would hold them, with what was asked of it."""

    def __init__(self, *hashes: str) -> None:
        self.rows: dict[str, Row] = {hashed: {"hash": hashed} for hashed in hashes}
        self.asked: list[list[str]] = []
        self.any_asked = 0
        self.open = asyncio.Event()
        self.open.set()
        self.begun = asyncio.Event()
        self.running = self.most = 0
        self.error: Exception | None = None
        self.now = 0.0
        self.ring = KeyRing(self.look_up, self.ask_any, lambda: self.now)

    async def look_up(self, hashes: Collection[str]) -> dict[str, Row]:
        self.asked.append(sorted(hashes))
        self.begun.set()
        self.running += 1
        self.most = max(self.most, self.running)
        await self.open.wait()
        self.running -= 1
        if self.error:
            raise self.error
        return {hashed: self.rows[hashed] for hashed in hashes if hashed in self.rows}

    async def ask_any(self) -> bool:
        self.any_asked += 1
        return bool(self.rows)


async def test_a_key_is_looked_up_once_in_five_seconds() -> None:
    table = Table("a")
    for _ in range(3):
        assert await table.ring.find("a") == {"hash": "a"}
        assert await table.ring.find("b") is None
    assert table.asked == [["a"], ["b"]]
    table.now += REMEMBER_SECONDS
    await table.ring.find("a")
    assert table.asked[2:] == [["a"]]


async def test_a_key_that_was_revoked_is_refused_after_five_seconds() -> None:
    table = Table("a")
    await table.ring.find("a")
    del table.rows["a"]
    table.now += REMEMBER_SECONDS - 0.01
    assert await table.ring.find("a") is not None
    table.now += 0.01
    assert await table.ring.find("a") is None


async def test_time_runs_from_the_question_and_not_from_the_answer() -> None:
    table = Table("a")
    table.open.clear()
    asking = asyncio.create_task(table.ring.find("a"))
    await table.begun.wait()
    table.now += REMEMBER_SECONDS - 1
    table.open.set()
    await asking
    table.now += 1
    await table.ring.find("a")
    assert len(table.asked) == 2


async def test_whether_keys_exist_is_asked_once_in_five_seconds() -> None:
    table = Table()
    assert [await table.ring.any_exist() for _ in range(3)] == [False] * 3
    table.rows["a"] = {}
    table.now += REMEMBER_SECONDS
    assert [await table.ring.any_exist() for _ in range(3)] == [True] * 3
    assert table.any_asked == 2


async def test_what_comes_up_meanwhile_is_one_question() -> None:
    table = Table("a", "z9")
    table.open.clear()
    asking = [asyncio.create_task(table.ring.find(hashed)) for hashed in ["a", *(f"z{n}" for n in range(50)), "a"]]
    await table.begun.wait()
    later = [asyncio.create_task(table.ring.find(f"y{n}")) for n in range(250)]
    await asyncio.sleep(0)
    table.open.set()
    answers = await asyncio.gather(*asking)
    assert await asyncio.gather(*later) == [None] * 250
    assert (answers[0], answers[10], answers[-1]) == ({"hash": "a"}, {"hash": "z9"}, {"hash": "a"})
    assert [answer is None for answer in answers].count(False) == 3
    assert [len(asked) for asked in table.asked] == [51, 100, 100, 50]
    assert table.most == 1


async def test_a_flood_of_made_up_keys_pushes_no_good_one_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyring, "MANY_KEYS", 100)
    table = Table("a")
    await table.ring.find("a")
    await asyncio.gather(*(table.ring.find(f"flood {n}") for n in range(1_000)))
    asked = len(table.asked)
    assert await table.ring.find("a") is not None
    assert len(table.asked) == asked <= 11
    assert len(table.ring._bad) == 100
    assert len(table.ring._good) == 1
    assert not table.ring._next.hashes


async def test_many_good_keys_are_remembered_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyring, "MANY_KEYS", 3)
    table = Table(*"abcde")
    for hashed in "abcde":
        await table.ring.find(hashed)
    assert list(table.ring._good) == ["c", "d", "e"]


async def test_all_askers_learn_of_an_error_and_the_next_asks_anew() -> None:
    table = Table("a")
    table.error = OSError("gone")
    answers = await asyncio.gather(*(table.ring.find("a") for _ in range(3)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [OSError] * 3
    assert len(table.asked) == 1
    table.error = None
    assert await table.ring.find("a") is not None


async def test_an_asker_who_hangs_up_leaves_the_others_their_answer() -> None:
    table = Table("a")
    table.open.clear()
    first, second = (asyncio.create_task(table.ring.find("a")) for _ in range(2))
    await table.begun.wait()
    first.cancel()
    table.open.set()
    assert await second == {"hash": "a"}
