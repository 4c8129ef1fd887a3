"""What the mock's endpoints of fal accept, and what is wrong with it otherwise. Pure."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from providers.base import Media, Model, ProviderError, VideoRequest
from providers.catalogue import load_catalogue
from providers.fal_wire import length_of, require_model, wire_of
from providers.mock.order import Order, Refusal, dialect_order

NAME = "fal"


class Invalid(Refusal):
    """A wrong input, as pydantic tells it: its place, and the kind of the mistake."""

    def __init__(self, place: str, kind: str, message: str) -> None:
        super().__init__(422, "invalid_request", message)
        self.place, self.kind = ["body", place], kind


def app_of(model: str) -> str:
    """The part of a model's id under which its requests are found: `owner/app`, three parts for workflows."""
    parts = model.split("/")
    return "/".join(parts[: 3 if parts[0] in {"workflows", "comfy"} else 2])


def read_order(model: str, raw: Mapping[str, Any], webhook: str | None, origin: str) -> Order:
    """Check an endpoint's input. An endpoint that the catalogue does not know is less strict.

    Raises Refusal 404 for what is no endpoint, Invalid (422) naming the member.
    """
    try:
        require_model(model)
    except ProviderError as error:
        raise Refusal(404, "not_found", f"Application {model!r} not found") from error
    catalogue = load_catalogue(NAME)
    known, wire = catalogue.models.get(model), wire_of(model)
    _require_prompt(raw.get("prompt"))
    for name in ("image", "last_image"):
        _require_picture(raw, wire[name])
    first, last = (Media(url=raw[wire[name]]) if raw.get(wire[name]) else None for name in ("image", "last_image"))
    if known is not None:
        _require_offered(raw, known, wire)
    for name, kind in (("seed", int), ("generate_audio", bool), ("negative_prompt", str)):
        _require_type(raw, name, kind)
    if webhook is not None and not webhook.startswith(("http://", "https://")):
        raise Invalid("fal_webhook", "url_scheme", "the webhook must be an http or https URL")
    length = str(raw.get("duration") or "").rstrip("s")
    asked = VideoRequest(
        raw["prompt"],
        model=model,
        duration=int(length) if length.isdecimal() and length != "0" else None,
        aspect_ratio=_text(raw, "aspect_ratio"),
        resolution=_text(raw, "resolution"),
        seed=raw.get("seed"),
        image=first,
        last_image=last,
    )
    shown = {"app": app_of(model), "origin": origin}
    charged = frozenset({"moderation"})
    return dialect_order(NAME, raw, asked, shown=shown, callback_url=webhook, charged_endings=charged)


def _require_prompt(prompt: object) -> None:
    if prompt is None:
        raise Invalid("prompt", "missing", "Field required")
    if not isinstance(prompt, str) or not prompt.strip() or any("\ud800" <= char <= "\udfff" for char in prompt):
        raise Invalid("prompt", "string_type", "Input should be a valid string")


def _require_offered(raw: Mapping[str, Any], known: Model, wire: Mapping[str, Any]) -> None:
    lengths = [length_of(seconds, wire["duration"]) for seconds in known.durations]
    choices = (
        ("duration", lengths),
        ("aspect_ratio", known.aspect_ratios),
        ("resolution", known.resolutions),
    )
    for name, allowed in choices:
        value = raw.get(name)
        if value is not None and allowed and (value not in allowed or isinstance(value, bool)):
            raise Invalid(name, "literal_error", f"Input should be one of {list(allowed)}")
    if known.needs_image and raw.get(wire["image"]) is None:
        raise Invalid(wire["image"], "missing", "Field required")


def _require_picture(raw: Mapping[str, Any], name: str) -> None:
    value = raw.get(name)
    if value is None:
        return
    if not isinstance(value, str) or not value.startswith(("http://", "https://", "data:")):
        raise Invalid(name, "file_download_error", "Failed to download the file")
    if value.startswith("data:"):
        head, _, data = value.partition(";base64,")
        try:
            base64.b64decode(data, validate=True)
        except (binascii.Error, ValueError) as error:
            raise Invalid(name, "image_load_error", "Failed to load the image") from error
        if not data or not head.startswith("data:image/"):
            raise Invalid(name, "image_load_error", "Failed to load the image")


def _require_type(raw: Mapping[str, Any], name: str, kind: type) -> None:
    value = raw.get(name)
    if value is not None and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
        raise Invalid(name, f"{kind.__name__}_type", f"Input should be a valid {kind.__name__}")


def _text(raw: Mapping[str, Any], name: str) -> str | None:
    value = raw.get(name)
    return value if isinstance(value, str) else None
