"""Replicate from the client's side: requests as values, answers as values. Pure. See `providers.replicate`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from providers.base import (
    Audio,
    Callback,
    Catalogue,
    ErrorCode,
    Media,
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
from providers.wire.errors import MAX_RETRY_AFTER, without_urls
from providers.wire.pictures import picture_url

RESULT_SECONDS = 3600.0
"""How long the files of a prediction are kept after its end (replicate.com/docs, predictions made by API, 2026)."""
MAX_DATA = 250_000
"""Bytes of a picture that travel inside the request, which Replicate repeats in every answer; larger ones are uploaded.
Replicate's docs advise data URIs below 1 MB (input files, 2026)."""

_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]*/[A-Za-z0-9][A-Za-z0-9_.-]*"
_MODEL = re.compile(rf"(?P<name>{_NAME})(?::(?P<of>[0-9a-f]{{64}}))?|(?P<version>[0-9a-f]{{64}})")
_PHASES = {
    "starting": Phase.QUEUED,
    "processing": Phase.RUNNING,
    "succeeded": Phase.SUCCEEDED,
    "failed": Phase.FAILED,
    "canceled": Phase.CANCELLED,
    "aborted": Phase.FAILED,
}
_PERCENT = re.compile(r"\b(\d{1,3})(?:\.\d+)?%")
_REFUSED = re.compile(
    r"\bnsfw\b|\bflagged\b|\bsensitive (content|material|words?)\b|\b(as|is|be) sensitive\b"
    r"|\bsafety (check|filter|system|setting|guideline)|\bmoderat(ed|ion|or)\b|\bviolat\w*\b.{0,60}\bpolic",
    re.I,
)
_PASSING = re.compile(
    r"\bplease (retry|try again later)\b|\binterrupted\b|\bunavailable\b|\bhigh demand\b|\boverloaded\b|\(code: PA\)",
    re.I,
)

_OURS = {"prompt", "duration", "aspect_ratio", "resolution", "seed", "generate_audio", "negative_prompt"}
_PICTURES = {entry[place] for entry in load_native("replicate").values() for place in entry}
RESERVED = frozenset({"version", "webhook", "webhook_events_filter", "stream"}) | frozenset(
    f"input.{name}" for name in _OURS | _PICTURES | {"video", "reference_video"}
)
"""What we set ourselves, and videos as inputs: some models charge for their seconds, too."""


def parts_of(model: str) -> tuple[str, str | None]:
    """Path and `version` of a model: `owner/name` has its own address, `owner/name:version` and a version have not.

    Raises ProviderError(INVALID_REQUEST) for anything else.
    """
    match = _MODEL.fullmatch(model) if len(model) <= 300 else None
    if match is None:
        message = f"{model!r} is no model of Replicate: owner/name, owner/name:version or a version of 64 digits"
        raise ProviderError(ErrorCode.INVALID_REQUEST, message, billed=False)
    version = match["of"] or match["version"]
    return ("/predictions", version) if version else (f"/models/{match['name']}/predictions", None)


def build_submit(
    base_url: str, headers: Mapping[str, str], request: VideoRequest, context: SubmitContext, catalogue: Catalogue
) -> Call:
    """The paid call. Our token travels in the callback's URL alone: Replicate keeps nothing else of ours, since a
    model's input takes its own members only. `Prefer: wait` is not sent: the answer comes at once.

    Raises ProviderError(INVALID_REQUEST) for a model that is none.
    """
    model = request.model or catalogue.default_model
    path, version = parts_of(model)
    known, names = catalogue.models.get(model), native_of("replicate", model)
    asked = {
        "prompt": request.prompt,
        "duration": request.duration,
        "aspect_ratio": request.aspect_ratio,
        "resolution": request.resolution,
        "seed": request.seed,
        "generate_audio": request.audio if known is None or known.audio is Audio.OPTIONAL else None,
        "negative_prompt": request.negative_prompt,
        names["image"]: picture_url(request.image) if request.image else None,
        names["last_image"]: picture_url(request.last_image) if request.last_image else None,
    }
    body: dict[str, Any] = {"input": {name: value for name, value in asked.items() if value is not None}}
    if version:
        body["version"] = version
    if context.callback_url:
        body |= {"webhook": context.callback_url, "webhook_events_filter": ["completed"]}
    return Call("POST", base_url + path, headers, merged(body, request.extra))


def build_upload(base_url: str, headers: Mapping[str, str], picture: Media) -> Call:
    """The free call that stores a picture's bytes (Replicate keeps them for a day)."""
    mime_type = picture.mime_type or "image/png"
    name = f"picture.{mime_type.rpartition('/')[2]}"
    return Call(
        "POST", f"{base_url}/files", headers, form={}, files={"content": (name, picture.data or b"", mime_type)}
    )


def read_upload(body: Mapping[str, Any]) -> Media:
    """The stored picture. Raises ProviderError(UNREADABLE)."""
    urls = body.get("urls")
    url = urls.get("get") if isinstance(urls, dict) else None
    if not isinstance(url, str) or not url.startswith(("http://", "https://")):
        raise ProviderError(ErrorCode.UNREADABLE, "the upload's answer names no file")
    return Media(url=url)


def build_ask(base_url: str, headers: Mapping[str, str], operation: Operation, cancel: bool = False) -> Call:
    """Where does it stand, or: stop it."""
    url = f"{base_url}/predictions/{quote(operation.id, safe='')}"
    return Call("POST", f"{url}/cancel", headers) if cancel else Call("GET", url, headers)


