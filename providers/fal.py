"""fal: any of its endpoints by name, through its queue.

    POST {url}/{owner}/{app}[/path]?fal_webhook=   the endpoint's own JSON -> {"request_id", "status_url",
                                                   "response_url", "cancel_url"}; the path is dropped from them
    GET  status_url     IN_QUEUE, IN_PROGRESS, COMPLETED, which is no success yet
    GET  response_url   the output {"video": {"url"}}, or the run's error as 4xx or 5xx
    PUT  cancel_url     a wish: what is queued is removed, what runs is asked to stop
    POST fal_webhook    {"request_id", "status": "OK" | "ERROR"}, signed with Ed25519 by a key of a JWKS

Sources: fal-client 1.0.3 (measured 2026-11-24); fal.ai/docs queue, webhooks, errors, request errors, reliability
(stored copies of 2026). Nothing is said of the price: `cost_micros` stays unknown.

fal's queue retries a run up to ten times by itself after 503, 504 and lost runners. `x-fal-no-retry` is not sent: such
runs are not billed, so these retries cost nothing and save a submission.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial

from providers.base import (
    Callback,
    Capabilities,
    Download,
    ErrorCode,
    Operation,
    Output,
    Phase,
    ProviderError,
    ProviderStatus,
    Recovery,
    Rejected,
    Signed,
    Stop,
    SubmitContext,
    SubmitResult,
    VideoRequest,
)
from providers.catalogue import load_catalogue
from providers.fal_wire import (
    RESERVED,
    RunFailed,
    address_of,
    build_submit,
    failed,
    read_callback,
    read_error,
    read_result,
    read_run_error,
    read_status,
    read_submitted,
)
from providers.options import address, only, required
from providers.wire import Call, Clients, KeySet, call_json, download, submit_once
from providers.wire.errors import ReadError
from providers.wire.signatures import header, require_fresh, verify_ed25519

URL = "https://queue.fal.run"
JWKS_URL = "https://rest.fal.ai/.well-known/jwks.json"
CALLBACK_SECONDS = 9000.0
"""How long a callback that carries our token may come: half an hour for queue and run, then ten retries over two hours
(fal.ai/docs, webhooks, seen 2026-07-18)."""


class Fal:
    """fal over HTTP. `api_key` is `id:secret`; `jwks_url` is where the keys of its callbacks are published."""

    name = "fal"

    def __init__(self, clients: Clients, *, api_key: str, url: str = URL, jwks_url: str = JWKS_URL) -> None:
        self._clients, self._base = clients, url
        self._headers = {"authorization": f"Key {api_key}"}
        self._keys = KeySet(clients.calls, jwks_url)
        self._catalogue = load_catalogue("fal")
        self.capabilities = Capabilities(
            catalogue=self._catalogue,
            cancel=True,
            callbacks=Signed.SIGNED,
            recovery=Recovery(callback_seconds=CALLBACK_SECONDS),
            reserved=RESERVED,
        )

    @classmethod
    def from_options(cls, clients: Clients, options: Mapping[str, str]) -> Fal:
        """Make one from texts: `api_key`, and perhaps `url` and `jwks_url`. Raises NotConfigured or ValueError."""
        only("fal", options, "api_key", "url", "jwks_url")
        (api_key,) = required("fal", options, "api_key")
        url, jwks_url = address("fal", options, "url", URL), address("fal", options, "jwks_url", JWKS_URL)
        return cls(clients, api_key=api_key, url=url, jwks_url=jwks_url)

    async def submit(self, request: VideoRequest, context: SubmitContext) -> SubmitResult:
        """See `Provider.submit`."""
        try:
            call = build_submit(self._base, self._headers, request, context, self._catalogue)
        except ProviderError as error:
            return Rejected(error)
        model = request.model or self._catalogue.default_model
        read = partial(lambda _status, _headers, body, model: read_submitted(body, model), model=model)
        return await submit_once(self._clients.submit, call, read=read, read_error=read_error)

    async def poll(self, operation: Operation) -> ProviderStatus:
        """See `Provider.poll`; what has ended is asked for its output, whose error is the request's."""
        told = await self._call("GET", operation, "status_url", read_error)
        under_way = read_status(told)
        if under_way is not None:
            return under_way
        try:
            result = await self._call("GET", operation, "response_url", partial(read_run_error, told=told))
        except RunFailed as error:
            return failed(error)
        return read_result(result, told)

    async def cancel(self, operation: Operation) -> Stop:
        """See `Provider.cancel`. fal only takes note of the wish, so what came of it is looked up; of the charge fal
        says nothing."""
        try:
            await self._call("PUT", operation, "cancel_url", read_error)
        except ProviderError as error:
            if error.http_status != 400:  # ALREADY_COMPLETED
                raise
        try:
            status = await self.poll(operation)
        except ProviderError as error:
            if error.code is ErrorCode.NOT_FOUND:
                return Stop(stopped=True)
            raise
        billed = status.error.billed if status.error else None
        return Stop(stopped=status.phase in {Phase.CANCELLED, Phase.FAILED}, billed=billed)

    async def lookup(self, token: str) -> Operation | None:
        """fal cannot list its requests by anything of ours."""
        raise ProviderError(ErrorCode.INVALID_REQUEST, "fal offers no lookup")

    def download(self, output: Output) -> AbstractAsyncContextManager[Download]:
        """See `Provider.download`; files are public, the key goes nowhere."""
        return download(self._clients.fetch, output.url)

    async def read_callback(self, headers: Mapping[str, str], body: bytes, now: float) -> Callback:
        """See `Provider.read_callback`. Signed are request, user, time and the body's SHA-256, a line each."""
        names = ("request-id", "user-id", "timestamp", "signature")
        request_id, user_id, timestamp, signature = (header(headers, f"x-fal-webhook-{name}") for name in names)
        require_fresh(timestamp, now)
        message = "\n".join([request_id, user_id, timestamp, hashlib.sha256(body).hexdigest()]).encode()
        await verify_ed25519(self._keys, signature, message, now)
        return read_callback(body)

    async def _call(self, method: str, operation: Operation, name: str, read: ReadError) -> dict[str, object]:
        url = address_of(self._base, operation, name, self._catalogue.default_model)
        call = Call(method, url, self._headers)
        return (await call_json(self._clients.calls, call, read_error=read)).document()
