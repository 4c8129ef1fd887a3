"""Telling many who watch: one task per process asks the database once for all of them, while there are any.

It asks when this process or (on SQLite) any other has committed something, and on PostgreSQL, which tells nobody, every
half second.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from pipeline.api import frames
from pipeline.api.news import News, State, look
from pipeline.api.watcher import Watcher
from pipeline.db import Database, Row
from pipeline.links import Links
from pipeline.telemetry import emit


@dataclass(frozen=True, slots=True)
class Pace:
    """How often, in seconds: looks for commits, looks without any sign of one, looks at most; comments that keep a
    stream alive; after how long one who does not read is let go; how long a stream may last before its caller has to
    prove again that they may see it."""

    tick: float = 0.2
    blind: float = 0.5
    rest: float = 0.05
    keep_alive: float = 15.0
    stuck: float = 30.0
    lifetime: float = 900.0


@dataclass(slots=True)
class Broadcaster:
    """All who watch in this process.

    Args:
        limit: how many may watch at once.
    """

    db: Database
    links: Links
    limit: int
    pace: Pace = field(default_factory=Pace)
    monotonic: Callable[[], float] = time.monotonic
    _watchers: set[Watcher] = field(default_factory=set)
    _task: asyncio.Task[None] | None = None
    _nudge: asyncio.Event = field(default_factory=asyncio.Event)
    _probe: Callable[[], bool] | None = None
    _commits: int = -1
    _looked_at: float = 0.0

    @property
    def watching(self) -> int:
        """How many watch."""
        return len(self._watchers)

    @property
    def full(self) -> bool:
        """Whether nobody else may watch."""
        return len(self._watchers) >= self.limit

    @contextmanager
    def watch(self, watcher: Watcher) -> Iterator[None]:
        """Tell a watcher everything behind their cursor, as long as the block lasts."""
        self._watchers.add(watcher)
        watcher.told_at = self.monotonic()
        self._nudge.set()
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            self._watchers.discard(watcher)
            if not self._watchers and self._task is not None:
                self._task.cancel()
                self._task = None

    @contextmanager
    def sending(self, watcher: Watcher) -> Iterator[None]:
        """While the block lasts, the network takes a portion; nothing else is put for them meanwhile."""
        watcher.sending_since = self.monotonic()
        yield
        watcher.sending_since = None
        if watcher.missed:
            watcher.missed = False
            self._nudge.set()

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._attend_all())
            group.create_task(self._look_always())

    async def _attend_all(self) -> None:
        """What each needs of the clock. Apart from the looking, which may wait for the database."""
        while True:
            now = self.monotonic()
            for watcher in tuple(self._watchers):
                self._attend(watcher, now)
            await asyncio.sleep(self.pace.tick)

    def _attend(self, watcher: Watcher, now: float) -> None:
        if watcher.closing.is_set() or now >= watcher.ends:
            watcher.close()
        if watcher.sending_since is not None:
            if now - watcher.sending_since > self.pace.stuck:
                emit("watch.dropped", level=logging.WARNING, generation=watcher.generation_id)
                watcher.drop()
        elif watcher.ready and now - watcher.told_at > self.pace.keep_alive:
            watcher.put(frames.KEEP_ALIVE, now)

    async def _look_always(self) -> None:
        while True:
            if self._something_new():
                try:
                    await self._look()
                except Exception as error:
                    emit("watch.failed", level=logging.WARNING, error=repr(error))
                    self._nudge.set()
                    await asyncio.sleep(self.pace.blind)
            await asyncio.sleep(self.pace.rest)
            with suppress(TimeoutError):
                async with asyncio.timeout(self.pace.tick - self.pace.rest):
                    await self._nudge.wait()

    def _something_new(self) -> bool:
        """Whether to look; asked before the look, so that a commit during it is found by the next."""
        commits, now = self.db.commits, self.monotonic()
        changed = self._changed_elsewhere(now)
        new = changed or self._nudge.is_set() or commits != self._commits
        self._nudge.clear()
        self._commits = commits
        if new:
            self._looked_at = now
        return new

    def _changed_elsewhere(self, now: float) -> bool:
        if self._probe is None:
            self._probe = self.db.change_probe() or (lambda: self.monotonic() - self._looked_at >= self.pace.blind)
        try:
            return self._probe()
        except Exception:
            return True  # the look itself will tell what is wrong

    async def _look(self) -> None:
        """One question for all who are ready, and each is told what is new to them."""
        ready = [watcher for watcher in self._watchers if watcher.ready]
        for watcher in self._watchers.difference(ready):
            watcher.missed = True
        if not ready:
            return
        cursors, known = _asked(ready)
        news = await self.db.read(lambda tx: look(tx, cursors, known))
        if news.more:
            self._nudge.set()
        portions = _Portions(news, self.links)
        for watcher in ready:
            if watcher in self._watchers and watcher.ready:
                portions.hand_to(watcher, self.monotonic())


def _asked(ready: Iterable[Watcher]) -> tuple[dict[str, int], dict[str, set[State | None]]]:
    """Per generation, the line behind which somebody is, and the states that are shown."""
    cursors: dict[str, int] = {}
    known: dict[str, set[State | None]] = {}
    for watcher in ready:
        name = watcher.generation_id
        cursors[name] = min(cursors.get(name, watcher.cursor), watcher.cursor)
        known.setdefault(name, set()).add(watcher.shown)
    return cursors, known


class _Portions:
    """What one look found, as bytes: made once per generation, cut for each watcher."""

    def __init__(self, news: News, links: Links) -> None:
        self._news = news
        self._generations = {name: frames.generation_frame(row, links) for name, row in news.rows.items()}
        self._lines: dict[str, list[tuple[int, bytes]]] = {}
        for line in news.lines:
            self._lines.setdefault(line["generation_id"], []).append((line["id"], frames.line_frame(line)))

    def hand_to(self, watcher: Watcher, now: float) -> None:
        """Put what is new to a watcher: the state first of all, then the lines, then what became of the state."""
        name = watcher.generation_id
        state = self._news.states.get(name)
        if state is None:  # deleted meanwhile: who comes back is told so
            watcher.close()
            return
        portion = [] if watcher.greeted else [self._generations[name]]
        for line_id, line in self._lines.get(name, ()):
            if line_id > watcher.cursor:
                portion.append(line)
                watcher.cursor = line_id
        moved = self._news.rows[name] if watcher.shown != state and not self._news.more else None
        if moved is not None:
            portion += self._of_state(watcher, moved)
            watcher.shown = state
        watcher.greeted = True
        if portion:
            watcher.put(b"".join(portion), now)
        if moved is not None and frames.has_ended(moved):
            watcher.close()

    def _of_state(self, watcher: Watcher, row: Row) -> list[bytes]:
        """What is told of a new state, once all lines up to it are told: of an end always, so that it comes last."""
        if frames.has_ended(row):
            return [self._generations[row["id"]], frames.end_frame(row, watcher.cursor)]
        return [self._generations[row["id"]]] if watcher.greeted else []
