"""What a process remembers of keys between requests, so that not every request asks the database.

Keys that exist and keys that do not are remembered apart, so that a flood of made-up ones cannot push out a good one;
and one question at a time goes to the database, for all keys that came up meanwhile, so that a flood costs the database
no more than one reader.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from pipeline.db import Row

T = TypeVar("T")

REMEMBER_SECONDS = 5.0
"""How long what was looked up is believed, and so how long a revoked key may still work."""

MANY_KEYS = 10_000
AT_ONCE = 100

LookUp = Callable[[Collection[str]], Awaitable[Mapping[str, Row]]]


@dataclass(slots=True)
class _Question:
    """Hashes that are looked up together."""

    hashes: set[str] = field(default_factory=set)
    answer: asyncio.Task[Mapping[str, Row]] | None = None


@dataclass(slots=True)
class KeyRing:
    """Keys by their hash, and whether any exist.

    Args:
        look_up: the rows of those of some hashes that exist, by hash.
        ask_any: whether any key was ever made.
        monotonic: seconds that only grow.
    """

    look_up: LookUp
    ask_any: Callable[[], Awaitable[bool]]
    monotonic: Callable[[], float] = time.monotonic
    _good: dict[str, tuple[float, Row]] = field(default_factory=dict)
    _bad: dict[str, tuple[float, None]] = field(default_factory=dict)
    _any: tuple[float, bool] = (-1.0, False)
    _next: _Question = field(default_factory=_Question)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def find(self, hashed: str) -> Row | None:
        """The key with this hash, as it was at most REMEMBER_SECONDS ago; None if there is none. Raises what the
        database raised."""
        for remembered in (self._good, self._bad):
            until, row = remembered.get(hashed, (-1.0, None))
            if self.monotonic() < until:
                return row
        return (await self._ask(hashed)).get(hashed)

    async def any_exist(self) -> bool:
        """Whether any key was ever made, as far as was known at most REMEMBER_SECONDS ago."""
        until, known = self._any
        if self.monotonic() >= until:
            known = await self.ask_any()
            self._any = (self.monotonic() + REMEMBER_SECONDS, known)
        return known

    async def _ask(self, hashed: str) -> Mapping[str, Row]:
        if len(self._next.hashes) >= AT_ONCE:
            self._next = _Question()
        question = self._next
        question.hashes.add(hashed)
        if question.answer is None:
            question.answer = asyncio.create_task(self._answer(question))
            question.answer.add_done_callback(_forget)
        return await asyncio.shield(question.answer)

    async def _answer(self, question: _Question) -> Mapping[str, Row]:
        async with self._turn:
            if self._next is question:
                self._next = _Question()
            asked = self.monotonic()
            rows = await self.look_up(question.hashes)
        for hashed in question.hashes:
            self._good.pop(hashed, None)
            if hashed in rows:
                _remember(self._good, hashed, (asked + REMEMBER_SECONDS, rows[hashed]))
            else:
                _remember(self._bad, hashed, (asked + REMEMBER_SECONDS, None))
        return rows


def _remember(place: dict[str, T], hashed: str, entry: T) -> None:
    """Keep an entry as the newest; the oldest make room."""
    place.pop(hashed, None)
    while len(place) >= MANY_KEYS:
        del place[next(iter(place))]
    place[hashed] = entry


def _forget(answer: asyncio.Task[Mapping[str, Row]]) -> None:
    """Its askers may all have hung up: then nobody else takes note of an error."""
    if not answer.cancelled():
        answer.exception()
