"""Gemini Omni's wire from the client's side: requests and answers as values (see `providers.google_omni`). Pure."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import SplitResult, urlsplit, urlunsplit

from providers.base import (
    Callback,
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

INLINE = frozenset({"data"})
"""The members whose strings may hold a whole file."""

RESERVED = frozenset(
    {"model", "agent", "input", "background", "store", "stream", "tools", "labels.dailies"}
    | {"response_modalities"}  # which multiply the price
    | {"webhook_config"}
    | {f"response_format.{name}" for name in ("type", "delivery", "duration", "resolution", "aspect_ratio", "gcs_uri")}
    | {"generation_config.seed", "generation_config.video_config"}
)

_PHASES = {
    "queued": Phase.QUEUED,
    "in_progress": Phase.RUNNING,
    "completed": Phase.SUCCEEDED,
    "failed": Phase.FAILED,
    "incomplete": Phase.FAILED,
    "budget_exceeded": Phase.FAILED,
    "cancelled": Phase.CANCELLED,
}
_FILE = re.compile(r".*/files/[a-z0-9]+")


def build_body(request: VideoRequest, context: SubmitContext) -> dict[str, Any]:
    """The paid call's body."""
    form = {"duration": f"{request.duration}s" if request.duration else None, "resolution": request.resolution}
    form |= {"type": "video", "delivery": "uri", "aspect_ratio": request.aspect_ratio}
    pictures = [picture for picture in (request.image, request.last_image) if picture is not None]
    config = {"seed": request.seed, "video_config": {"task": "image_to_video"} if pictures else None}
    body = {
        "model": request.model,
        "background": True,
        "input": _input(_text(request), pictures),
        "response_format": _given(form),
        "generation_config": _given(config) or None,
        "labels": {"dailies": label(context.token)},
    }
    if context.callback_url:
        body["webhook_config"] = {"uris": [context.callback_url], "user_metadata": {"dailies": context.token}}
    return merged(_given(body), request.extra)