def read_submitted(body: object, model: str) -> Operation:
    """The operation of an accepting answer. Raises ValueError when it names none."""
    prediction_id = body.get("id") if isinstance(body, dict) else None
    if not isinstance(prediction_id, str):
        raise ValueError("the answer names no prediction")
    return Operation(prediction_id, {"model": model})


def read_status(body: Mapping[str, Any]) -> ProviderStatus:
    """A prediction. Raises ProviderError: UNREADABLE for a missing status or success without a file, NOT_FOUND for
    files that are gone."""
    word = body.get("status")
    if not isinstance(word, str):
        raise ProviderError(ErrorCode.UNREADABLE, "the answer has no status")
    phase = _PHASES.get(word, Phase.RUNNING)
    return ProviderStatus(
        phase=phase,
        progress=1.0 if phase is Phase.SUCCEEDED else _progress(body.get("logs")),
        outputs=_outputs(body) if phase is Phase.SUCCEEDED else (),
        error=_ending(word, body) if phase in {Phase.FAILED, Phase.CANCELLED} else None,
        unknown_status=None if word in _PHASES else word[:100],
    )


def _progress(logs: object) -> float | None:
    """The last percentage that a model wrote into its logs."""
    told = _PERCENT.findall(logs[-4000:]) if isinstance(logs, str) else []
    return min(int(told[-1]), 100) / 100 if told else None


def _outputs(body: Mapping[str, Any]) -> tuple[Output, ...]:
    output = body.get("output")
    given = output if isinstance(output, list) else [output.get("video") if isinstance(output, dict) else output]
    completed = _seconds(body.get("completed_at"))
    expires_at = None if completed is None else completed + RESULT_SECONDS
    try:
        outputs = tuple(Output(url, expires_at=expires_at) for url in given if isinstance(url, str))
    except ValueError as error:
        raise ProviderError(ErrorCode.UNREADABLE, str(error)) from error
    if outputs:
        return outputs
    if body.get("data_removed") is True:
        raise ProviderError(ErrorCode.NOT_FOUND, "the prediction's files were deleted an hour after its end")
    raise ProviderError(ErrorCode.UNREADABLE, "the prediction succeeded without a file")


def _seconds(iso: object) -> float | None:
    """Unix seconds of an ISO 8601 time, which is UTC unless it says otherwise."""
    try:
        moment = datetime.fromisoformat(iso) if isinstance(iso, str) else None
        seconds = 0.0 if moment is None else (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
    return seconds if seconds > 0 else None


def _ending(word: str, body: Mapping[str, Any]) -> ProviderError:
    """Why it ended otherwise.

    Sources: `aborted` (its deadline passed before it began) is not charged, `canceled` on a public model is (changelog
    of 2025-10-16); only the time of running is paid (docs, billing, 2026), so not what never started. What a failure
    costs is not said. Refusals are told in words only; E005 is one by users' reports.
    """
    if word == "aborted":
        return ProviderError(ErrorCode.TIMEOUT, "its deadline passed before it began", provider_code=word, billed=False)
    if word == "canceled":
        billed = isinstance(body.get("started_at"), str)
        return ProviderError(ErrorCode.CANCELLED, "the prediction was cancelled", provider_code=word, billed=billed)
    error = body.get("error")
    words = error if isinstance(error, str) and error else "the prediction failed without a reason"
    return ProviderError(_kind_of(without_urls(words)), words, provider_code=word)


def _kind_of(words: str) -> ErrorCode:
    """What failed, by words alone: that it may be tried again is said more plainly than that it may not."""
    if "(E005)" in words:
        return ErrorCode.MODERATION
    if _PASSING.search(words):
        return ErrorCode.TRANSIENT
    return ErrorCode.MODERATION if _REFUSED.search(words) or looks_refused(words) else ErrorCode.PROVIDER_ERROR


def read_error(status: int, headers: Mapping[str, str], body: object) -> ProviderError:
    """A refused call (RFC 7807): the status tells, but for moderation, which only the words may. How long to wait is in
    the body as well (`retry_after`; answers of 2026)."""
    members = body if isinstance(body, dict) else {}
    words = next((members[name] for name in ("detail", "title") if isinstance(members.get(name), str)), None)
    error = error_of(status, headers, {"code": members.get("title"), "message": words})
    if status in {400, 422} and (re.search(r"\(E005\)", words or "") or looks_refused(words or "")):
        error = with_code(error, ErrorCode.MODERATION)
    wait = members.get("retry_after")
    if error.code is ErrorCode.RATE_LIMITED and isinstance(wait, int | float) and 0 <= wait <= MAX_RETRY_AFTER:
        error.retry_after = float(wait)
    return error


def read_callback(event_id: str, body: bytes) -> Callback:
    """A doorbell, which is the prediction itself. Raises ProviderError(INVALID_REQUEST)."""
    try:
        prediction_id = json.loads(body)["id"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ProviderError(ErrorCode.INVALID_REQUEST, "the callback is not Replicate's") from error
    if not isinstance(prediction_id, str) or not 0 < len(prediction_id) <= 200 or not 0 < len(event_id) <= 200:
        raise ProviderError(ErrorCode.INVALID_REQUEST, "the callback is not Replicate's")
    return Callback(event_id, prediction_id)
