"""Riding out a blip of seconds around one idempotent request; whatever lasts longer is the queue's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from pipeline.storage.base import StorageUnavailable

T = TypeVar("T")


class Repeat:
    """Calls again what raised StorageUnavailable, `attempts` times in all with `sleep` between, then raises it."""

    def __init__(self, attempts: int, sleep: Callable[[float], Awaitable[None]]) -> None:
        self._attempts = attempts
        self._sleep = sleep

    async def __call__(self, once: Callable[[], Awaitable[T]]) -> T:
        """The result of `once`."""
        retrying = AsyncRetrying(
            sleep=self._sleep,
            stop=stop_after_attempt(self._attempts),
            wait=wait_random_exponential(multiplier=0.25, max=4),
            retry=retry_if_exception_type(StorageUnavailable),
            reraise=True,
        )

        async def attempt() -> T:
            return await once()  # tenacity awaits only what is declared `async def`

        return await retrying(attempt)
