"""The mock's native dialect from the client's side: requests as values, answers as values. Pure."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from providers.base import (
    Callback,
    ErrorCode,
    Media,
    Operation,
    Output,
    Phase,
    ProviderError,
    ProviderStatus,
    Stop,
    SubmitContext,
    VideoRequest,
)
from providers.wire import Call, error_of, merged, with_code

RESERVED = frozenset(
    {"prompt", "model", "duration", "aspect_ratio", "resolution", "seed", "audio", "negative_prompt", "image"}
    | {"last_image", "reference", "callback_url"}
)

_CODES = {
    "moderation": ErrorCode.MODERATION,
    "internal": ErrorCode.TRANSIENT,
}


def build_submit(
    base_url: str, headers: Mapping[str, str], recovery: str, request: VideoRequest, context: SubmitContext
) -> Call:
    """The paid call; our token travels in the place that `recovery` names, and nowhere else."""
    names = ("model", "duration", "aspect_ratio", "resolution", "seed", "audio", "negative_prompt")
    asked = {"prompt": request.prompt, **{name: getattr(request, name) for name in names}}
    asked["image"] = _image(request.image) if request.image else None
    asked["last_image"] = _image(request.last_image) if request.last_image else None
    asked["reference"] = context.token if recovery == "lookup" else None
    asked["callback_url"] = context.callback_url if recovery == "callback" else None
    body = {name: value for name, value in asked.items() if value is not None}
    key = {"idempotency-key": context.token} if recovery == "key" else {}
    return Call("POST", f"{base_url}/v1/videos", {**headers, **key}, merged(body, request.extra))


def _image(image: Media) -> dict[str, str | None]:
    if image.data is None:
        return {"url": image.url}
    return {"data_base64": base64.b64encode(image.data).decode(), "mime_type": image.mime_type}


def read_submitted(status: int, headers: Mapping[str, str], body: object) -> Operation:
    """The operation of an accepting answer. Raises ValueError when it names none."""
    work_id = body.get("id") if isinstance(body, dict) else None
    if not isinstance(work_id, str) or not work_id:
        raise ValueError("the answer names no video")
    return Operation(work_id)


def read_found(body: Mapping[str, Any]) -> Operation | None:
    """The first operation of a lookup. Raises ProviderError(UNREADABLE)."""
    videos = body.get("videos")
    if not isinstance(videos, list):
        raise ProviderError(ErrorCode.UNREADABLE, "the lookup's answer has no list of videos")
    try:
        return read_submitted(200, {}, videos[0]) if videos else None
    except ValueError as error:
        raise ProviderError(ErrorCode.UNREADABLE, str(error)) from error


def read_status(body: Mapping[str, Any]) -> ProviderStatus:
    """A poll's answer. Raises ProviderError(UNREADABLE) for a missing status, or success without a file."""
    word = body.get("status")
    if not isinstance(word, str):
        raise ProviderError(ErrorCode.UNREADABLE, "the answer has no status")
    phase = Phase(word) if word in set(Phase) else Phase.RUNNING
    return ProviderStatus(
        phase=phase,
        progress=_number(body.get("progress")),
        outputs=(_output(body.get("output")),) if phase is Phase.SUCCEEDED else (),
        error=_failure(body.get("error")) if phase is Phase.FAILED else None,
        cost_micros=cost if isinstance(cost := body.get("cost_micros"), int) else None,
        unknown_status=None if word in set(Phase) else word[:100],
    )


def read_stopped(body: Mapping[str, Any]) -> Stop:
    """What a cancel came to: what was still queued is refunded (`providers.mock.dialects.native`, 2026-11)."""
    stopped, cost = body.get("status") in ("cancelled", "failed"), body.get("cost_micros")
    return Stop(stopped, bool(cost) if stopped and isinstance(cost, int) else None)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _output(output: object) -> Output:
    if not isinstance(output, dict) or not isinstance(output.get("url"), str):
        raise ProviderError(ErrorCode.UNREADABLE, "the video succeeded without a file")
    mime_type = output.get("mime_type")
    return Output(
        url=output["url"],
        mime_type=mime_type if isinstance(mime_type, str) else None,
        expires_at=_number(output.get("expires_at")),
    )


def _failure(error: object) -> ProviderError:
    """A final failure. Source: `providers.mock.plan`, 2026-11: both kinds are refunded, `internal` is chance."""
    code = str(error.get("code")) if isinstance(error, dict) else "unknown"
    message = str(error.get("message")) if isinstance(error, dict) else "the video failed without a reason"
    known = code in {"moderation", "internal"}
    return ProviderError(
        _CODES.get(code, ErrorCode.PROVIDER_ERROR),
        message,
        provider_code=code,
        billed=False if known else None,
        resubmit=code == "internal",
    )


def read_error(status: int, headers: Mapping[str, str], body: object) -> ProviderError:
    """A refused call: the status tells enough, but for moderation; the envelope adds code and sentence."""
    error = error_of(status, headers, body)
    return with_code(error, ErrorCode.MODERATION) if error.provider_code == "moderation" else error


def read_callback(body: bytes) -> Callback:
    """A doorbell's event. Raises ProviderError(INVALID_REQUEST)."""
    try:
        parsed = json.loads(body)
        event_id, work_id = parsed["event_id"], parsed["id"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ProviderError(ErrorCode.INVALID_REQUEST, "the callback is not the mock's") from error
    if not (isinstance(event_id, str) and isinstance(work_id, str) and event_id):
        raise ProviderError(ErrorCode.INVALID_REQUEST, "the callback is not the mock's")
    return Callback(event_id, work_id)
