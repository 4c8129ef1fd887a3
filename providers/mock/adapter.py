"""The mock as a provider: its native dialect (see `providers.mock.server`) behind the common protocol."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any
from urllib.parse import quote

from providers.base import (
    Callback,
    Capabilities,
    Download,
    Operation,
    Output,
    ProviderStatus,
    Recovery,
    SubmitContext,
    SubmitResult,
    VideoRequest,
)
from providers.mock.dialect import build_submit, read_callback, read_error, read_found, read_status, read_submitted
from providers.mock.order import DEFAULT_DURATION, DURATIONS, MAX_PROMPT, MODELS, PRICE_MICROS_PER_SECOND
from providers.mock.plan import TYPICAL_SECONDS
from providers.mock.render import ASPECT_RATIOS, RESOLUTIONS
from providers.wire import Call, Clients, call_json, download, submit_once

RECOVERIES = ("key", "lookup", "callback", "none")


class MockProvider:
    """The mock over HTTP.

    Args:
        clients: the HTTP clients.
        base_url: where the mock listens.
        recovery: what it offers for unknown submits: `key` (Idempotency-Key, 24 h), `lookup` (our token as
            `reference`), `callback` (the callback URL) or `none`; a means is used in its own mode only.
        speed: the server's, from which the usual duration follows.
        lookup_quiet_seconds: after so long a lookup without a find is final.
        callback_seconds: a callback can come for so long; twice the usual duration and 30 s unless given.
        api_key: any text.

    Raises:
        ValueError: an unknown recovery.
    """

    name = "mock"

    def __init__(
        self,
        clients: Clients,
        *,
        base_url: str,
        recovery: str = "key",
        speed: float = 1.0,
        lookup_quiet_seconds: float = 2.0,
        callback_seconds: float | None = None,
        api_key: str = "mock",
    ) -> None:
        if recovery not in RECOVERIES:
            raise ValueError(f"recovery must be one of {', '.join(RECOVERIES)}")
        self._clients, self._base, self._recovery = clients, base_url.rstrip("/"), recovery
        self._headers = {"authorization": f"Bearer {api_key}"}
        typical = TYPICAL_SECONDS / speed
        ways = {
            "key": Recovery(idempotency_seconds=86_400.0),
            "lookup": Recovery(lookup_quiet_seconds=lookup_quiet_seconds),
            "callback": Recovery(callback_seconds=2 * typical + 30 if callback_seconds is None else callback_seconds),
            "none": Recovery(),
        }
        self.capabilities = _capabilities(ways[recovery], typical)

    @classmethod
    def from_options(cls, clients: Clients, options: Mapping[str, str]) -> MockProvider:
        """Make one from texts, named as the arguments of the class are; only `base_url` is needed.

        Raises ValueError for an option that is missing, unknown or no number where one is needed.
        """
        unknown = set(options) - _OPTIONS
        if unknown or "base_url" not in options:
            raise ValueError(f"mock: needs base_url, and does not know {sorted(unknown)}")
        callback_seconds = options.get("callback_seconds")
        return cls(
            clients,
            base_url=options["base_url"],
            recovery=options.get("recovery", "key"),
            speed=float(options.get("speed", "1")),
            lookup_quiet_seconds=float(options.get("lookup_quiet_seconds", "2")),
            callback_seconds=None if callback_seconds is None else float(callback_seconds),
            api_key=options.get("api_key", "mock"),
        )

    async def submit(self, request: VideoRequest, context: SubmitContext) -> SubmitResult:
        """See `Provider.submit`."""
        call = build_submit(self._base, self._headers, self._recovery, request, context)
        return await submit_once(self._clients.submit, call, read=read_submitted, read_error=read_error)

    async def poll(self, operation: Operation) -> ProviderStatus:
        """See `Provider.poll`."""
        return read_status(await self._call("GET", f"/v1/videos/{quote(operation.id, safe='')}"))

    async def cancel(self, operation: Operation) -> bool:
        """See `Provider.cancel`."""
        answer = await self._call("POST", f"/v1/videos/{quote(operation.id, safe='')}/cancel")
        return answer.get("status") == "cancelled"

    async def lookup(self, token: str) -> Operation | None:
        """See `Provider.lookup`."""
        return read_found(await self._call("GET", "/v1/videos", {"reference": token}))

    def download(self, output: Output) -> AbstractAsyncContextManager[Download]:
        """See `Provider.download`; the mock's links need no key."""
        return download(self._clients.fetch, output.url)

    def read_callback(self, headers: Mapping[str, str], body: bytes) -> Callback:
        """See `Provider.read_callback`; the mock signs nothing, its URL carries the token."""
        return read_callback(body)

    async def _call(self, method: str, path: str, params: Mapping[str, str] | None = None) -> dict[str, Any]:
        call = Call(method, self._base + path, self._headers, params=params or {})
        return (await call_json(self._clients.calls, call, read_error=read_error)).document()


_OPTIONS = frozenset({"base_url", "recovery", "speed", "lookup_quiet_seconds", "callback_seconds", "api_key"})


def _capabilities(recovery: Recovery, typical: float) -> Capabilities:
    return Capabilities(
        models=MODELS,
        durations=DURATIONS,
        default_duration=DEFAULT_DURATION,
        aspect_ratios=ASPECT_RATIOS,
        resolutions=RESOLUTIONS,
        max_prompt=MAX_PROMPT,
        seed=True,
        audio=True,
        negative_prompt=True,
        image_url=True,
        image_data=True,
        cancel=True,
        recovery=recovery,
        price_micros_per_second=PRICE_MICROS_PER_SECOND,
        poll_seconds=0.2,
        typical_seconds=typical,
    )
