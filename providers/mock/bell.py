"""Callbacks: when a generation ends, its `callback_url` is rung, at least once, also after a restart."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping

import httpx

from providers.mock.dialect import Dialect, Ring
from providers.mock.studio import Studio
from providers.mock.work import Work
from providers.wire.exchange import WIRE_ERRORS

RETRY_SECONDS = (0.2, 0.5, 1.0, 2.0)
_AT_ONCE = 32


class Bell:
    """Rings through `client`, in each work's dialect; `run` is the one background task, `changed` tells it of new or
    ended work."""

    def __init__(self, studio: Studio, dialects: Mapping[str, Dialect], client: httpx.AsyncClient) -> None:
        self._studio, self._dialects, self._client = studio, dialects, client
        self._ringing: set[str] = set()
        self.changed = asyncio.Event()

    async def run(self) -> None:
        """Ring whatever is due, until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                self.changed.clear()
                wait = self._start_due(group)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await self.changed.wait()

    async def ring(self, work: Work, event: str) -> bool:
        """POST one event, a few times if need be; True if it was answered 2xx."""
        ring = self._dialects[work.dialect].ring(self._studio, work, event)
        for pause in (*RETRY_SECONDS, None):
            if await self._post(str(work.callback_url), ring):
                return True
            if pause is not None:
                await asyncio.sleep(pause)
        return False

    def _start_due(self, group: asyncio.TaskGroup) -> float | None:
        now = self._studio.clock()
        for work in self._studio.state.bells(_AT_ONCE * 2):
            if work.id in self._ringing:
                continue
            due_in = (work.ends_at or now) - now
            if due_in > 0 or len(self._ringing) >= _AT_ONCE:
                return max(due_in, 0) if due_in > 0 else None
            self._ringing.add(work.id)
            group.create_task(self._ring_end(work))
        return None

    async def _ring_end(self, work: Work) -> None:
        await self.ring(work, "ended")
        if self._studio.faults.fires("callback:twice", work.prompt, work.id):
            await self.ring(work, "ended")
        self._studio.state.rung(work.id)
        self._ringing.discard(work.id)
        self.changed.set()

    async def _post(self, url: str, ring: Ring) -> bool:
        try:
            response = await self._client.post(
                url, content=ring.body, headers=dict(ring.headers), timeout=10, follow_redirects=False
            )
        except WIRE_ERRORS:
            return False
        return response.is_success
