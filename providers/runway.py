"""Runway: one API for its own models and for several others'.

    POST   /v1/text_to_video   200 {"id", "estimatedCost": {"credits"}}
    GET    /v1/tasks/{id}      200 {"status", "progress", "output": [url], "cost": {"credits"}, "failure",
                               "failureCode"}
    DELETE /v1/tasks/{id}      204: cancelled, or deleted if it had ended

With a picture it is /v1/image_to_video. With `Authorization: Bearer` and `X-Runway-Version`. No callbacks, no
idempotency key, no list of tasks, and no place for our token: an unknown submit cannot be cleared up by itself.
Sources: types and texts of the SDK 5.24.0 (read 2026-11-22); docs.dev.runwayml.com, "HTTP Errors", "Handle Task
Failures" and "Inputs" (stored copies of 2026).
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any
from urllib.parse import quote, urlsplit

from providers.base import (
    Audio,
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
    Rejected,
    Stop,
    SubmitContext,
    SubmitResult,
    VideoRequest,
)
from providers.catalogue import load_catalogue, load_native
from providers.options import address, only, required
from providers.wire import Call, Clients, call_json, download, error_of, looks_refused, merged, submit_once, with_code

URL = "https://api.dev.runwayml.com"
VERSION = "2024-11-06"

RESERVED = frozenset(
    {"model", "promptText", "promptImage", "ratio", "resolution", "duration", "seed", "audio", "negativePrompt"}
    | {"outputFormat", "proresProfile", "draft", "providerSettings"}
)
"""What we set, and what changes the price: other formats cost more per second, drafts and multi-shot have a price and a
length of their own (SDK 5.24.0)."""

MICROS_PER_CREDIT = 10_000
"""A credit is $0.01 (docs.dev.runwayml.com, pricing, 2026)."""
MAX_DATA_URI = 5 * 1024 * 1024
MAX_IMAGE_URL = 2048
PICTURES = ("image/jpeg", "image/jpg", "image/png", "image/webp")
USUAL_SHAPE, USUAL_RESOLUTION = "16:9", "720p"

_PHASES = {
    "PENDING": Phase.QUEUED,
    "THROTTLED": Phase.QUEUED,
    "RUNNING": Phase.RUNNING,
    "SUCCEEDED": Phase.SUCCEEDED,
    "FAILED": Phase.FAILED,
    "CANCELLED": Phase.CANCELLED,
    "CANCELED": Phase.CANCELLED,
}
_MOST_CREDITS = 1e9


class Runway:
    """Runway over HTTP, at `url`, with a key of its developer portal."""

    name = "runway"

    def __init__(self, clients: Clients, *, api_key: str, url: str = URL) -> None:
        self._clients, self._base = clients, url.rstrip("/")
        self._headers = {"authorization": f"Bearer {api_key}", "x-runway-version": VERSION}
        self.capabilities = Capabilities(catalogue=load_catalogue(self.name), cancel=True, reserved=RESERVED)

    @classmethod
    def from_options(cls, clients: Clients, options: Mapping[str, str]) -> Runway:
        """Make one from the texts `api_key` and, if it is elsewhere, `url`.

        Raises NotConfigured without a key, ValueError for options that are unknown or wrong.
        """
        only("runway", options, "api_key", "url")
        (api_key,) = required("runway", options, "api_key")
        return cls(clients, api_key=api_key, url=address("runway", options, "url", URL))

    async def submit(self, request: VideoRequest, context: SubmitContext) -> SubmitResult:
        """See `Provider.submit`; what Runway would surely refuse is not sent."""
        try:
            call = build_submit(self._base, self._headers, request)
        except ProviderError as error:
            return Rejected(error)
        return await submit_once(self._clients.submit, call, read=read_submitted, read_error=read_error)

    async def poll(self, operation: Operation) -> ProviderStatus:
        """See `Provider.poll`; a task that was cancelled or deleted may be NOT_FOUND afterwards."""
        call = Call("GET", self._task(operation), self._headers)
        return read_status((await call_json(self._clients.calls, call, read_error=read_error)).document())

    async def cancel(self, operation: Operation) -> Stop:
        """See `Provider.cancel`. A task that has ended is left alone: DELETE would take its video away.

        Only the task's final cost tells whether it was charged: "a prior GET response reporting PENDING or THROTTLED
        does not guarantee a refund" (SDK 5.24.0, tasks.delete).
        """
        standing = await self.poll(operation)
        if standing.phase not in {Phase.QUEUED, Phase.RUNNING}:
            return Stop(standing.phase is not Phase.SUCCEEDED, _billed(standing))
        call = Call("DELETE", self._task(operation), self._headers)
        try:
            await call_json(self._clients.calls, call, read_error=read_error, empty=True)
        except ProviderError as error:
            if error.code is not ErrorCode.NOT_FOUND:
                raise
        try:
            return Stop(True, _billed(await self.poll(operation)))
        except ProviderError:
            return Stop(True, None)

    async def lookup(self, token: str) -> Operation | None:
        """Never asked: there is no list of tasks. Raises ProviderError(INVALID_REQUEST)."""
        raise ProviderError(ErrorCode.INVALID_REQUEST, "runway lists no tasks")

    def download(self, output: Output) -> AbstractAsyncContextManager[Download]:
        """See `Provider.download`; the links are signed and need no key."""
        return download(self._clients.fetch, output.url)

    async def read_callback(self, headers: Mapping[str, str], body: bytes, now: float) -> Callback:
        """Raises ProviderError(INVALID_REQUEST): Runway rings nobody."""
        raise ProviderError(ErrorCode.INVALID_REQUEST, "runway sends no callbacks")

    def _task(self, operation: Operation) -> str:
        return f"{self._base}/v1/tasks/{quote(operation.id, safe='')}"


def _billed(standing: ProviderStatus) -> bool | None:
    """What the task's cost says, else what its failure does."""
    if standing.cost_micros is None:
        return standing.error.billed if standing.error else None
    return standing.cost_micros > 0


