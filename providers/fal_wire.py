"""fal's queue from the client's side: requests as values, answers as values. Pure. See `providers.fal`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from providers.base import (
    Audio,
    Callback,
    Catalogue,
    ErrorCode,
    Operation,
    Output,
    Phase,
    ProviderError,
    ProviderStatus,
    SubmitContext,
    VideoRequest,
)
from providers.catalogue import load_native, native_of
from providers.wire import Call, error_of, looks_refused, merged, with_code
from providers.wire.pictures import picture_url

_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*(?:/[A-Za-z0-9][A-Za-z0-9_.-]*)+")
_LONGER_APPS = frozenset({"workflows", "comfy"})
_SUFFIXES = {"status_url": "/status", "response_url": "", "cancel_url": "/cancel"}
_PHASES = {"IN_QUEUE": Phase.QUEUED, "IN_PROGRESS": Phase.RUNNING}

_OURS = {"prompt", "duration", "aspect_ratio", "resolution", "seed", "generate_audio", "negative_prompt"}
RESERVED = frozenset(
    _OURS
    | {"image_url", "end_image_url"}
    # the names of both pictures that some models have instead
    | {entry[place] for entry in load_native("fal").values() for place in ("image", "last_image") if place in entry}
)
"""What we set ourselves."""

REFUSED = frozenset({"content_policy_violation", "no_media_generated"})
_BROKEN_MODEL = frozenset(
    {"internal_server_error", "generation_timeout", "downstream_service_error", "downstream_service_unavailable"}
)
_BROKEN_RUNNER = frozenset(
    {"request_timeout", "startup_timeout", "runner_scheduling_failure", "runner_connection_timeout", "internal_error"}
    | {"runner_disconnected", "runner_connection_refused", "runner_connection_error", "runner_incomplete_response"}
    | {"runner_server_error"}
)
_TYPES = {
    **dict.fromkeys(REFUSED, ErrorCode.MODERATION),
    **dict.fromkeys(_BROKEN_MODEL | _BROKEN_RUNNER, ErrorCode.TRANSIENT),
    "client_cancelled": ErrorCode.CANCELLED,
    "client_disconnected": ErrorCode.TRANSIENT,
    "bad_request": ErrorCode.INVALID_REQUEST,
}
_NOT_OF_THE_RUN = frozenset({401, 402, 403, 404, 405, 408, 409, 410, 425, 429, 460, 499})
_NO_MONEY = re.compile(r"exhausted balance|top up your balance|user is locked|billing", re.I)


class RunFailed(ProviderError):
    """The answer of `response_url` says that the request itself has failed; any other error is one of the asking."""


def require_model(model: str) -> str:
    """A model's id, which is a part of the address: `owner/app[/path]`. Raises ProviderError(INVALID_REQUEST)."""
    if _MODEL.fullmatch(model) is None or len(model) > 200:
        raise ProviderError(ErrorCode.INVALID_REQUEST, f"{model!r} is no model of fal: owner/app[/path]", billed=False)
    return model


def wire_of(model: str) -> dict[str, Any]:
    """How a model's input is written (`native` in the catalogue): `duration` as eight seconds look, `image` and
    `last_image` as the members are called."""
    return native_of("fal", model)


def length_of(seconds: int, example: object) -> object:
    """A length as the example of eight seconds is written: "8s", "8" or 8."""
    return example.replace("8", str(seconds)) if isinstance(example, str) else seconds


def build_submit(
    base_url: str, headers: Mapping[str, str], request: VideoRequest, context: SubmitContext, catalogue: Catalogue
) -> Call:
    """The paid call. Our token travels in the callback's URL alone: fal keeps nothing else of ours.

    Raises ProviderError(INVALID_REQUEST) for a model that is no address.
    """
    model = require_model(request.model or catalogue.default_model)
    known, wire = catalogue.models.get(model), wire_of(model)
    asked = {
        "prompt": request.prompt,
        "duration": None if request.duration is None else length_of(request.duration, wire["duration"]),
        "aspect_ratio": request.aspect_ratio,
        "resolution": request.resolution,
        "seed": request.seed,
        "generate_audio": request.audio if known is None or known.audio is Audio.OPTIONAL else None,
        "negative_prompt": request.negative_prompt,
        wire["image"]: picture_url(request.image) if request.image else None,
        wire["last_image"]: picture_url(request.last_image) if request.last_image else None,
    }
    body = {name: value for name, value in asked.items() if value is not None}
    params = {"fal_webhook": context.callback_url} if context.callback_url else {}
    return Call("POST", f"{base_url}/{model}", headers, merged(body, request.extra), params)


