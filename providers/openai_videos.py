"""The `/v1/videos` dialect: OpenAI's Videos API as gateways still serve it, at an address that must be given.

    POST {url}/videos                multipart: prompt, model, seconds, size, file input_reference -> {"id", "status"}
    GET  {url}/videos/{id}           {"status", "progress", "error", "expires_at", ...}
    GET  {url}/videos/{id}/content   the file, with the key

Sources: the official client `openai` 3.54.0 (types, and requests measured on 2026-11-24: it sends multipart always);
OpenAI's own service ended on 2026-09-24 (its model page). There is no cancel (DELETE is for finished videos), no
callback per request, no idempotency key, and no member that keeps our token, so the list of videos is no lookup.
The dialect has no seed, no negative prompt, no sound switch and no last picture, and a picture by URL is not known to
be taken beside multipart: what it has no word for is refused before anything is sent, and can be given as `extra`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any
from urllib.parse import quote, urlsplit

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
    Rejected,
    Stop,
    SubmitContext,
    SubmitResult,
    VideoRequest,
)
from providers.catalogue import load_catalogue, load_native
from providers.options import address, only, required
from providers.wire import Call, Clients, call_json, download, error_of, looks_refused, merged, submit_once, with_code
from providers.wire.errors import envelope

NAME = "openai_videos"

RESERVED = frozenset({"prompt", "model", "seconds", "size"})

_PHASES = {
    "queued": Phase.QUEUED,
    "in_progress": Phase.RUNNING,
    "completed": Phase.SUCCEEDED,
    "failed": Phase.FAILED,
}

_CODES = {
    "moderation_blocked": ErrorCode.MODERATION,
    "sentinel_block": ErrorCode.MODERATION,
    "content_policy_violation": ErrorCode.MODERATION,
    "insufficient_quota": ErrorCode.QUOTA,
    "billing_hard_limit_reached": ErrorCode.QUOTA,
    "invalid_api_key": ErrorCode.AUTH,
    "model_not_found": ErrorCode.NOT_FOUND,
    "rate_limit_exceeded": ErrorCode.RATE_LIMITED,
}
"""Members `code` and `type` of an error: several gateways' notes of 2026, and OpenAI's API reference."""

_FIELD = re.compile(r"[A-Za-z0-9_]+")
_SHORT_SIDES = {"2k": 1440, "4k": 2160}
_ENDINGS = {"image/jpeg": "jpg", "image/webp": "webp"}


class OpenAIVideos:
    """A gateway over HTTP.

    Args:
        clients: the HTTP clients.
        api_key: the gateway's key.
        url: its API, up to and with `/v1`.
    """

    name = NAME

    def __init__(self, clients: Clients, *, api_key: str, url: str) -> None:
        self._clients, self._base = clients, url.rstrip("/")
        self._headers = {"authorization": f"Bearer {api_key}"}
        self.capabilities = Capabilities(catalogue=load_catalogue(NAME), reserved=RESERVED)

    @classmethod
    def from_options(cls, clients: Clients, options: Mapping[str, str]) -> OpenAIVideos:
        """Make one from texts, named as the arguments of the class are. Raises NotConfigured without both, ValueError
        for an option that is unknown or an address that is none."""
        only(NAME, options, "api_key", "url")
        api_key, url = required(NAME, options, "api_key", "url")
        return cls(clients, api_key=api_key, url=address(NAME, options, "url", url))

    async def submit(self, request: VideoRequest, context: SubmitContext) -> SubmitResult:
        """See `Provider.submit`. What the dialect has no word for is Rejected, and nothing is sent."""
        lost = list(unspoken(request, known=request.model in self.capabilities.catalogue.models))
        if lost:
            words = f"nothing was sent: the /v1/videos dialect has no word for {', '.join(lost)}"
            return Rejected(ProviderError(ErrorCode.INVALID_REQUEST, words, billed=False))
        try:
            call = build_submit(self._base, self._headers, request)
        except ProviderError as error:
            return Rejected(error)
        return await submit_once(
            self._clients.submit, call, read=lambda _, __, body: read_submitted(body, request), read_error=read_error
        )

    async def poll(self, operation: Operation) -> ProviderStatus:
        """See `Provider.poll`."""
        call = Call("GET", video_url(self._base, operation), self._headers)
        answer = await call_json(self._clients.calls, call, read_error=read_error)
        return read_status(answer.document(), self._base, operation)

    async def cancel(self, operation: Operation) -> Stop:
        """There is no cancel (official client 3.54.0). Raises ProviderError(INVALID_REQUEST)."""
        raise ProviderError(ErrorCode.INVALID_REQUEST, f"{NAME} cannot be asked to stop")

    async def lookup(self, token: str) -> Operation | None:
        """Nothing of ours is kept (official client 3.54.0, types). Raises ProviderError(INVALID_REQUEST)."""
        raise ProviderError(ErrorCode.INVALID_REQUEST, f"{NAME} cannot be asked for a token")

    def download(self, output: Output) -> AbstractAsyncContextManager[Download]:
        """See `Provider.download`; the key is sent to the gateway only."""
        parts = urlsplit(self._base)
        keys = {f"{parts.scheme}://{parts.netloc}": self._headers} if output.authenticated else {}
        return download(self._clients.fetch, output.url, headers_for_origin=keys)

    async def read_callback(self, headers: Mapping[str, str], body: bytes, now: float) -> Callback:
        """There are no callbacks. Raises ProviderError(INVALID_REQUEST)."""
        raise ProviderError(ErrorCode.INVALID_REQUEST, f"{NAME} sends no callbacks")


def video_url(base: str, operation: Operation) -> str:
    """Where a video is asked after."""
    return f"{base}/videos/{quote(operation.id, safe='')}"


def unspoken(request: VideoRequest, *, known: bool) -> Iterator[str]:
    """What of a request the dialect cannot say. Sound is only ever what a model that the catalogue knows makes."""
    image = request.image
    lost = {
        "a seed": request.seed is not None,
        "a negative prompt": request.negative_prompt is not None,
        "sound on or off": request.audio is not None and not known,
        "a picture by URL (give its bytes)": image is not None and image.data is None,
        "a last picture": request.last_image is not None,
        "two first pictures": image is not None and "input_reference" in request.extra,
        f"{request.aspect_ratio} at {request.resolution}": _shaped(request) and size_of(request) is None,
        "members of extra whose names are not made of letters, digits and _": _oddly_named(request.extra),
    }
    return (name for name, asked in lost.items() if asked)


def _shaped(request: VideoRequest) -> bool:
    return request.aspect_ratio is not None or request.resolution is not None


def _oddly_named(value: object) -> bool:
    """In a form `a[b]` means `{"a": {"b": ...}}`, and a member without a name is what is in it: such names could get
    around what is reserved."""
    if isinstance(value, Mapping):
        return any(not _FIELD.fullmatch(name) or _oddly_named(below) for name, below in value.items())
    return isinstance(value, list) and any(map(_oddly_named, value))


def build_submit(base: str, headers: Mapping[str, str], request: VideoRequest) -> Call:
    """The paid call, as the official client sends it: one part per member, nested ones with brackets.

    Raises ProviderError(INVALID_REQUEST) where `extra` would say one of our members a second time.
    """
    asked = {
        "prompt": request.prompt,
        "model": request.model,
        "seconds": None if request.duration is None else str(request.duration),
        "size": size_of(request),
    }
    body = merged({name: text for name, text in asked.items() if text is not None}, request.extra)
    form: dict[str, list[str]] = {}
    for name, text in _fields(body):
        form.setdefault(name, []).append(text)
    files = {"input_reference": _file(request.image)} if request.image else {}
    if any(len(form.get(name, ())) > 1 for name in asked) or files.keys() & form.keys():
        raise ProviderError(ErrorCode.INVALID_REQUEST, "nothing was sent: extra repeats what is asked", billed=False)
    return Call("POST", f"{base}/videos", headers, form=form, files=files)


def _fields(value: object, name: str = "") -> Iterator[tuple[str, str]]:
    """The parts of a form: `a[b]` for objects, `a[]` for lists, nothing for null (official client 3.54.0, measured)."""
    if isinstance(value, Mapping):
        for key, below in value.items():
            yield from _fields(below, f"{name}[{key}]" if name else key)
    elif isinstance(value, list):
        for below in value:
            yield from _fields(below, f"{name}[]")
    elif isinstance(value, bool):
        yield name, "true" if value else "false"
    elif value is not None:
        yield name, str(value)


def _file(image: Media) -> tuple[str, bytes, str]:
    mime_type = image.mime_type or "image/png"
    return f"picture.{_ENDINGS.get(mime_type, 'png')}", image.data or b"", mime_type


def size_of(request: VideoRequest) -> str | None:
    """`1280x720` for 720p at 16:9, and None where neither is asked for or no size follows from them.

    A resolution alone is taken to be 16:9 (left to itself the dialect makes 9:16), a shape alone 720p.
    """
    if not _shaped(request):
        return None
    resolution, shape = request.resolution or "720p", request.aspect_ratio or "16:9"
    special: str | None = load_native(NAME)["sizes"].get(resolution, {}).get(shape)
    sides = re.fullmatch(r"([1-9]\d?):([1-9]\d?)", shape)
    short = _SHORT_SIDES.get(resolution) or _number(re.fullmatch(r"(\d{3,4})p", resolution))
    if special is not None or sides is None or short is None:
        return special
    across, down = int(sides[1]), int(sides[2])
    unit = short / min(across, down)
    return f"{_even(across * unit)}x{_even(down * unit)}"


def _number(found: re.Match[str] | None) -> int | None:
    return int(found[1]) if found else None


def _even(pixels: float) -> int:
    return round(pixels / 2) * 2


def read_submitted(body: object, request: VideoRequest) -> Operation:
    """The video of an accepting answer. Raises ValueError when it names none."""
    video_id = body.get("id") if isinstance(body, dict) else None
    if not isinstance(video_id, str):
        raise ValueError("the answer names no video")
    return Operation(video_id, {"model": request.model})


def read_status(body: Mapping[str, Any], base: str, operation: Operation) -> ProviderStatus:
    """A poll's answer. Raises ProviderError(UNREADABLE) for a missing status."""
    word = body.get("status")
    if not isinstance(word, str):
        raise ProviderError(ErrorCode.UNREADABLE, "the answer has no status")
    phase = _PHASES.get(word, Phase.RUNNING)
    expires_at = _amount(body.get("expires_at"), most=1e11)
    content = f"{video_url(base, operation)}/content"
    return ProviderStatus(
        phase=phase,
        progress=None if (percent := _amount(body.get("progress"), most=100)) is None else percent / 100,
        outputs=(Output(content, True, "video/mp4", expires_at),) if phase is Phase.SUCCEEDED else (),
        error=read_failure(body.get("error")) if phase is Phase.FAILED else None,
        unknown_status=None if word in _PHASES else word[:100],
    )


def _amount(value: object, most: float) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value <= most else None


def read_failure(error: object) -> ProviderError:
    """A final failure, `{"code", "message"}`. What is charged for it no source says."""
    told, message = envelope({"error": error})
    code = _code_of({"error": error})
    if code not in {ErrorCode.MODERATION, ErrorCode.QUOTA}:
        code = ErrorCode.MODERATION if looks_refused(message or "") else ErrorCode.PROVIDER_ERROR
    return ProviderError(code, message or "the video failed without a reason", provider_code=told)


def read_error(status: int, headers: Mapping[str, str], body: object) -> ProviderError:
    """A refused call: `{"error": {"message", "type", "param", "code"}}`; code and type come before the status line."""
    error = error_of(status, headers, body)
    code = _code_of(body)
    if code is None and status in {400, 403, 422} and looks_refused(error.message):
        code = ErrorCode.MODERATION
    return error if code is None else with_code(error, code)


def _code_of(body: object) -> ErrorCode | None:
    inner = body.get("error") if isinstance(body, dict) else None
    told = [inner.get("code"), inner.get("type")] if isinstance(inner, dict) else []
    return next((_CODES[word] for word in told if isinstance(word, str) and word in _CODES), None)