def build_submit(base_url: str, headers: Mapping[str, str], request: VideoRequest) -> Call:
    """The paid call. Raises ProviderError(INVALID_REQUEST, not billed) for what Runway would surely refuse."""
    path = "text_to_video" if request.image is None else "image_to_video"
    return Call("POST", f"{base_url}/v1/{path}", headers, merged(build_body(request), request.extra))


def build_body(request: VideoRequest) -> dict[str, Any]:
    """The body without `extra`; what is None is left to Runway. Raises as `build_submit` does."""
    catalogue = load_catalogue("runway")
    name = request.model or catalogue.default_model
    model = catalogue.models.get(name)
    if model is not None and utf16_units(request.prompt) > model.max_prompt:
        raise _invalid(f"the prompt has more than {model.max_prompt} UTF-16 units")
    asked = {
        "model": name,
        "promptText": request.prompt or None,
        "promptImage": _pictures(request),
        **build_shape(name, request),
        "duration": request.duration,
        "seed": request.seed,
        "audio": request.audio if model is None or model.audio is Audio.OPTIONAL else None,
        "negativePrompt": request.negative_prompt,
    }
    return {member: value for member, value in asked.items() if value is not None}


def build_shape(model: str, request: VideoRequest) -> dict[str, str | None]:
    """`ratio`, which is size and shape in one word for most models. Raises as `build_submit` does."""
    native = load_native("runway")
    if model in native["plain"]:
        usual = USUAL_SHAPE if request.image is None else None
        return {"ratio": request.aspect_ratio or usual, "resolution": request.resolution}
    if model not in load_catalogue("runway").models and not (request.aspect_ratio or request.resolution):
        return {}
    sizes = ratios(model, with_image=request.image is not None)
    shapes = sizes.get(request.resolution or USUAL_RESOLUTION, {})
    ratio = shapes.get(request.aspect_ratio or USUAL_SHAPE)
    if ratio is None:
        offered = ", ".join(f"{shape} in {size}" for size, shapes in sizes.items() for shape in shapes)
        kind = "from a picture" if request.image else "from text alone"
        raise _invalid(f"{model} makes no such shape {kind}, but: {offered}")
    return {"ratio": ratio}


def ratios(model: str, *, with_image: bool) -> Mapping[str, Mapping[str, str]]:
    """Runway's `ratio` by resolution and aspect ratio."""
    native = load_native("runway")
    tables = native["ratios"].get(native["same_ratios"].get(model, model), native["ratios"]["*"])
    found: Mapping[str, Mapping[str, str]] = tables.get("image", tables["text"]) if with_image else tables["text"]
    return found


def utf16_units(text: str) -> int:
    """How long Runway thinks that a text is."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _pictures(request: VideoRequest) -> str | list[dict[str, str]] | None:
    if request.image is None:
        if request.last_image is not None:
            raise _invalid("a last picture needs a first one")
        return None
    first = picture_uri(request.image)
    if request.last_image is None:
        return first
    return [{"uri": first, "position": "first"}, {"uri": picture_uri(request.last_image), "position": "last"}]


def picture_uri(media: Media) -> str:
    """A picture as Runway takes it. Raises as `build_submit` does.

    Source of the rules: docs.dev.runwayml.com, "Inputs" (stored copy of 2026): https with a domain name, at most 2,048
    characters, or a data URI below 5 MiB; JPEG, PNG or WebP.
    """
    if media.data is None:
        return _checked_url(media.url or "")
    if media.mime_type not in PICTURES:
        raise _invalid(f"a picture must be one of {', '.join(PICTURES)}")
    uri = f"data:{media.mime_type};base64,{base64.b64encode(media.data).decode()}"
    if len(uri) >= MAX_DATA_URI:
        raise _invalid("a picture given as bytes must stay below 5 MB as base64: give its address instead")
    return uri


def _checked_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        raise _invalid("the picture's address is none") from None
    if parts.scheme != "https" or not host or len(url) > MAX_IMAGE_URL:
        raise _invalid(f"a picture's address must be https and at most {MAX_IMAGE_URL} characters long")
    if _is_ip(host):
        raise _invalid("a picture's address must name a domain, not an IP address")
    return url


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _invalid(message: str) -> ProviderError:
    return ProviderError(ErrorCode.INVALID_REQUEST, message, billed=False)


def read_submitted(status: int, headers: Mapping[str, str], body: Any) -> Operation:
    """The task of an accepting answer. Raises ValueError when it names none."""
    task_id = body.get("id") if isinstance(body, dict) else None
    if not isinstance(task_id, str):
        raise ValueError("the answer names no task")
    return Operation(task_id)


def read_status(body: Mapping[str, Any]) -> ProviderStatus:
    """A poll's answer. Raises ProviderError(UNREADABLE) for a missing status, or success without a file."""
    word = body.get("status")
    if not isinstance(word, str):
        raise ProviderError(ErrorCode.UNREADABLE, "the answer has no status")
    phase = _PHASES.get(word, Phase.RUNNING)
    cost = read_cost(body.get("cost"))
    return ProviderStatus(
        phase=phase,
        progress=_progress(body.get("progress")),
        outputs=_outputs(body.get("output")) if phase is Phase.SUCCEEDED else (),
        error=read_failure(body, cost) if phase is Phase.FAILED else None,
        cost_micros=cost,
        unknown_status=None if word in _PHASES else word[:100],
    )


