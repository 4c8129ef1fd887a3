"""A provider whose calls are told: one event per call, however it ends."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeVar

from pipeline.telemetry import emit
from providers.base import (
    Callback,
    Download,
    Operation,
    Output,
    Provider,
    ProviderError,
    ProviderStatus,
    Rejected,
    Stop,
    SubmitContext,
    SubmitResult,
    Unknown,
    VideoRequest,
)

T = TypeVar("T")


class Observed:
    """Hands every call on to the provider, and changes nothing."""

    def __init__(self, provider: Provider, clock: Callable[[], float] = time.perf_counter) -> None:
        self.name = provider.name
        self.capabilities = provider.capabilities
        self._provider = provider
        self._clock = clock

    async def submit(self, request: VideoRequest, context: SubmitContext) -> SubmitResult:
        """See `Provider.submit`."""
        return await self._told("submit", self._provider.submit(request, context))

    async def poll(self, operation: Operation) -> ProviderStatus:
        """See `Provider.poll`."""
        return await self._told("poll", self._provider.poll(operation))

    async def cancel(self, operation: Operation) -> Stop:
        """See `Provider.cancel`."""
        return await self._told("cancel", self._provider.cancel(operation))

    async def lookup(self, token: str) -> Operation | None:
        """See `Provider.lookup`."""
        return await self._told("lookup", self._provider.lookup(token))

    def download(self, output: Output) -> AbstractAsyncContextManager[Download]:
        """See `Provider.download`; the call lasts until the body is left."""
        return self._downloading(output)

    async def read_callback(self, headers: Mapping[str, str], body: bytes, now: float) -> Callback:
        """See `Provider.read_callback`."""
        return await self._provider.read_callback(headers, body, now)

    @asynccontextmanager
    async def _downloading(self, output: Output) -> AsyncIterator[Download]:
        started = self._clock()
        try:
            async with self._provider.download(output) as body:
                yield body
        except BaseException as error:
            self._tell("download", started, error)
            raise
        self._tell("download", started, None)

    async def _told(self, operation: str, call: Awaitable[T]) -> T:
        started = self._clock()
        try:
            result = await call
        except BaseException as error:
            self._tell(operation, started, error)
            raise
        self._tell(operation, started, result)
        return result

    def _tell(self, operation: str, started: float, result: object) -> None:
        outcome, error = _outcome(result)
        emit(
            "provider.call",
            level=logging.DEBUG,
            provider=self.name,
            operation=operation,
            outcome=outcome,
            code=None if error is None else str(error.code),
            http_status=None if error is None else error.http_status,
            ms=round((self._clock() - started) * 1000, 1),
        )


def _outcome(result: object) -> tuple[str, ProviderError | None]:
    """`ok`, `rejected` (surely not taken), `unknown` (perhaps taken), `error`, or `ended` (by us)."""
    match result:
        case ProviderError():
            return "error", result
        case BaseException():
            return "ended", None
        case Rejected(error):
            return "rejected", error
        case Unknown(error):
            return "unknown", error
    return "ok", None
