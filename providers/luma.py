"""Luma, its Agents API.

    POST /generations        201 {"id", "state", ...}
    GET  /generations/{id}   200 {"state", "output": [{"type", "url"}], "failure_code", "failure_reason"}

With `Authorization: Bearer`. Our token travels as `user_id`, but generations cannot be listed: an unknown submit cannot
be cleared up by itself. No cancel, no callbacks, no cost in the answers. Links live for an hour; that a poll gives
fresh ones is uncertain. Sources: types and texts of the SDK 0.5.0 (read 2026-11-22); docs.agents.lumalabs.ai, "Error
handling" and "Rate limits and headers" (stored copies of 2026, API version 2026-04-01).
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any
from urllib.parse import quote

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
    Stop,
    SubmitContext,
    SubmitResult,
    VideoRequest,
)
from providers.catalogue import load_catalogue
from providers.options import address, only, required
from providers.wire import Call, Clients, call_json, download, error_of, looks_refused, merged, submit_once, with_code

URL = "https://agents.lumalabs.ai/v1"

RESERVED = frozenset(
    {"model", "type", "prompt", "aspect_ratio", "user_id", "source", "layering", "web_search"}
    | {f"video.{name}" for name in ("duration", "resolution", "hdr", "exr_export", "edit", "source_position")}
    | {f"video.{name}" for name in ("start_frame", "end_frame", "keyframes", "keyframe_indexes")}
)
"""What we set, and what changes the price or makes something else of the request: HDR, EXR, edits, web search."""

FRAMES_A_SECOND = 24
"""The grid of `keyframe_indexes`: 5 s are 0 to 120, 10 s are 0 to 240 (SDK 0.5.0)."""
ANCHORED_SECONDS = 5
"""The only length with `start_frame` and `end_frame`; keyframes do the same at any (SDK 0.5.0)."""

_PHASES = {
    "queued": Phase.QUEUED,
    "processing": Phase.RUNNING,
    "completed": Phase.SUCCEEDED,
    "failed": Phase.FAILED,
}

_FAILURES = {
    "content_moderated": ErrorCode.MODERATION,
    "generation_failed": ErrorCode.TRANSIENT,
    "budget_exhausted": ErrorCode.QUOTA,
    "output_not_found": ErrorCode.NOT_FOUND,
    "image_too_large": ErrorCode.INVALID_REQUEST,
    "unsupported_format": ErrorCode.INVALID_REQUEST,
    "corrupt_input": ErrorCode.INVALID_REQUEST,
    "invalid_request": ErrorCode.INVALID_REQUEST,
    "rate_limited": ErrorCode.RATE_LIMITED,
}
"""The whole list of the SDK 0.5.0."""


class Luma:
    """Luma over HTTP, at `url` (which ends with the version), with a key of its platform."""

    name = "luma"

    def __init__(self, clients: Clients, *, api_key: str, url: str = URL) -> None:
        self._clients, self._base = clients, url.rstrip("/")
        self._headers = {"authorization": f"Bearer {api_key}"}
        self.capabilities = Capabilities(catalogue=load_catalogue(self.name), reserved=RESERVED)

    @classmethod
    def from_options(cls, clients: Clients, options: Mapping[str, str]) -> Luma:
        """Make one from the texts `api_key` and, if it is elsewhere, `url`.

        Raises NotConfigured without a key, ValueError for options that are unknown or wrong.
        """
        only("luma", options, "api_key", "url")
        (api_key,) = required("luma", options, "api_key")
        return cls(clients, api_key=api_key, url=address("luma", options, "url", URL))

    async def submit(self, request: VideoRequest, context: SubmitContext) -> SubmitResult:
        """See `Provider.submit`."""
        call = build_submit(self._base, self._headers, request, context)
        return await submit_once(self._clients.submit, call, read=read_submitted, read_error=read_error)

    async def poll(self, operation: Operation) -> ProviderStatus:
        """See `Provider.poll`."""
        call = Call("GET", f"{self._base}/generations/{quote(operation.id, safe='')}", self._headers)
        return read_status((await call_json(self._clients.calls, call, read_error=read_error)).document())

    async def cancel(self, operation: Operation) -> Stop:
        """Never asked: nothing can be cancelled, so that it goes on and is charged as it will be."""
        return Stop(False)

    async def lookup(self, token: str) -> Operation | None:
        """Never asked: there is no list of generations. Raises ProviderError(INVALID_REQUEST)."""
        raise ProviderError(ErrorCode.INVALID_REQUEST, "luma lists no generations")

    def download(self, output: Output) -> AbstractAsyncContextManager[Download]:
        """See `Provider.download`; the links are signed and need no key."""
        return download(self._clients.fetch, output.url)

    async def read_callback(self, headers: Mapping[str, str], body: bytes, now: float) -> Callback:
        """Raises ProviderError(INVALID_REQUEST): Luma rings nobody."""
        raise ProviderError(ErrorCode.INVALID_REQUEST, "luma sends no callbacks")


def build_submit(base_url: str, headers: Mapping[str, str], request: VideoRequest, context: SubmitContext) -> Call:
    """The paid call."""
    body = merged(build_body(request, context.token), request.extra)
    return Call("POST", f"{base_url}/generations", headers, body)


def build_body(request: VideoRequest, token: str) -> dict[str, Any]:
    """The body without `extra`; what is None is left to Luma. It makes one video of a request, and has no count."""
    video = {
        "duration": None if request.duration is None else f"{request.duration}s",
        "resolution": request.resolution,
        **build_frames(request),
    }
    asked = {
        "model": request.model,
        "type": "video",
        "prompt": request.prompt,
        "aspect_ratio": request.aspect_ratio,
        "user_id": token,
        "video": _given(video),
    }
    return _given(asked)


def build_frames(request: VideoRequest) -> dict[str, Any]:
    """The first and the last picture: by name for 5 s, as keyframes for longer ones."""
    first, last = _media(request.image), _media(request.last_image)
    seconds = request.duration or ANCHORED_SECONDS
    if seconds <= ANCHORED_SECONDS:
        return {"start_frame": first, "end_frame": last}
    placed = {0: first, seconds * FRAMES_A_SECOND: last}
    anchors = {index: picture for index, picture in placed.items() if picture is not None}
    return {"keyframes": list(anchors.values()), "keyframe_indexes": list(anchors)} if anchors else {}


def _given(members: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


def _media(media: Media | None) -> dict[str, str] | None:
    if media is None:
        return None
    if media.data is None:
        return {"url": media.url or ""}
    return {"data": base64.b64encode(media.data).decode(), "media_type": media.mime_type or "image/png"}


def read_submitted(status: int, headers: Mapping[str, str], body: Any) -> Operation:
    """The generation of an accepting answer. Raises ValueError when it names none."""
    generation_id = body.get("id") if isinstance(body, dict) else None
    if not isinstance(generation_id, str):
        raise ValueError("the answer names no generation")
    return Operation(generation_id)


def read_status(body: Mapping[str, Any]) -> ProviderStatus:
    """A poll's answer. Raises ProviderError(UNREADABLE) for a missing state, or success without a video."""
    word = body.get("state")
    if not isinstance(word, str):
        raise ProviderError(ErrorCode.UNREADABLE, "the answer has no state")
    phase = _PHASES.get(word, Phase.RUNNING)
    return ProviderStatus(
        phase=phase,
        outputs=_outputs(body.get("output")) if phase is Phase.SUCCEEDED else (),
        error=read_failure(body.get("failure_code"), body.get("failure_reason")) if phase is Phase.FAILED else None,
        unknown_status=None if word in _PHASES else word[:100],
    )


