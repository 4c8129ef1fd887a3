"""Gemini Omni: Google's video model behind the Interactions API, with an API key.

    POST {url}/v1/interactions               {"model", "background": true, "input", "response_format", ...} -> {"id"}
    GET  {url}/v1/interactions/{id}          {"status", "steps": [{"type": "model_output", "content": [{"type": "video",
                                             "uri" | "data"}]}], "usage", "errors"}
    POST {url}/v1/interactions/{id}/cancel   the interaction, `cancelled`
    POST webhook_config.uris[]               {"type": "interaction.completed", "data": {"id"}}, see `read_callback`

Sources: google-genai 3.4.0 (2026-11-16; types, and requests measured 2026-11-24); ai.google.dev/gemini-api/docs/omni
(2026-09-18: tags for first and last frame, no negative prompt, inline results); /webhooks (2026-05-08). There is no
idempotency key, no list of interactions, no progress and no reported cost. That a polled result may come inline
although a URI was asked for stands in the documentation of mid-2026, and was not seen since: both are read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from urllib.parse import quote

from providers.base import (
    Callback,
    Capabilities,
    Download,
    ErrorCode,
    Operation,
    Output,
    ProviderError,
    ProviderStatus,
    Recovery,
    Signed,
    Stop,
    SubmitContext,
    SubmitResult,
    VideoRequest,
)
from providers.catalogue import load_catalogue
from providers.google_omni_wire import INLINE, RESERVED, build_body, read_event, read_status, read_submitted
from providers.google_wire import read_error
from providers.options import address, only, required
from providers.wire import Answer, Call, Clients, KeySet, call_json, download, open_inline, submit_once
from providers.wire.signatures import header, require_fresh, standard_secret, verify_rs256, verify_standard

NAME = "google_omni"
DEFAULT_URL = "https://generativelanguage.googleapis.com"
VERSIONS = ("v1", "v1beta")
CALLBACK_SECONDS = 3600.0
"""How long a callback that carries our token may still come. Google repeats one for 24 hours with growing pauses (docs,
2026-05), but the first comes when the video is done, which takes minutes."""
POLL_DEADLINE = 120.0
"""Seconds for a poll's answer, which may have a whole video in it."""
_INLINE_OUTPUT = re.compile(r"(.*)#inline=(\d{1,9})")


class GoogleOmni:
    """Gemini Omni over HTTP.

    Args:
        clients: the HTTP clients.
        api_key: of Google AI Studio, on the paid tier.
        url: the API's address, without a version.
        api_version: `v1`, or `v1beta` as the documentation of mid-2026 has it.
        webhook_secret: `whsec_...` of a registered webhook, if there is one.

    Raises:
        ValueError: the version is unknown, or the secret is none.
    """

    name = NAME

    def __init__(
        self,
        clients: Clients,
        *,
        api_key: str,
        url: str = DEFAULT_URL,
        api_version: str = "v1",
        webhook_secret: str | None = None,
    ) -> None:
        if api_version not in VERSIONS:
            raise ValueError(f"api_version must be one of {', '.join(VERSIONS)}")
        self._clients, self._origin = clients, url.rstrip("/")
        self._base = f"{self._origin}/{api_version}"
        self._headers = {"x-goog-api-key": api_key}
        self._keys = KeySet(clients.calls, f"{self._origin}/.well-known/jwks.json")
        self._secret = standard_secret(webhook_secret) if webhook_secret else None
        self.capabilities = Capabilities(
            catalogue=load_catalogue(NAME),
            cancel=True,
            callbacks=Signed.SIGNED,
            recovery=Recovery(callback_seconds=CALLBACK_SECONDS),
            reserved=RESERVED,
        )

    @classmethod
    def from_options(cls, clients: Clients, options: Mapping[str, str]) -> GoogleOmni:
        """Make one from texts, named as the arguments of the class are. Raises NotConfigured without `api_key`,
        ValueError for an option that is unknown or wrong."""
        only(NAME, options, "api_key", "url", "api_version", "webhook_secret")
        (api_key,) = required(NAME, options, "api_key")
        return cls(
            clients,
            api_key=api_key,
            url=address(NAME, options, "url", DEFAULT_URL),
            api_version=options.get("api_version", "v1"),
            webhook_secret=options.get("webhook_secret"),
        )

    async def submit(self, request: VideoRequest, context: SubmitContext) -> SubmitResult:
        """See `Provider.submit`."""
        body = build_body(request, context)
        call = Call("POST", f"{self._base}/interactions", self._headers, body)
        return await submit_once(self._clients.submit, call, read=read_submitted, read_error=read_error)

    async def poll(self, operation: Operation) -> ProviderStatus:
        """See `Provider.poll`."""
        call = self._call("GET", operation)
        return read_status((await self._ask(call)).document(), call.url, self._origin)

    async def cancel(self, operation: Operation) -> Stop:
        """See `Provider.cancel`. What a cancelled interaction costs is not documented (2026-11)."""
        answer = await self._ask(self._call("POST", operation, "/cancel"))
        return Stop(answer.document().get("status") in ("cancelled", "failed"))

    async def lookup(self, token: str) -> Operation | None:
        """Never called: interactions cannot be listed."""
        raise ProviderError(ErrorCode.INVALID_REQUEST, "Gemini lists no interactions")

    def download(self, output: Output) -> AbstractAsyncContextManager[Download]:
        """See `Provider.download`. A file inside a poll's answer is asked for by that poll again. Of a file that is
        gone Google says 403, "you do not have permission to access the File or it may not exist" (answers of 2026)."""
        inline = _INLINE_OUTPUT.fullmatch(output.url)
        if inline and inline[1].startswith(f"{self._base}/interactions/"):
            call = Call("GET", inline[1], self._headers)
            return open_inline(self._clients.calls, call, INLINE, int(inline[2]), read_error=read_error)
        keys = {self._origin: self._headers}
        return download(self._clients.fetch, output.url, headers_for_origin=keys, hides_missing=True)

    async def read_callback(self, headers: Mapping[str, str], body: bytes, now: float) -> Callback:
        """See `Provider.read_callback`.

        A callback that a request asked for is signed with a JWT (RS256, keys published at the API's own address); one
        of a registered webhook as Standard Webhooks has it. Both come in `webhook-signature` (docs, 2026-05). Which
        audience the JWT names is not documented, so that it is not checked; our token in the address is.
        """
        event, signature = header(headers, "webhook-id"), header(headers, "webhook-signature")
        if signature.startswith("v1,"):
            if self._secret is None:
                raise ProviderError(ErrorCode.AUTH, "GOOGLE_OMNI_WEBHOOK_SECRET is needed to verify this callback")
            verify_standard(self._secret, headers, body, now)
        else:
            require_fresh(header(headers, "webhook-timestamp"), now)
            await verify_rs256(self._keys, signature, now)
        return read_event(event, body)

    def _call(self, method: str, operation: Operation, action: str = "") -> Call:
        return Call(method, f"{self._base}/interactions/{quote(operation.id, safe='')}{action}", self._headers)

    async def _ask(self, call: Call) -> Answer:
        return await call_json(self._clients.calls, call, read_error=read_error, deadline=POLL_DEADLINE, inline=INLINE)