def read_cost(cost: object) -> int | None:
    """Micro-USD of `{"credits"}`: "fully refunded tasks report 0" (SDK 5.24.0); None for anything else."""
    spent = cost.get("credits") if isinstance(cost, dict) else None
    if isinstance(spent, bool) or not isinstance(spent, int | float) or not 0 <= spent < _MOST_CREDITS:
        return None
    return round(spent * MICROS_PER_CREDIT)


def _progress(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        return None
    return float(value)


def _outputs(urls: object) -> tuple[Output, ...]:
    try:
        outputs = tuple(Output(url, mime_type="video/mp4") for url in urls) if isinstance(urls, list) else ()
    except (ValueError, AttributeError, TypeError) as error:
        raise ProviderError(ErrorCode.UNREADABLE, "the task succeeded with a file that has no address") from error
    if not outputs:
        raise ProviderError(ErrorCode.UNREADABLE, "the task succeeded without a file")
    return outputs


def read_failure(body: Mapping[str, Any], cost: int | None) -> ProviderError:
    """Why a task failed, by its code. What it cost is known where Runway says so.

    Sources: docs.dev.runwayml.com, "Handle Task Failures" (stored copy of 2026): SAFETY.* is never to be tried again,
    INTERNAL* may be; Runway's API reference for agents (2026-04-21): SAFETY.INPUT.* is not refunded. A task is
    submitted anew only where the answer itself reports that it cost nothing (SDK 5.24.0: `cost`).
    """
    code, text = body.get("failureCode"), body.get("failure")
    code = code if isinstance(code, str) else ""
    message = text if isinstance(text, str) and text else "the task failed without a reason"
    kind = _failure_kind(code.split("."), message)
    billed = True if cost is None and code.startswith("SAFETY.INPUT") else None
    return ProviderError(
        kind,
        message,
        provider_code=code or None,
        billed=billed if cost is None else cost > 0,
        resubmit=kind is ErrorCode.TRANSIENT and code.startswith("INTERNAL") and cost == 0,
    )


def _failure_kind(words: list[str], message: str) -> ErrorCode:
    if "SAFETY" in words or (words == [""] and looks_refused(message)):
        return ErrorCode.MODERATION
    if "INTERNAL" in words:
        return ErrorCode.TRANSIENT
    if words[0] in {"ASSET", "INPUT_PREPROCESSING"}:
        return ErrorCode.INVALID_REQUEST
    return ErrorCode.PROVIDER_ERROR


def read_error(status: int, headers: Mapping[str, str], body: Any) -> ProviderError:
    """A refused call: the status, and its text where several things share one.

    An empty account is a 400 that speaks of credits (the SDK's issue 28, 2024-10); a full day is a 429.
    """
    error = error_of(status, headers, body)
    words = " ".join([error.message, *_issues(body)])
    error = ProviderError(error.code, words, provider_code=error.provider_code, http_status=status)
    said = words.lower()
    if status in {400, 403} and "credits" in said:
        return with_code(error, ErrorCode.QUOTA)
    if status == 429 and any(word in said for word in ("daily", "per day", "24 hours", "24-hour", "monthly")):
        return with_code(error, ErrorCode.QUOTA)
    if status in {400, 403, 422} and looks_refused(words):
        return with_code(error, ErrorCode.MODERATION)
    return error


def _issues(body: Any) -> list[str]:
    """The first members that a 400 complains of."""
    issues = body.get("issues") if isinstance(body, dict) else None
    found = [issue for issue in issues[:3] if isinstance(issue, dict)] if isinstance(issues, list) else []
    return [f"{issue.get('path')}: {issue.get('message')}"[:200] for issue in found]