def read_submitted(body: object, model: str) -> Operation:
    """The operation of an accepting answer, with the addresses it names. Raises ValueError when it names none."""
    request_id = body.get("request_id") if isinstance(body, dict) else None
    if not isinstance(body, dict) or not isinstance(request_id, str):
        raise ValueError("the answer names no request")
    given = {name: body[name] for name in _SUFFIXES if isinstance(body.get(name), str)}
    return Operation(request_id, {"model": model, **given})


def address_of(base_url: str, operation: Operation, name: str, default_model: str) -> str:
    """Where to ask: the address that the submit's answer gave if it is of our own base's origin and names the request,
    else the usual one, in which the model's path beyond the app is dropped."""
    base, given, request_id = urlsplit(base_url), operation.data.get(name), quote(operation.id, safe="")
    ours = isinstance(given, str) and given.startswith(f"{base.scheme}://{base.netloc}/")
    if ours and request_id in str(given).split("/"):
        return str(given)
    parts = require_model(str(operation.data.get("model") or default_model)).split("/")
    app = "/".join(parts[: 3 if parts[0] in _LONGER_APPS else 2])
    return f"{base_url}/{app}/requests/{request_id}{_SUFFIXES[name]}"


def read_status(body: Mapping[str, Any]) -> ProviderStatus | None:
    """Where the request stands, or None when it has ended one way or the other. Raises ProviderError(UNREADABLE)."""
    word = body.get("status")
    if not isinstance(word, str):
        raise ProviderError(ErrorCode.UNREADABLE, "the answer has no status")
    if word == "COMPLETED":
        return None
    known = _PHASES.get(word)
    return ProviderStatus(known or Phase.RUNNING, unknown_status=None if known else word[:100])


def read_result(body: Mapping[str, Any], told: Mapping[str, Any]) -> ProviderStatus:
    """The file of a model's output; `told` is what the status said, which may be an error all the same.

    Raises ProviderError(UNREADABLE) for neither file nor error.
    """
    videos = body.get("videos")
    video = body.get("video") or (videos[0] if isinstance(videos, list) and videos else None)
    file = video if isinstance(video, dict) else {"url": video}
    url, mime_type = file.get("url"), file.get("content_type")
    if isinstance(url, str):
        try:
            output = Output(url, mime_type=mime_type if isinstance(mime_type, str) else None)
        except ValueError as wrong:
            raise ProviderError(ErrorCode.UNREADABLE, str(wrong)) from wrong
        return ProviderStatus(Phase.SUCCEEDED, outputs=(output,))
    if told.get("error"):
        error = read_error(422, {}, {"detail": str(told["error"]), "error_type": told.get("error_type")})
        guessed = error.code is ErrorCode.INVALID_REQUEST and error.provider_code not in _TYPES
        return failed(with_code(error, ErrorCode.PROVIDER_ERROR) if guessed else error)
    raise ProviderError(ErrorCode.UNREADABLE, "the request succeeded without a file")


def failed(error: ProviderError) -> ProviderStatus:
    """The end of a request that failed or was cancelled."""
    return ProviderStatus(Phase.CANCELLED if error.code is ErrorCode.CANCELLED else Phase.FAILED, error=error)


def read_error(status: int, headers: Mapping[str, str], body: object) -> ProviderError:
    """A refused call: the types in the body, then the error type, then the status, then its words.

    Sources: fal.ai/docs, model errors and request errors (stored copies of 2026). That an empty account is a 403 with
    these words is from users' reports of 2026.
    """
    words, kind = _told(headers, body)
    error = error_of(status, headers, {"code": kind, "message": words} if words else {"code": kind})
    if kind in _TYPES:
        return with_code(error, _TYPES[kind])
    if status == 403 and _NO_MONEY.search(words):
        return with_code(error, ErrorCode.QUOTA)
    if status in {400, 422} and kind is None and looks_refused(words):
        return with_code(error, ErrorCode.MODERATION)
    return error


