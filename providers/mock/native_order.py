"""The mock's native request: what `POST /v1/videos` accepts, and what is wrong with it otherwise. Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Any

from providers.base import Media, VideoRequest
from providers.catalogue import load_catalogue
from providers.checks import list_price
from providers.mock.order import USUAL_SECONDS, Order, Refusal, hash_of
from providers.mock.render import ASPECT_RATIOS, RESOLUTIONS

MAX_PROMPT = 4000
DURATIONS = range(1, 61)
MODELS = ("mock-1",)

_TEXTS = {"model": MODELS[0], "aspect_ratio": "16:9", "resolution": "360p", "negative_prompt": None, "reference": None}
_ALLOWED = {"model": MODELS, "aspect_ratio": ASPECT_RATIOS, "resolution": RESOLUTIONS}


def read_order(raw: object) -> Order:
    """Check a request's JSON. Raises Refusal(400) naming the field."""
    if not isinstance(raw, dict):
        raise _invalid("the body must be a JSON object")
    prompt = raw.get("prompt")
    if not isinstance(prompt, str) or not prompt.strip() or len(prompt) > MAX_PROMPT or not _writable(prompt):
        raise _invalid(f"prompt must be a text of 1 to {MAX_PROMPT} characters")
    body: dict[str, Any] = {"prompt": prompt, **{name: _text(raw, name) for name in _TEXTS}}
    body["duration"] = _number(raw, "duration", USUAL_SECONDS, DURATIONS.start, DURATIONS.stop - 1)
    body["seed"] = _number(raw, "seed", None, 0, 2**32 - 1)
    body["audio"] = _flag(raw, "audio")
    body["image"], body["last_image"] = _image(raw.get("image")), _image(raw.get("last_image"))
    body["callback_url"] = _url(raw.get("callback_url"), "callback_url")
    first, last = (Media(url="given") if body[name] else None for name in ("image", "last_image"))
    asked = VideoRequest(prompt, duration=body["duration"], resolution=body["resolution"], image=first, last_image=last)
    return Order(
        prompt=prompt,
        body=body,
        body_hash=hash_of(raw),
        seed=body["seed"],
        price_micros=list_price(asked, load_catalogue("mock")),
        reference=body["reference"],
        callback_url=body["callback_url"],
    )


def _invalid(message: str) -> Refusal:
    return Refusal(400, "invalid_request", message)


def _writable(text: str) -> bool:
    """JSON can carry half of a surrogate pair, which no database takes."""
    return text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text)


def _text(raw: dict[str, Any], name: str) -> str | None:
    value = raw.get(name)
    value = _TEXTS[name] if value is None else value
    if value is not None and not (isinstance(value, str) and _writable(value)):
        raise _invalid(f"{name} must be a text")
    if name in _ALLOWED and value not in _ALLOWED[name]:
        raise _invalid(f"{name} must be one of {', '.join(_ALLOWED[name])}")
    return value


def _number(raw: dict[str, Any], name: str, default: int | None, least: int, most: int) -> int | None:
    value = raw.get(name)
    value = default if value is None else value
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most):
        raise _invalid(f"{name} must be a whole number from {least} to {most}")
    return value


def _flag(raw: dict[str, Any], name: str) -> bool | None:
    value = raw.get(name)
    if not isinstance(value, bool | None):
        raise _invalid(f"{name} must be true or false")
    return value


def _url(value: object, name: str) -> str | None:
    if value is not None and not (isinstance(value, str) and value.startswith(("http://", "https://"))):
        raise _invalid(f"{name} must be an http or https URL")
    return value if isinstance(value, str) else None


def _image(image: object) -> dict[str, Any] | None:
    if image is None:
        return None
    if not isinstance(image, dict) or ("url" in image) == ("data_base64" in image):
        raise _invalid("image must have either url or data_base64")
    if "url" in image:
        return {"url": _url(image["url"], "image.url")}
    try:
        data = base64.b64decode(image["data_base64"], validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise _invalid("image.data_base64 must be base64") from error
    return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data), "mime_type": image.get("mime_type")}
