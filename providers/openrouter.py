"""OpenRouter: many makers' video models behind one wire.

    POST {url}/videos                        202 {"id", "polling_url", "status": "pending"}
    GET  {url}/videos/{id}                   {"status", "error", "urls", "unsigned_urls", "expires_at", "usage"}
    GET  {url}/videos/{id}/content?index=0   the file, with the key
    POST callback_url                        {"type": "video.generation.<status>", "data": {"id", "status", ...}},
                                             X-OpenRouter-Signature: t=<unix>,v1=<hex>

Sources: the official client `openrouter` 1.3.84 (types and measured requests, 2026-11-24); openrouter.ai/docs, videos
and video-generation-webhooks (stored copies of 2026-09). There is no cancel, no idempotency key and no list of jobs.
`polling_url` is not used: the address follows from the id, and the key goes to no address that an answer names.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from decimal import Decimal, InvalidOperation
from typing import Any
from urllib.parse import quote, urlsplit

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
from providers.options import address, only, required
from providers.wire import Call, Clients, call_json, download, error_of, looks_refused, merged, submit_once, with_code
from providers.wire.pictures import picture_url
from providers.wire.signatures import header, require_fresh

DEFAULT_URL = "https://openrouter.ai/api/v1"
CALLBACK_SECONDS = 3600.0
"""How long a callback that carries our token may still come. OpenRouter names no retry window (docs, 2026-09): it rings
once a job has ended, and jobs take "30 seconds to several minutes"."""

_VERTEX = "google-vertex"
RESERVED = frozenset(
    {"model", "prompt", "duration", "resolution", "aspect_ratio", "size", "seed", "generate_audio", "frame_images"}
    | {"callback_url", "session_id", "user"}
    | {"creativity"}  # only of upscaling, which is other work than what is priced
    | {f"provider.options.{_VERTEX}.parameters.negativePrompt"}
)

_PHASES = {
    "pending": Phase.QUEUED,
    "in_progress": Phase.RUNNING,
    "completed": Phase.SUCCEEDED,
    "failed": Phase.FAILED,
    "cancelled": Phase.CANCELLED,
    "expired": Phase.FAILED,
}
_MOST_USD = Decimal(1_000_000)


class OpenRouter:
    """OpenRouter over HTTP.

    Args:
        clients: the HTTP clients.
        api_key: `sk-or-...`.
        url: its API, up to and with `/v1`.
        webhook_secret: the workspace's signing secret; without it no callback is asked for.
    """

    name = "openrouter"

    def __init__(
        self, clients: Clients, *, api_key: str, url: str = DEFAULT_URL, webhook_secret: str | None = None
    ) -> None:
        self._clients, self._base, self._secret = clients, url.rstrip("/"), webhook_secret
        self._headers = {"authorization": f"Bearer {api_key}"}
        self.capabilities = Capabilities(
            catalogue=load_catalogue("openrouter"),
            callbacks=Signed.SIGNED if webhook_secret else Signed.NONE,
            recovery=Recovery(callback_seconds=CALLBACK_SECONDS if webhook_secret else None),
            reserved=RESERVED,
        )

    @classmethod
    def from_options(cls, clients: Clients, options: Mapping[str, str]) -> OpenRouter:
        """Make one from texts, named as the arguments of the class are. Raises NotConfigured without `api_key`,
        ValueError for an option that is unknown or an address that is none."""
        only("openrouter", options, "api_key", "url", "webhook_secret")
        (api_key,) = required("openrouter", options, "api_key")
        url = address("openrouter", options, "url", DEFAULT_URL)
        return cls(clients, api_key=api_key, url=url, webhook_secret=options.get("webhook_secret"))

    async def submit(self, request: VideoRequest, context: SubmitContext) -> SubmitResult:
        """See `Provider.submit`."""
        if request.negative_prompt is not None and not _by_google(request):
            return Rejected(ProviderError(ErrorCode.INVALID_REQUEST, _NO_NEGATIVE, billed=False))
        context = context if self._secret else SubmitContext(context.token)
        call = build_submit(self._base, self._headers, request, context)
        return await submit_once(
            self._clients.submit, call, read=lambda _, __, body: read_submitted(body, request), read_error=read_error
        )

    async def poll(self, operation: Operation) -> ProviderStatus:
        """See `Provider.poll`."""
        call = Call("GET", job_url(self._base, operation), self._headers)
        answer = await call_json(self._clients.calls, call, read_error=read_error)
        return read_status(answer.document(), self._base, operation)

    async def cancel(self, operation: Operation) -> Stop:
        """OpenRouter offers no cancel (official client 1.3.84). Raises ProviderError(INVALID_REQUEST)."""
        raise ProviderError(ErrorCode.INVALID_REQUEST, "openrouter cannot be asked to stop")

    async def lookup(self, token: str) -> Operation | None:
        """OpenRouter lists no jobs (official client 1.3.84). Raises ProviderError(INVALID_REQUEST)."""
        raise ProviderError(ErrorCode.INVALID_REQUEST, "openrouter lists no jobs")

    def download(self, output: Output) -> AbstractAsyncContextManager[Download]:
        """See `Provider.download`; the key is sent for files that need it, and to OpenRouter only."""
        keys = {origin_of(self._base): self._headers} if output.authenticated else {}
        return download(self._clients.fetch, output.url, headers_for_origin=keys)

    async def read_callback(self, headers: Mapping[str, str], body: bytes, now: float) -> Callback:
        """See `Provider.read_callback`."""
        if not self._secret:
            raise ProviderError(ErrorCode.INVALID_REQUEST, "openrouter's callbacks need its webhook secret")
        verify(self._secret, headers, body, now)
        return read_callback(body)


_NO_NEGATIVE = "nothing was sent: only Google's models take a negative prompt here; give it in extra's provider.options"


def _by_google(request: VideoRequest) -> bool:
    return (request.model or "").startswith("google/")


def origin_of(url: str) -> str:
    """Scheme, host and port of a URL."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def job_url(base: str, operation: Operation) -> str:
    """Where a job is asked after: made from its id, whatever `polling_url` says."""
    return f"{base}/videos/{quote(operation.id, safe='')}"


