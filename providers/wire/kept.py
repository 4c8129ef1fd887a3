"""What verifies a provider's callbacks and must be fetched from it: kept, and renewed without being driven to it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from providers.base import ErrorCode, ProviderError

MAX_AGE = 86_400.0
"""Seconds; fal asks for at most 24 hours (fal.ai/docs, webhooks, 2026)."""
RENEW_AT_MOST = 60.0
"""Seconds between two fetches while something is kept, however many callbacks it does not fit."""
TRY_AT_MOST = 10.0
"""Seconds between two fetches while nothing is."""

T = TypeVar("T")


class Kept(Generic[T]):
    """Fetched when first needed, then once a day, or when it does not fit: providers rotate keys and secrets.

    One fetch is under way at a time, and those who have something older meanwhile do not wait for it. How a fetch ended
    is remembered: until the next is due everybody is told the same. All times are Unix seconds.

    Args:
        fetch: gets it anew; raises ProviderError.
    """

    def __init__(self, fetch: Callable[[], Awaitable[T]]) -> None:
        self._fetch = fetch
        self._kept: tuple[T, float] | None = None
        self._tried_at: float | None = None
        self._failure = ""
        self._fetching: asyncio.Task[None] | None = None

    async def current(self, now: float) -> T:
        """What is kept, at most a day old, or older while it is being fetched. Raises ProviderError(TRANSIENT)."""
        if self._kept is not None and (self._fetching is not None or self._is_young(now)):
            return self._kept[0]
        return await self._fetched(now, TRY_AT_MOST)

    async def renewed(self, now: float) -> T:
        """As it is by now, for a callback that the kept one does not fit. Raises ProviderError(TRANSIENT)."""
        return await self._fetched(now, RENEW_AT_MOST)

    def _is_young(self, now: float) -> bool:
        return self._kept is not None and 0 <= now - self._kept[1] < MAX_AGE

    async def _fetched(self, now: float, pause: float) -> T:
        if self._fetching is None and (self._tried_at is None or not 0 <= now - self._tried_at < pause):
            self._tried_at = now
            self._fetching = asyncio.create_task(self._try(now))
        if self._fetching is not None:
            await asyncio.shield(self._fetching)  # whoever goes away does not end it for the others
        if self._failure or self._kept is None:
            raise ProviderError(ErrorCode.TRANSIENT, self._failure or "the fetch was stopped")
        return self._kept[0]

    async def _try(self, now: float) -> None:
        try:
            self._kept, self._failure = (await self._fetch(), now), ""
        except ProviderError as error:
            self._failure = error.message
        finally:
            self._fetching = None
