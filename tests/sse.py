"""Server-sent events as a client reads them: raw lines over httpx, by the rules of the HTML standard."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

STREAM = {"Accept": "text/event-stream"}


@dataclass(frozen=True)
class Event:
    name: str
    data: Any
    last_id: str | None
    """The id that a browser would come back with: the last that was sent, with this event or before."""
    has_id: bool


@dataclass
class Stream:
    """An open stream."""

    response: httpx.Response
    raw: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.events = self._events()

    async def _events(self) -> AsyncIterator[Event]:
        name, data, last_id, has_id = "message", [], None, False
        async for line in self.response.aiter_lines():
            self.raw.append(line)
            key, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if line == "" and data:
                yield Event(name, json.loads("\n".join(data)), last_id, has_id)
            if line == "":
                name, data, has_id = "message", [], False
            elif key == "event":
                name = value
            elif key == "data":
                data.append(value)
            elif key == "id":
                last_id, has_id = value, True

    async def all(self) -> list[Event]:
        """Everything until the stream ends."""
        return [event async for event in self.events]

    async def until(self, good: Callable[[Event], bool]) -> list[Event]:
        """Everything up to the first event that is good."""
        seen = []
        async for event in self.events:
            seen.append(event)
            if good(event):
                break
        return seen


@asynccontextmanager
async def stream(base: object, path: str, *, timeout: float = 15, **headers: str) -> AsyncIterator[Stream]:
    """Open a stream by a client of its own, which closes the connection at the end of the block."""
    sent = STREAM | {name.replace("_", "-"): value for name, value in headers.items()}
    async with (
        httpx.AsyncClient(base_url=str(base), timeout=timeout) as client,
        client.stream("GET", path, headers=sent) as response,
    ):
        yield Stream(response)


def lines(events: list[Event]) -> list[Event]:
    """The lines of the timeline among them."""
    return [event for event in events if event.name not in {"generation", "end"}]