def build_submit(base: str, headers: Mapping[str, str], request: VideoRequest, context: SubmitContext) -> Call:
    """The paid call. `session_id` and `user` carry our token; neither is passed on to the model's maker."""
    asked = {
        "model": request.model,
        "prompt": request.prompt,
        "duration": request.duration,
        "resolution": _wire_resolution(request.resolution),
        "aspect_ratio": request.aspect_ratio,
        "seed": request.seed,
        "generate_audio": request.audio,
        "frame_images": _frames(request) or None,
        "callback_url": _callback_url(base, context.callback_url),
        "session_id": context.token,
        "user": context.token,
        "provider": _options(request) or None,
    }
    body = {name: value for name, value in asked.items() if value is not None}
    return Call("POST", f"{base}/videos", headers, merged(body, request.extra))


def _wire_resolution(resolution: str | None) -> str | None:
    """OpenRouter writes 720p, but 4K."""
    return resolution.upper() if resolution and resolution.endswith("k") else resolution


def _frames(request: VideoRequest) -> list[dict[str, Any]]:
    frames = (("first_frame", request.image), ("last_frame", request.last_image))
    return [
        {"type": "image_url", "image_url": {"url": picture_url(image)}, "frame_type": kind}
        for kind, image in frames
        if image is not None
    ]


def _callback_url(base: str, url: str | None) -> str | None:
    """It must be HTTPS (official client's types, 1.3.84); plain http only beside an OpenRouter that is a stand-in."""
    return url if url and (url.startswith("https://") or base.startswith("http://")) else None


def _options(request: VideoRequest) -> dict[str, Any]:
    if request.negative_prompt is None:
        return {}
    return {"options": {_VERTEX: {"parameters": {"negativePrompt": request.negative_prompt}}}}


def read_submitted(body: object, request: VideoRequest) -> Operation:
    """The job of an accepting answer. Raises ValueError when it names none."""
    job_id = body.get("id") if isinstance(body, dict) else None
    if not isinstance(job_id, str):
        raise ValueError("the answer names no job")
    return Operation(job_id, {"model": request.model})


def read_status(body: Mapping[str, Any], base: str, operation: Operation) -> ProviderStatus:
    """A poll's answer. Raises ProviderError(UNREADABLE) for a missing status."""
    word = body.get("status")
    if not isinstance(word, str):
        raise ProviderError(ErrorCode.UNREADABLE, "the answer has no status")
    phase = _PHASES.get(word, Phase.RUNNING)
    cost = read_cost(body.get("usage"))
    return ProviderStatus(
        phase=phase,
        outputs=(read_output(body, base, operation),) if phase is Phase.SUCCEEDED else (),
        error=read_failure(word, body.get("error"), cost) if phase is Phase.FAILED else None,
        cost_micros=cost,
        unknown_status=None if word in _PHASES else word[:100],
    )


def read_cost(usage: object) -> int | None:
    """`usage.cost` in micro-USD, exactly as it is written; None for what is none.

    Of a job on the customer's own key (`is_byok`) the cost is not what its maker charges, so it is not believed.
    """
    cost = usage.get("cost") if isinstance(usage, dict) and usage.get("is_byok") is not True else None
    if isinstance(cost, bool) or not isinstance(cost, int | float | str):
        return None
    try:
        usd = Decimal(str(cost)[:60])
        return round(usd * 1_000_000) if 0 <= usd <= _MOST_USD else None
    except InvalidOperation:
        return None


