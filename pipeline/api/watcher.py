"""One who watches a generation: where they are, and the bytes that wait to be sent to them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pipeline.api.news import State


class Watcher:
    """The two ends of one stream: the broadcaster puts, the answer takes.

    At most one portion waits while another is being sent: who reads slowly is told later, from where they are, so that
    nothing piles up here.

    Args:
        cursor: the id of the last line that they have.
        ends: when the stream has to end, by the monotonic clock, in seconds.
        closing: set when the server wants to end.
        abort: cuts the connection of one who does not read.
    """

    __slots__ = (
        "_abort",
        "_closed",
        "_filled",
        "_portion",
        "closing",
        "cursor",
        "ends",
        "generation_id",
        "greeted",
        "missed",
        "sending_since",
        "shown",
        "told_at",
    )

    def __init__(
        self, generation_id: str, cursor: int, *, ends: float, closing: asyncio.Event, abort: Callable[[], object]
    ) -> None:
        self.generation_id = generation_id
        self.cursor = cursor
        self.ends = ends
        self.closing = closing
        self.shown: State | None = None
        self.greeted = False
        self.missed = False
        self.sending_since: float | None = None
        self.told_at = 0.0
        self._abort = abort
        self._closed = False
        self._filled = asyncio.Event()
        self._portion = b""

    @property
    def ready(self) -> bool:
        """Whether they have taken all that there was, and can be told more."""
        return self.sending_since is None and not self._filled.is_set()

    def put(self, portion: bytes, now: float) -> None:
        """Hand over bytes; only to one who is ready."""
        self._portion, self.told_at = portion, now
        self._filled.set()

    def close(self) -> None:
        """Let the stream end once what was put is sent."""
        self._closed = True
        self._filled.set()

    def drop(self) -> None:
        """End the stream of one who does not read."""
        self.close()
        self._abort()

    async def take(self) -> bytes | None:
        """The next portion; None when the stream is to end."""
        await self._filled.wait()
        portion, self._portion = self._portion, b""
        if not self._closed:
            self._filled.clear()
        return portion or None
