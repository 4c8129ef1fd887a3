"""The mock as a provider: its native dialect (see `providers.mock.server`) behind the common protocol."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from providers.base import (
    Callback,
    Capabilities,
    Catalogue,
    Download,
    Operation,
    Output,
    ProviderStatus,
    Recovery,
    Signed,
    Stop,
    SubmitContext,
    SubmitResult,
    VideoRequest,
)
from providers.catalogue import load_catalogue
from providers.mock.adapter_wire import (
    RESERVED,
    build_submit,
    read_callback,
    read_error,
    read_found,
    read_status,
    read_stopped,
    read_submitted,
)
from providers.mock.plan import TYPICAL_SECONDS
from providers.options import required
from providers.wire import Call, Clients, call_json, download, submit_once

RECOVERIES = ("key", "lookup", "callback", "none")


class Mock:
    """The mock over HTTP.

    Args:
        clients: the HTTP clients.
        url: where the mock listens.
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
        url: str,
        recovery: str = "key",
        speed: float = 1.0,
        lookup_quiet_seconds: float = 2.0,
        callback_seconds: float | None = None,
        api_key: str = "mock",
    ) -> None:
        if recovery not in RECOVERIES:
            raise ValueError(f"recovery must be one of {', '.join(RECOVERIES)}")
        self._clients, self._base, self._recovery = clients, url.rstrip("/"), recovery
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
    def from_options(cls, clients: Clients, options: Mapping[str, str]) -> Mock:
        """Make one from texts, named as the arguments of the class are; only `url` is needed.

        Raises NotConfigured without it, ValueError for an option that is unknown or no number where one is needed.
        """
        unknown = set(options) - _OPTIONS
        if unknown:
            raise ValueError(f"mock does not know {', '.join(sorted(unknown))}")
        (url,) = required("mock", options, "url")
        callback_seconds = options.get("callback_seconds")
        return cls(
            clients,
            url=url,
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

    async def cancel(self, operation: Operation) -> Stop:
        """See `Provider.cancel`."""
        return read_stopped(await self._call("POST", f"/v1/videos/{quote(operation.id, safe='')}/cancel"))

    async def lookup(self, token: str) -> Operation | None:
        """See `Provider.lookup`."""
        return read_found(await self._call("GET", "/v1/videos", {"reference": token}))

    def download(self, output: Output) -> AbstractAsyncContextManager[Download]:
        """See `Provider.download`; the mock's links need no key."""
        return download(self._clients.fetch, output.url)

    async def read_callback(self, headers: Mapping[str, str], body: bytes, now: float) -> Callback:
        """See `Provider.read_callback`; the mock signs nothing, its URL carries the token."""
        return read_callback(body)

    async def _call(self, method: str, path: str, params: Mapping[str, str] | None = None) -> dict[str, Any]:
        call = Call(method, self._base + path, self._headers, params=params or {})
        return (await call_json(self._clients.calls, call, read_error=read_error)).document()


_OPTIONS = frozenset({"url", "recovery", "speed", "lookup_quiet_seconds", "callback_seconds", "api_key"})


def _capabilities(recovery: Recovery, typical: float) -> Capabilities:
    catalogue = load_catalogue("mock")
    return Capabilities(
        catalogue=_at_pace(catalogue, typical),
        cancel=True,
        callbacks=Signed.TOKEN,
        recovery=recovery,
        reserved=RESERVED,
    )


def _at_pace(catalogue: Catalogue, typical: float) -> Catalogue:
    """The mock's own speed decides how long its videos take."""
    models = {name: replace(model, typical_seconds=typical) for name, model in catalogue.models.items()}
    return replace(catalogue, models=models)
