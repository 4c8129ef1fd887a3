"""A generation as it changes: told by the service (server-sent events), or by looking again and again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx

from pipeline.cli.client import Client, path_of

TERMINAL = frozenset({"completed", "failed", "cancelled"})
PATIENCE = 600.0
"""Seconds for which a service that is down is waited for, once it has taken the request."""
SILENCE = 60.0
"""Seconds without a byte, not even a comment, after which a stream counts as dead."""
LONGEST = 4 << 20
"""Bytes of one event at most."""


@dataclass(slots=True)
class EventParser:
    """Server-sent events out of bytes, as they come: (name, data) of each. Pure.

    Lines end by LF or CRLF, as our services write them. `last_id` is the id to go on behind.
    """

    last_id: str | None = None
    _rest: bytes = b""
    _name: str = "message"
    _data: list[str] = field(default_factory=list)

    def feed(self, chunk: bytes) -> Iterator[tuple[str, str]]:
        """The events that end in this chunk. Raises ValueError for one that is too long."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > LONGEST:
            raise ValueError("an event of the stream is too long")
        for line in lines:
            text = line.removesuffix(b"\r").decode("utf-8", "replace")
            if text:
                self._take(*text.partition(":")[::2])
            elif self._data:
                yield self._name, "\n".join(self._data)
            if not text:
                self._name, self._data = "message", []

    def _take(self, name: str, value: str) -> None:
        value = value.removeprefix(" ")
        if name == "event":
            self._name = value
        elif name == "data":
            self._data.append(value)
        elif name == "id":
            self.last_id = value


async def follow(client: Client, reference: str, *, every: float = 0.5) -> AsyncIterator[dict[str, Any]]:
    """The generation as it stands, then each time it may have changed, until it has ended; at least twice if it runs.

    Survives restarts of the service for PATIENCE seconds. `every` is the pause between two looks where the service
    offers no stream, and before a cut stream is opened again. Raises CommandError.
    """
    generation = await client.generation(reference)
    yield generation
    parser = EventParser()
    streams = True
    while generation["status"] not in TERMINAL:
        if streams:
            path, parser = f"{path_of(generation['id'])}/events", EventParser(parser.last_id)
            try:
                async with client.stream(path, last_id=parser.last_id, silence=SILENCE) as response:
                    streams = _offers_events(response)
                    if streams:
                        async for generation in _told(response, parser):
                            yield generation
            except (httpx.HTTPError, ValueError):
                pass  # cut or silent: what follows finds out how things stand, and waits while nobody answers
        if generation["status"] not in TERMINAL:
            await asyncio.sleep(every)
            generation = await client.generation(generation["id"], patience=PATIENCE)
            yield generation


def _offers_events(response: httpx.Response) -> bool:
    return response.is_success and response.headers.get("content-type", "").startswith("text/event-stream")


async def _told(response: httpx.Response, parser: EventParser) -> AsyncIterator[dict[str, Any]]:
    """The generations that a stream tells of, until it ends."""
    async for chunk in response.aiter_bytes():
        for name, data in parser.feed(chunk):
            if name == "end":
                return
            told = json.loads(data)
            if name == "generation" and isinstance(told, dict) and "status" in told:
                yield told
