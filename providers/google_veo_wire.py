"""Veo's wire from the client's side: requests and answers as values (see `providers.google_veo`). Pure."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from providers.base import (
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
from providers.google_wire import failure, label
from providers.wire import inline_index, merged

INLINE = frozenset({"bytesBase64Encoded"})
"""The members whose strings may hold a whole file."""

_SET = (
    *("sampleCount", "storageUri", "durationSeconds", "seed"),
    *("aspectRatio", "resolution", "negativePrompt", "generateAudio"),
)
RESERVED = frozenset({"instances", "labels.dailies"} | {f"parameters.{name}" for name in _SET})

_NAME = re.compile(r"projects/[^/]+/locations/[^/]+/publishers/google/models/[^/]+/operations/[^/]+")
_OBJECT = re.compile(r"gs://([^/]+)/(.+)")
_SUPPORT_CODE = re.compile(r"\b\d{8}\b")
_CATEGORIES = {
    "child": "58061214 17301594",
    "celebrity": "29310472 15236754",
    "video safety": "64151117 42237218",
    "dangerous content": "62263041",
    "hate": "57734940 22137204",
    "other safety": "74803281 29578790 42876398",
    "prohibited content": "89371032 49114662 63429089 72817394 60599140",
    "third party content": "35561574 35561575",
    "sexual content": "90789179 43188360",
    "toxic content": "78610348",
    "violence": "61493863 56562880",
    "vulgar content": "32635315",
}
"""Support codes by category: Google Cloud's page on responsible AI for Veo (2026-11)."""
_WORDS = {code: category for category, codes in _CATEGORIES.items() for code in codes.split()}


def build_body(request: VideoRequest, context: SubmitContext, bucket: str | None) -> dict[str, Any]:
    """The paid call's body. `bucket` is where results go (`gs://bucket/folder`), into a folder named by our token, so
    that a lost one can be found; None: they come inside the poll's answer.

    Sound is asked for unless it is not wanted: Veo 3 models need the member (docs, 2026-11). Raises ValueError for a
    picture by a web address.
    """
    parameters = {
        "sampleCount": 1,
        "durationSeconds": request.duration,
        "aspectRatio": request.aspect_ratio,
        "resolution": request.resolution,
        "seed": request.seed,
        "negativePrompt": request.negative_prompt,
        "generateAudio": request.audio is not False,
        "storageUri": f"{bucket}/{label(context.token)}/" if bucket else None,
    }
    instance = {"prompt": request.prompt, "image": _picture(request.image), "lastFrame": _picture(request.last_image)}
    body = {
        "instances": [_given(instance)],
        "parameters": _given(parameters),
        "labels": {"dailies": label(context.token)},
    }
    return merged(body, request.extra)


def _given(members: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


def _picture(picture: Media | None) -> dict[str, str] | None:
    if picture is None:
        return None
    mime_type = picture.mime_type or "image/png"
    if picture.data is not None:
        return {"bytesBase64Encoded": base64.b64encode(picture.data).decode(), "mimeType": mime_type}
    if picture.url is None or not _OBJECT.fullmatch(picture.url):
        raise ValueError("Veo takes pictures as bytes or from Cloud Storage, not from a web address")
    return {"gcsUri": picture.url, "mimeType": mime_type}


def operation_name(operation: Operation, parent: str, default_model: str) -> str:
    """The operation's full name; of one that is known by its last part, from `parent` (`projects/P/locations/L`) and
    its model."""
    if _NAME.fullmatch(operation.id):
        return operation.id
    given = operation.data.get("model")
    model = given if isinstance(given, str) and given else default_model
    return f"{model_path(parent, model)}/operations/{operation.id}"


def model_path(parent: str, model: str) -> str:
    """`projects/P/locations/L/publishers/google/models/M`."""
    return f"{parent}/publishers/google/models/{model}"


def read_submitted(status: int, headers: Mapping[str, str], body: object) -> Operation:
    """The operation of an accepting answer. Raises ValueError when it names none."""
    name = body.get("name") if isinstance(body, dict) else None
    if not isinstance(name, str):
        raise ValueError("the answer names no operation")
    return Operation(name)


def read_status(body: Mapping[str, Any], url: str, storage: str) -> ProviderStatus:
    """A poll's answer. There are no status words and no progress: it is done or it is not.

    Args:
        body: read with INLINE passed over.
        url: by which a file inside the answer is found again.
        storage: Cloud Storage's address.

    Raises:
        ProviderError: UNREADABLE where it is done without a result.
    """
    if not isinstance(body.get("done", False), bool):
        raise ProviderError(ErrorCode.UNREADABLE, "the answer does not say whether it is done")
    if not body.get("done"):
        return ProviderStatus(Phase.RUNNING)
    if body.get("error"):
        return ProviderStatus(Phase.FAILED, error=_explained(failure(body["error"], "the operation failed")))
    response = body.get("response")
    response = response if isinstance(response, dict) else {}
    videos = response.get("videos")
    outputs = [_output(video, url, storage) for video in (videos if isinstance(videos, list) else [])]
    found = tuple(output for output in outputs if output is not None)
    if found:
        return ProviderStatus(Phase.SUCCEEDED, outputs=found)
    return ProviderStatus(Phase.FAILED, error=_filtered(response))


def _output(video: object, url: str, storage: str) -> Output | None:
    members = video if isinstance(video, dict) else {}
    mime_type = members.get("mimeType") if isinstance(members.get("mimeType"), str) else None
    uri, index = members.get("gcsUri"), inline_index(members.get("bytesBase64Encoded"))
    named = _OBJECT.fullmatch(uri) if isinstance(uri, str) else None
    if named:
        bucket, key = (quote(part, safe="") for part in named.groups())
        return Output(f"{storage}/storage/v1/b/{bucket}/o/{key}?alt=media", authenticated=True, mime_type=mime_type)
    if index is not None:
        return Output(f"{url}#inline={index}", authenticated=True, mime_type=mime_type)
    return None


def _filtered(response: Mapping[str, Any]) -> ProviderError:
    """Why there is no video. Raises ProviderError(UNREADABLE) when it is not told."""
    reasons = response.get("raiMediaFilteredReasons")
    said = [reason for reason in (reasons if isinstance(reasons, list) else []) if isinstance(reason, str)]
    if not said and not response.get("raiMediaFilteredCount"):
        raise ProviderError(ErrorCode.UNREADABLE, "the operation is done and shows neither a video nor a reason")
    message = " ".join(said) or "the video was filtered out by Google's safety filters"
    return _explained(ProviderError(ErrorCode.MODERATION, message, provider_code="raiMediaFiltered"))


def _explained(error: ProviderError) -> ProviderError:
    """A refusal, with the categories of its support codes before the reason."""
    known = [_WORDS[code] for code in _SUPPORT_CODE.findall(error.message) if code in _WORDS]
    if error.code is not ErrorCode.MODERATION or not known:
        return error
    message = f"{', '.join(dict.fromkeys(known))}: {error.message}"
    return ProviderError(error.code, message, provider_code=error.provider_code)


def explained_refusal(error: ProviderError) -> ProviderError:
    """A refused call's error, its support codes in words."""
    told = _explained(error)
    told.http_status, told.retry_after = error.http_status, error.retry_after
    return told
