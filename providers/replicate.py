"""Replicate: official models by name, and any version by its number.

    POST {url}/models/{owner}/{name}/predictions   {"input", "webhook", "webhook_events_filter"} -> 201, the prediction
    POST {url}/predictions                         the same with "version"
    GET  {url}/predictions/{id}                    {"status", "output", "logs", "error", "started_at", "completed_at"}
    POST {url}/predictions/{id}/cancel             the prediction as it then stands
    POST {url}/files                               a picture's bytes, free of charge
    GET  {url}/webhooks/default/secret             {"key": "whsec_..."}
    POST webhook                                   the prediction, signed by Standard Webhooks

Sources: the official client `replicate` 1.0.7 (measured 2026-11-24); replicate.com/docs predictions, lifecycle,
webhooks, input files, billing (stored copies of 2026) and the changelog of 2025-10-16. The list of predictions shows
their input but nothing of ours, so lost submits cannot be looked up. Nothing is said of the price. Files are public and
kept for an hour.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from functools import partial

from providers.base import (
    Callback,
    Capabilities,
    Download,
    ErrorCode,
    Media,
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
from providers.options import address, only, required
from providers.replicate_wire import (
    MAX_DATA,
    RESERVED,
    build_ask,
    build_submit,
    build_upload,
    parts_of,
    read_callback,
    read_error,
    read_status,
    read_submitted,
    read_upload,
)
from providers.wire import Call, Clients, call_json, download, submit_once
from providers.wire.kept import Kept
from providers.wire.signatures import header, require_fresh, standard_secret, verify_standard

URL = "https://api.replicate.com/v1"
CALLBACK_SECONDS = 3600.0
"""How long a callback that carries our token may come. A prediction runs for half an hour at most (docs, lifecycle,
2026); how long Replicate rings again is not said, and after an hour its files are gone."""


class Replicate:
    """Replicate over HTTP. `webhook_secret` (`whsec_...`) is asked for when it is needed and not given.

    Raises ValueError for a secret that is none.
    """

    name = "replicate"
    capabilities = Capabilities(
        catalogue=load_catalogue("replicate"),
        cancel=True,
        callbacks=Signed.SIGNED,
        recovery=Recovery(callback_seconds=CALLBACK_SECONDS),
        reserved=RESERVED,
    )

    def __init__(self, clients: Clients, *, api_key: str, url: str = URL, webhook_secret: str | None = None) -> None:
        self._clients, self._base = clients, url
        self._headers = {"authorization": f"Bearer {api_key}"}
        self._given = standard_secret(webhook_secret) if webhook_secret else None
        self._secret = Kept(self._ask_secret)

    @classmethod
    def from_options(cls, clients: Clients, options: Mapping[str, str]) -> Replicate:
        """Make one from texts: `api_key`, perhaps `url` and `webhook_secret`. Raises NotConfigured or ValueError."""
        only("replicate", options, "api_key", "url", "webhook_secret")
        (api_key,) = required("replicate", options, "api_key")
        url = address("replicate", options, "url", URL)
        return cls(clients, api_key=api_key, url=url, webhook_secret=options.get("webhook_secret"))

    async def submit(self, request: VideoRequest, context: SubmitContext) -> SubmitResult:
        """See `Provider.submit`. Large pictures are uploaded before, which costs nothing."""
        catalogue = self.capabilities.catalogue
        model = request.model or catalogue.default_model
        try:
            parts_of(model)
            hosted = replace(
                request, image=await self._host(request.image), last_image=await self._host(request.last_image)
            )
            call = build_submit(self._base, self._headers, hosted, context, catalogue)
        except ProviderError as error:
            error.billed = False
            return Rejected(error)
        read = partial(lambda _status, _headers, body, model: read_submitted(body, model), model=model)
        return await submit_once(self._clients.submit, call, read=read, read_error=read_error)

    async def poll(self, operation: Operation) -> ProviderStatus:
        """See `Provider.poll`."""
        return read_status(await self._call(build_ask(self._base, self._headers, operation)))

    async def cancel(self, operation: Operation) -> Stop:
        """See `Provider.cancel`; where the answer still shows it at work, one look later decides."""
        status = read_status(await self._call(build_ask(self._base, self._headers, operation, cancel=True)))
        if status.phase in {Phase.QUEUED, Phase.RUNNING}:
            status = await self.poll(operation)
        stopped = status.phase in {Phase.CANCELLED, Phase.FAILED}
        return Stop(stopped, status.error.billed if stopped and status.error else None)

    async def lookup(self, token: str) -> Operation | None:
        """Replicate lists predictions, but nothing of ours in them."""
        raise ProviderError(ErrorCode.INVALID_REQUEST, "Replicate offers no lookup")

    def download(self, output: Output) -> AbstractAsyncContextManager[Download]:
        """See `Provider.download`; files are public, the key goes nowhere."""
        return download(self._clients.fetch, output.url)

    async def read_callback(self, headers: Mapping[str, str], body: bytes, now: float) -> Callback:
        """See `Provider.read_callback`."""
        event_id = header(headers, "webhook-id")
        require_fresh(header(headers, "webhook-timestamp"), now)
        header(headers, "webhook-signature")
        try:
            verify_standard(self._given or await self._secret.current(now), headers, body, now)
        except ProviderError as error:
            if self._given or error.code is not ErrorCode.AUTH:
                raise
            verify_standard(await self._secret.renewed(now), headers, body, now)
        return read_callback(event_id, body)

    async def _ask_secret(self) -> bytes:
        """The secret as Replicate tells it. Raises ProviderError(TRANSIENT)."""
        call = Call("GET", f"{self._base}/webhooks/default/secret", self._headers)
        try:
            answer = await call_json(self._clients.calls, call, read_error=read_error, attempts=2, deadline=5.0)
            return standard_secret(str(answer.document()["key"]))
        except (ProviderError, KeyError, ValueError) as error:
            raise ProviderError(ErrorCode.TRANSIENT, f"the webhook's secret cannot be had: {error}") from error

    async def _host(self, picture: Media | None) -> Media | None:
        """The picture as it can travel: a large one by its address at Replicate."""
        if picture is None or picture.data is None or len(picture.data) <= MAX_DATA:
            return picture
        return read_upload(await self._call(build_upload(self._base, self._headers, picture)))

    async def _call(self, call: Call) -> dict[str, object]:
        return (await call_json(self._clients.calls, call, read_error=read_error)).document()
