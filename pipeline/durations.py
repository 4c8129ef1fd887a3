"""How long providers take, as this installation has seen it: per provider, model and length of the video.

What was learned is kept in memory, so that views and polls ask nothing of the database; it is read again at most once
a minute, beside the requests, and only for what somebody asks about.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from typing import Literal

from pipeline.db import Database, DatabaseError, Row, Tx
from providers.base import Provider

SAMPLES = 200
ENOUGH = 5
"""Fewer generations than this are no history: the catalogue is believed instead."""
NEWEST = 50
SOON = 10
"""Percent of the newest that were done by `soon`."""
MOST_TIMES = 4.0
"""History is believed up to so many times what the catalogue says: a night of ours is not the provider's slowness."""
ADOPTED_MS = 120_000
"""Work that was known so long after the call for it was found again: nobody saw when it began."""
REFRESH_SECONDS = 60.0
MOST_KEYS = 2000
FORGET_SECONDS = 3600.0
UNKNOWN_SECONDS = 60.0
"""What a model is said to take that neither history nor the catalogue knows."""
TWICE = 2.0
"""A catalogue tells the usual time only; so much longer nine of ten are taken to be done."""

_TAKEN = """
SELECT generated_at - accepted_at AS ms FROM generation
WHERE provider = :provider AND {model} AND {duration} AND generated_at IS NOT NULL
AND redriven_at IS NULL AND NOT EXISTS (SELECT 1 FROM submission s WHERE s.generation_id = generation.id
  AND s.outcome = 'succeeded' AND generation.accepted_at - s.intended_at > :adopted)
ORDER BY provider DESC, model DESC, duration DESC, generated_at DESC LIMIT :limit
"""
"""The order names the whole index: PostgreSQL does not see that a column which is NULL is the same in all rows."""


@dataclass(frozen=True, slots=True)
class Key:
    """What durations are kept by; `duration` is the length of the video in seconds."""

    provider: str
    model: str | None
    duration: int | None


@dataclass(frozen=True, slots=True)
class Expected:
    """Seconds from the acceptance to the finished video: half are done after `p50`, nine of ten after `p90`.

    `soon` is when one of ten of the newest was done, for the first look: it falls within a few generations where looks
    came too late, whatever was learned before. 0 where history says nothing.
    """

    p50: float
    p90: float
    samples: int
    basis: Literal["history", "catalogue"]
    soon: float = 0.0


@dataclass(slots=True)
class _Entry:
    asked_at: float
    learned: Expected | None = None
    samples: int = 0
    read_at: float | None = None


def key_of(generation: Row) -> Key:
    """The key of a generation, as its present candidate has it."""
    return Key(generation["provider"], generation["model"], generation["duration"])


def learn(milliseconds: Sequence[int], usual: float | None = None) -> Expected | None:
    """What durations, the newest first, tell by nearest rank; None where they are too few. Pure.

    `usual` is what the catalogue says, in seconds: nothing is believed beyond MOST_TIMES of it.
    """
    if len(milliseconds) < ENOUGH:
        return None
    most = inf if usual is None else usual * MOST_TIMES
    found = [min(each / 1000, most) for each in milliseconds]
    seconds, newest = sorted(found), sorted(found[:NEWEST])
    return Expected(_rank(seconds, 50), _rank(seconds, 90), len(seconds), "history", _rank(newest, SOON))


def _rank(ordered: Sequence[float], percent: int) -> float:
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def taken(tx: Tx, key: Key) -> list[int]:
    """Milliseconds that the newest finished ones took, the newest first, up to SAMPLES. By index.

    Left out are those whose work was found again, and redriven ones: how long they took is not the provider's doing.
    """
    statement = _TAKEN.format(
        model="model IS NULL" if key.model is None else "model = :model",
        duration="duration IS NULL" if key.duration is None else "duration = :duration",
    )
    values = {"provider": key.provider, "model": key.model, "duration": key.duration, "limit": SAMPLES}
    values["adopted"] = ADOPTED_MS
    rows = tx.all(statement, {name: value for name, value in values.items() if value is not None})
    return [row["ms"] for row in rows if row["ms"] is not None and row["ms"] >= 0]


class Durations:
    """What is known, for any thread to ask.

    Args:
        providers: those that can be asked, by name; their catalogues tell where history does not.
        monotonic: seconds, for the age of what is known.
    """

    def __init__(
        self, db: Database, providers: Mapping[str, Provider], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._db = db
        self._providers = providers
        self._monotonic = monotonic
        self._entries: dict[Key, _Entry] = {}
        self._news: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None

    def learned(self, key: Key) -> Expected | None:
        """What history tells, as far as it was read; None while it tells nothing."""
        entry = self._entries.get(key)
        if entry is not None:
            entry.asked_at = self._monotonic()
            return entry.learned
        if len(self._entries) < MOST_KEYS:
            self._entries[key] = _Entry(self._monotonic())
            self._ring()
        return None

    def expected(self, key: Key) -> Expected:
        """What history tells, else what the catalogue does."""
        learned = self.learned(key)
        if learned is not None:
            return learned
        usual = self._usual(key) or UNKNOWN_SECONDS
        entry = self._entries.get(key)
        return Expected(usual, usual * TWICE, entry.samples if entry else 0, "catalogue")

    def _usual(self, key: Key) -> float | None:
        provider = self._providers.get(key.provider)
        if provider is None:
            return None
        catalogue = provider.capabilities.catalogue
        model = catalogue.models.get(key.model or catalogue.default_model)
        return model.typical_seconds if model else None

    def of(self, generation: Row) -> tuple[float, float]:
        """The p50 and p90 of a generation, in seconds."""
        expected = self.expected(key_of(generation))
        return expected.p50, expected.p90

    async def keep(self) -> None:
        """Read what is asked about: at once what is new, the rest again once a minute. For ever."""
        new = asyncio.Event()
        self._news = asyncio.get_running_loop(), new
        try:
            while True:
                await self.refresh()
                with suppress(TimeoutError):
                    await asyncio.wait_for(new.wait(), REFRESH_SECONDS)
                new.clear()
        finally:
            self._news = None

    def _ring(self) -> None:
        """Tell `keep`, from whichever thread, that something new is asked about."""
        if self._news is not None:
            loop, new = self._news
            with suppress(RuntimeError):  # the loop has just been closed
                loop.call_soon_threadsafe(new.set)

    async def refresh(self) -> None:
        """Read what was asked about since it was read, a minute ago or earlier. A database that does not answer is
        asked the next time."""
        now = self._monotonic()
        for key, entry in list(self._entries.items()):
            if now - entry.asked_at > FORGET_SECONDS:
                del self._entries[key]
            elif _is_due(entry, now):
                try:
                    await self._read(key)
                except DatabaseError:
                    return

    async def look(self, keys: Sequence[Key]) -> None:
        """Read what was never read of these. Raises DatabaseError."""
        for key in keys:
            self.learned(key)
            entry = self._entries.get(key)
            if entry is not None and entry.read_at is None:
                await self._read(key)

    async def _read(self, key: Key) -> None:
        found = await self._db.read(lambda tx: taken(tx, key))
        entry = self._entries.get(key)
        if entry is not None:
            entry.learned, entry.samples, entry.read_at = learn(found, self._usual(key)), len(found), self._monotonic()


def _is_due(entry: _Entry, now: float) -> bool:
    if entry.read_at is None:
        return True
    return entry.asked_at > entry.read_at and now - entry.read_at >= REFRESH_SECONDS
