"""A provider's published keys (JWKS), fetched when needed and kept for a day."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from providers.base import ErrorCode, ProviderError
from providers.wire.calls import call_json
from providers.wire.exchange import Call

MAX_AGE = 86_400.0
"""Seconds; fal asks for at most 24 hours (fal.ai/docs, webhooks, 2026)."""
RENEW_AT_MOST = 60.0
"""Seconds between two fetches, however many callbacks name keys that are not known."""

Keys = Sequence[Mapping[str, Any]]


class KeySet:
    """The keys at a URL. `client` is the one for free calls."""

    def __init__(self, client: httpx.AsyncClient, url: str) -> None:
        self._client, self._url = client, url
        self._keys: Keys = ()
        self._fetched_at: float | None = None
        self._lock = asyncio.Lock()

    async def current(self, now: float) -> Keys:
        """The keys, at most a day old at `now` (Unix seconds). Raises ProviderError(TRANSIENT)."""
        return await self._fetched(now, MAX_AGE)

    async def renewed(self, now: float) -> Keys:
        """The keys as they are by now, for a signature that none of the known ones made: providers rotate them."""
        return await self._fetched(now, RENEW_AT_MOST)

    async def _fetched(self, now: float, max_age: float) -> Keys:
        async with self._lock:
            if self._fetched_at is None or not 0 <= now - self._fetched_at < max_age:
                self._keys = await self._fetch()
                self._fetched_at = now
            return self._keys

    async def _fetch(self) -> Keys:
        try:
            answer = (await call_json(self._client, Call("GET", self._url), attempts=2, deadline=5.0)).document()
        except ProviderError as error:
            raise ProviderError(ErrorCode.TRANSIENT, f"the provider's keys cannot be had: {error.message}") from error
        keys = answer.get("keys")
        if not isinstance(keys, list):
            raise ProviderError(ErrorCode.TRANSIENT, "the provider's keys cannot be read")
        return [key for key in keys if isinstance(key, dict)]