def _given(members: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


def _text(request: VideoRequest) -> str:
    """The prompt, with what the API has no members for: what to avoid, and which pictures are which frame."""
    tags = [tag for tag, given in (("<FIRST_FRAME>", request.image), ("<LAST_FRAME>", request.last_image)) if given]
    text = " ".join([*(tag for tag in tags if tag not in request.prompt), request.prompt])
    return f"{text}\n\nAvoid: {request.negative_prompt}" if request.negative_prompt else text


def _input(text: str, pictures: list[Media]) -> str | list[dict[str, Any]]:
    if not pictures:
        return text
    content = [*map(_picture, pictures), {"type": "text", "text": text}]
    return [{"type": "user_input", "content": content}]


def _picture(picture: Media) -> dict[str, Any]:
    if picture.data is None:
        return _given({"type": "image", "uri": picture.url, "mime_type": picture.mime_type})
    data = base64.b64encode(picture.data).decode()
    return {"type": "image", "data": data, "mime_type": picture.mime_type or "image/png"}


def read_submitted(status: int, headers: Mapping[str, str], body: object) -> Operation:
    """The operation of an accepting answer. Raises ValueError when it names none."""
    interaction = body.get("id") if isinstance(body, dict) else None
    if not isinstance(interaction, str):
        raise ValueError("the answer names no interaction")
    return Operation(interaction)


def read_status(body: Mapping[str, Any], url: str, origin: str) -> ProviderStatus:
    """A poll's answer.

    Args:
        body: read with INLINE passed over.
        url: the poll's, by which a file inside it is found again.
        origin: the API's address, whose files want the key.

    Raises:
        ProviderError: UNREADABLE without a status, or where video was made and none is shown.
    """
    word = body.get("status")
    if not isinstance(word, str):
        raise ProviderError(ErrorCode.UNREADABLE, "the answer has no status")
    phase = _PHASES.get(word)
    if phase is None:
        return ProviderStatus(Phase.RUNNING, unknown_status=word[:100])
    if phase in {Phase.SUCCEEDED, Phase.FAILED} and word != "failed":
        output = _output(body, url, origin)
        if output is not None:
            return ProviderStatus(Phase.SUCCEEDED, outputs=(output,))
    if phase is Phase.SUCCEEDED:
        return ProviderStatus(Phase.FAILED, error=_nothing_made(body))
    return ProviderStatus(phase, error=_failure(word, body) if phase is Phase.FAILED else None)


def _said(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The model's content, the newest first. `outputs` is what stands for `steps` in an older form of the answer, which
    the official client reads too (google-genai 3.4.0)."""

    def newest_first(value: object) -> Iterator[dict[str, Any]]:
        given = [value] if isinstance(value, dict) else value if isinstance(value, list) else []
        yield from (each for each in reversed(given) if isinstance(each, dict))

    steps = body.get("steps") or [{"type": "model_output", "content": body.get("outputs")}]
    said = [step.get("content") for step in newest_first(steps) if step.get("type") == "model_output"]
    return [block for content in said for block in newest_first(content)]


def _output(body: Mapping[str, Any], url: str, origin: str) -> Output | None:
    for block in (block for block in _said(body) if block.get("type") == "video"):
        mime_type = block.get("mime_type") if isinstance(block.get("mime_type"), str) else None
        uri, index = block.get("uri"), inline_index(block.get("data"))
        if isinstance(uri, str) and uri:
            return _file(uri, origin, mime_type)
        if index is not None:
            return Output(f"{url}#inline={index}", authenticated=True, mime_type=mime_type)
    return None


def _file(uri: str, origin: str, mime_type: str | None) -> Output:
    try:
        parts, own = urlsplit(uri), urlsplit(origin)
        ours = (parts.scheme, parts.netloc) == (own.scheme, own.netloc)
        return Output(_media(parts) if ours else uri, authenticated=ours, mime_type=mime_type)
    except ValueError as error:
        raise ProviderError(ErrorCode.UNREADABLE, f"the video's address cannot be used: {error}") from error


def _media(parts: SplitResult) -> str:
    """A file at the API's own address, in the form that answers its bytes: `/files/{id}:download?alt=media`."""
    path = f"{parts.path}:download" if _FILE.fullmatch(parts.path) else parts.path
    query = parts.query if "alt=media" in parts.query else "&".join(filter(None, [parts.query, "alt=media"]))
    return urlunsplit((parts.scheme, parts.netloc, path, query, ""))


def _nothing_made(body: Mapping[str, Any]) -> ProviderError:
    """Completed with words only, and the usage counts no video: a refusal (observed 2026-07).

    Raises ProviderError(UNREADABLE) for anything else: a video may have been made and paid, and show later."""
    usage, said = body.get("usage"), _said(body)
    counts = usage.get("output_tokens_by_modality") if isinstance(usage, dict) else None
    counted = [count for count in counts if isinstance(count, dict)] if isinstance(counts, list) else None
    if any(str(count.get("modality")).lower() == "video" and count.get("tokens") for count in counted or []):
        raise ProviderError(ErrorCode.UNREADABLE, "the usage counts a video, and the answer shows none", billed=True)
    texts = [block.get("text") for block in reversed(said) if block.get("type") == "text"]
    words = " ".join(text for text in texts if isinstance(text, str)).strip()
    if counted is None or not words or len(texts) != len(said):
        raise ProviderError(ErrorCode.UNREADABLE, "the interaction completed, and shows neither a video nor a refusal")
    return ProviderError(ErrorCode.MODERATION, words, provider_code="no_video")


def _failure(word: str, body: Mapping[str, Any]) -> ProviderError:
    errors = body.get("errors")
    found = errors[0] if isinstance(errors, list) and errors else body.get("error")
    error = failure(found, f"the interaction ended as {word}")
    if word == "budget_exceeded":
        return ProviderError(ErrorCode.QUOTA, error.message, provider_code=word)
    return error


def read_event(event: str, body: bytes) -> Callback:
    """A verified doorbell. Raises ProviderError(INVALID_REQUEST)."""
    try:
        parsed = json.loads(body)
        kind, named = parsed["type"], parsed["data"]["id"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ProviderError(ErrorCode.INVALID_REQUEST, "the callback is not Gemini's") from error
    if not (isinstance(kind, str) and isinstance(named, str)):
        raise ProviderError(ErrorCode.INVALID_REQUEST, "the callback is not Gemini's")
    return Callback(event, named if kind.startswith("interaction.") else None)