def read_output(body: Mapping[str, Any], base: str, operation: Operation) -> Output:
    """The file: by signed link without the key, by OpenRouter's own address with it, or by the one that every job
    has."""
    expires_at = body.get("expires_at")
    until = float(expires_at) if isinstance(expires_at, int | float) and 1 < expires_at < 1e11 else None
    signed = _first(body.get("urls"))
    if signed is not None:
        return Output(signed, mime_type="video/mp4", expires_at=until)
    own = _first(body.get("unsigned_urls"))
    if own is None or origin_of(own) != origin_of(base):
        own = f"{job_url(base, operation)}/content?index=0"
    return Output(own, authenticated=True, mime_type="video/mp4", expires_at=until)


def _first(urls: object) -> str | None:
    url = urls[0] if isinstance(urls, list) and urls else None
    if not isinstance(url, str):
        return None
    try:
        urlsplit(url)
        return Output(url).url
    except ValueError:
        return None


_REFUSED = re.compile(r"sensitivecontent|flagged|raimediafiltered|prohibited[ _]content|responsible ai", re.I)
_LIMIT = re.compile(r"limit exceeded|insufficient|credits|quota", re.I)
_KEY = re.compile(r"\bkey\b|permission|not allowed|no access|unauthori[sz]ed|guardrail|disabled", re.I)


def _refused(text: str) -> bool:
    return looks_refused(text) or _REFUSED.search(text) is not None


def read_failure(word: str, error: object, cost: int | None) -> ProviderError:
    """A final failure: `error` is a sentence, often the maker's. Billed as the reported cost says, else unknown."""
    inner = error.get("message") if isinstance(error, dict) else error
    text = inner if isinstance(inner, str) and inner.strip() else f"the job ended as {word} without a reason"
    billed = None if cost is None else cost > 0
    if word == "expired":
        return ProviderError(ErrorCode.TIMEOUT, text, provider_code=word, billed=billed)
    code = ErrorCode.MODERATION if _refused(text) else ErrorCode.PROVIDER_ERROR
    return ProviderError(code, text, provider_code=word, billed=billed)


def read_error(status: int, headers: Mapping[str, str], body: object) -> ProviderError:
    """A refused call: `{"error": {"code": <status>, "message", "metadata"}}`; the code in it comes before the line's,
    but never makes a breakdown (5xx) a refusal (4xx).

    403 is moderation (`metadata.reasons`, `flagged_input`), and also what a key with a spent limit hears.
    """
    inner = body.get("error") if isinstance(body, dict) else None
    told = inner.get("code") if isinstance(inner, dict) else None
    meant = told if type(told) is int and status // 100 <= told // 100 < 6 else status
    error = error_of(meant, headers, body)
    error.http_status = status
    metadata = inner.get("metadata") if isinstance(inner, dict) else None
    flagged = isinstance(metadata, dict) and bool(metadata.get("reasons") or metadata.get("flagged_input"))
    if meant in {400, 403, 422} and (flagged or _refused(f"{error.provider_code} {error.message}")):
        return with_code(error, ErrorCode.MODERATION)
    return with_code(error, _of_403(error.message)) if meant == 403 else error


def _of_403(text: str) -> ErrorCode:
    """Without a word for it a 403 is a refusal (docs, 2026-09): that ends one video and pauses nobody else's."""
    if _LIMIT.search(text):
        return ErrorCode.QUOTA
    return ErrorCode.AUTH if _KEY.search(text) else ErrorCode.MODERATION


def sign(secret: str, timestamp: str, body: bytes) -> str:
    """HMAC-SHA256 in hex over `{timestamp},{body}`: with a comma (openrouter.ai/docs, webhooks, 2026-09)."""
    return hmac.new(secret.encode(), timestamp.encode() + b"," + body, hashlib.sha256).hexdigest()


def verify(secret: str, headers: Mapping[str, str], body: bytes, now: float) -> None:
    """Check a callback's signature and age. Raises ProviderError INVALID_REQUEST or AUTH."""
    parts = [part.strip().partition("=") for part in header(headers, "X-OpenRouter-Signature").split(",")]
    timestamp = next((value for name, _, value in parts if name == "t"), "")
    require_fresh(timestamp, now)
    expected = sign(secret, timestamp, body).encode()
    if not any(name == "v1" and hmac.compare_digest(expected, value.encode()) for name, _, value in parts):
        raise ProviderError(ErrorCode.AUTH, "the callback's signature is wrong")


def read_callback(body: bytes) -> Callback:
    """A doorbell's event, `<job>-<status>`: what `X-OpenRouter-Idempotency-Key` says too, but the signature covers
    the body alone. Raises ProviderError(INVALID_REQUEST)."""
    try:
        event = json.loads(body)
        kind, job, status = event["type"], event["data"]["id"], event["data"]["status"]
        if not all(isinstance(each, str) for each in (kind, job, status)) or not kind.startswith("video.generation."):
            raise ValueError("not about a video")
        operation = Operation(job)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ProviderError(ErrorCode.INVALID_REQUEST, "the callback is not OpenRouter's") from error
    return Callback(f"{operation.id}-{status[:50]}", operation.id)
