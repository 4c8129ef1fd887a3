"""A request of Gemini's Interactions API for a video: what the mock accepts of it, and why not otherwise. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from providers.base import Capabilities, Media, VideoRequest
from providers.catalogue import load_catalogue
from providers.checks import check
from providers.mock.dialects.google_wire import choice, labels, part, picture_bytes
from providers.mock.members import invalid, text, whole
from providers.mock.order import Order, Refusal, dialect_order

NAME = "google_omni"
TASKS = ("text_to_video", "image_to_video", "reference_to_video", "edit", "extend", "upscale")

_DURATION = re.compile(r"\d{1,4}(?:\.\d{1,9})?s")
_PICTURES = ("image/png", "image/jpeg", "image/webp", "image/heic", "image/heif")


def read_order(raw: dict[str, Any]) -> Order:
    """Check a request's JSON. Raises Refusal: 400 naming the member, 404 for a model that is none any more."""
    form, config = part(raw, "response_format"), part(raw, "generation_config")
    choice(form, "type", "video")
    choice(part(config, "video_config"), "task", *TASKS)
    prompt, pictures = _content(raw.get("input"))
    asked = VideoRequest(
        prompt,
        model=_model(raw),
        duration=_seconds(form.get("duration")),
        aspect_ratio=choice(form, "aspect_ratio", "16:9", "9:16"),
        resolution=choice(form, "resolution", "360p", "720p", "1080p", "4k"),
        seed=whole(config, "seed"),
        image=pictures[0] if pictures else None,
        last_image=pictures[1] if len(pictures) > 1 else None,
    )
    wrong = check(asked, Capabilities(load_catalogue(NAME)))
    if wrong:
        raise invalid(f"{wrong[0].pointer.rpartition('/')[2]}: {wrong[0].detail}")
    if raw.get("background") is not True or raw.get("store") is False:
        raise invalid("background: only stored interactions in the background are made by this mock")
    shown = {"labels": labels(raw), "delivery": choice(form, "delivery", "inline", "uri") or "inline", "text": prompt}
    return dialect_order(NAME, raw, asked, shown=shown, callback_url=_callback_url(part(raw, "webhook_config")))


def _model(raw: Mapping[str, Any]) -> str:
    model = text(raw, "model", 200)
    if not model:
        raise invalid("model: Required")
    if model in load_catalogue(NAME).retired:
        raise Refusal(404, "not_found", f"This model models/{model} is no longer available.")
    return model


def _seconds(duration: object) -> int | None:
    """Whole seconds of "5s"; begun ones count whole. A bare number is refused (observed at the real one, 2026-07)."""
    if duration is None:
        return None
    if not isinstance(duration, str) or not _DURATION.fullmatch(duration):
        raise invalid('Invalid value at "response_format.duration": expected a duration such as "5s"')
    return math.ceil(float(duration[:-1]))


def _content(given: object) -> tuple[str, list[Media]]:
    """The text and the pictures of `input`: a text, a list of blocks, or a list of steps with blocks."""
    if isinstance(given, str):
        given = [{"type": "text", "text": given}]
    if not isinstance(given, list) or not all(isinstance(each, dict) for each in given):
        raise invalid('Invalid value at "input"')
    blocks = [block for each in given for block in _blocks(each)]
    said = [text(block, "text") or "" for block in blocks if block.get("type") == "text"]
    prompt = "\n".join(said)
    if not prompt.strip():
        raise invalid("input: a text is required")
    return prompt, [_picture(block) for block in blocks if block.get("type") == "image"]


def _blocks(each: dict[str, Any]) -> list[dict[str, Any]]:
    if each.get("type") != "user_input":
        return [each]
    content = each.get("content")
    if not isinstance(content, list) or not all(isinstance(block, dict) for block in content):
        raise invalid('Invalid value at "input.content"')
    return content


def _picture(block: dict[str, Any]) -> Media:
    mime_type, uri = choice(block, "mime_type", *_PICTURES), text(block, "uri", 8000)
    if (uri is None) == (block.get("data") is None):
        raise invalid("input: an image has either data or uri")
    if uri is None:
        return Media(data=picture_bytes(block["data"], "data"), mime_type=mime_type)
    if not uri.startswith(("https://", "http://")):
        raise invalid('Invalid value at "uri"')
    return Media(url=uri, mime_type=mime_type)


def _callback_url(config: Mapping[str, Any]) -> str | None:
    uris = config.get("uris", [])
    if not isinstance(uris, list) or not all(isinstance(uri, str) for uri in uris):
        raise invalid('Invalid value at "webhook_config.uris"')
    if not all(uri.startswith(("https://", "http://")) and len(uri) <= 2000 for uri in uris):
        raise invalid("webhook_config.uris: must be absolute addresses")
    return uris[0] if uris else None