def read_run_error(
    status: int, headers: Mapping[str, str], body: object, told: Mapping[str, Any] | None = None
) -> ProviderError:
    """A failed `response_url`: RunFailed where the run's own end is told, else an error of the asking.

    Not billed, and perhaps to be asked again, is only what the status (`told`) calls an error as well: a gateway
    answers with the same types and numbers when it is the asking that failed, and then the video is there.

    Sources (2026): "Failed requests that return 5xx status codes are not billed" (docs.fal.ai, reliability), 4xx may
    be; `X-Fal-Retryable` (model errors) and the types of request errors say whether the same may be asked again.
    """
    told = told or {}
    if not _is_of_the_run(status, headers, body, told):
        return read_error(status, headers, body)
    _, kind = _told(headers, body)
    if kind is None:
        body = {"detail": str(told["error"]), "error_type": told.get("error_type")}
    error = read_error(status, headers, body)
    known = kind is not None or error.provider_code in _BROKEN_RUNNER
    unbilled = bool(told.get("error")) and known and status >= 500 and error.code is not ErrorCode.MODERATION
    retryable = _header(headers, "x-fal-retryable")
    again = retryable == "true" or (not retryable and error.provider_code in _BROKEN_RUNNER)
    return RunFailed(
        error.code,
        error.message,
        provider_code=error.provider_code,
        http_status=status,
        billed=False if unbilled else None,
        resubmit=unbilled and again,
    )


def _is_of_the_run(status: int, headers: Mapping[str, str], body: object, told: Mapping[str, Any]) -> bool:
    """Whether a failed answer is the request's result: a model's own complaint (4xx with a list), the end of a
    cancelled one, or what the status calls an error too, of the same type where both name one. Anything else may be a
    gateway's, and the video may yet be there: the next poll sees."""
    _, kind = _told(headers, body)
    if kind == "client_cancelled" or (status in {400, 422} and _items(body)):
        return True
    if not told.get("error") or status in _NOT_OF_THE_RUN:
        return False
    named = told.get("error_type")
    return kind is None or not isinstance(named, str) or kind == named


def _items(body: object) -> list[dict[str, Any]]:
    """A model's complaints: the list in `detail`."""
    detail = body.get("detail") if isinstance(body, dict) else None
    return [item for item in detail if isinstance(item, dict)] if isinstance(detail, list) else []


def _told(headers: Mapping[str, str], body: object) -> tuple[str, str | None]:
    """Words and type of an error body: `detail` is a list of {type, msg} from models, and a text from the queue."""
    members = body if isinstance(body, dict) else {}
    detail, items = members.get("detail"), _items(body)
    types = [item["type"] for item in items if isinstance(item.get("type"), str)]
    given = members.get("error_type")
    kind = next((each for each in types if each in REFUSED), types[0] if types else None)
    kind = kind or (given if isinstance(given, str) and given else None) or _header(headers, "x-fal-error-type") or None
    words = "; ".join(str(item.get("msg", "")) for item in items[:5]) or (detail if isinstance(detail, str) else "")
    return words, kind


def _header(headers: Mapping[str, str], name: str) -> str:
    return next((text.strip().lower() for given, text in headers.items() if given.lower() == name), "")


def read_callback(body: bytes) -> Callback:
    """A doorbell's request. Raises ProviderError(INVALID_REQUEST)."""
    try:
        parsed = json.loads(body)
        parts = [parsed["request_id"], parsed.get("gateway_request_id") or parsed["request_id"], parsed["status"]]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ProviderError(ErrorCode.INVALID_REQUEST, "the callback is not fal's") from error
    if not all(isinstance(part, str) and 0 < len(part) <= 100 and part.isprintable() for part in parts):
        raise ProviderError(ErrorCode.INVALID_REQUEST, "the callback is not fal's")
    return Callback(".".join(parts), parts[0])