def _outputs(listed: object) -> tuple[Output, ...]:
    found = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    urls = [each.get("url") for each in found if each.get("type") in ("video", None)]
    try:
        outputs = tuple(Output(url, mime_type="video/mp4") for url in urls if isinstance(url, str))
    except ValueError as error:
        raise ProviderError(ErrorCode.UNREADABLE, "the generation succeeded with a video without address") from error
    if not outputs:
        raise ProviderError(ErrorCode.UNREADABLE, "the generation succeeded without a video")
    return outputs


def read_failure(code: object, reason: object) -> ProviderError:
    """Why a generation failed, by its code. Nothing in what was read says which failures are charged: the bill is
    unknown, and nothing is submitted anew."""
    message = reason if isinstance(reason, str) and reason else "the generation failed without a reason"
    known = _FAILURES.get(code) if isinstance(code, str) else None
    refused = ErrorCode.MODERATION if looks_refused(message) else ErrorCode.PROVIDER_ERROR
    return ProviderError(known or refused, message, provider_code=code if isinstance(code, str) else None)


def read_error(status: int, headers: Mapping[str, str], body: Any) -> ProviderError:
    """A refused call: the status is "the primary machine-readable identifier", `detail` says more (texts or a list)."""
    error = error_of(status, headers, body)
    detail = _detail(body)
    if detail:
        error = ProviderError(error.code, detail, http_status=status)
    return with_code(error, ErrorCode.MODERATION) if status in {400, 422} and looks_refused(detail) else error


def _detail(body: Any) -> str:
    detail = body.get("detail") if isinstance(body, dict) else None
    if isinstance(detail, list):
        found = [each for each in detail[:3] if isinstance(each, dict)]
        return "; ".join(f"{each.get('loc')}: {each.get('msg')}"[:200] for each in found)
    return detail if isinstance(detail, str) else ""
