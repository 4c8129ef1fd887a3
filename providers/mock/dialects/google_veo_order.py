"""A request to Veo on Google Cloud: what the mock accepts of it, and why not otherwise. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from providers.base import Capabilities, Media, VideoRequest
from providers.catalogue import load_catalogue
from providers.checks import check
from providers.mock.dialects.google_wire import choice, labels, part, picture_bytes
from providers.mock.members import flag, invalid, text, whole
from providers.mock.order import Order, Refusal, dialect_order

NAME = "google_veo"
PERSONS = ("dont_allow", "disallow", "allow_adult", "allow_all", "allow_all_ages")

_STORAGE = re.compile(r"gs://[a-z0-9][a-z0-9._-]{1,221}[a-z0-9](/[^?#]*)?")
_MODEL = re.compile(r"veo-[a-z0-9.-]{1,80}")
_PICTURES = ("image/png", "image/jpeg", "image/webp")


def read_order(raw: dict[str, Any], model: str) -> Order:
    """Check a request's JSON. Raises Refusal: 400 naming the member, 404 for a model that there is not."""
    if not _MODEL.fullmatch(model):
        raise Refusal(404, "not_found", f"Publisher Model `{model}` was not found or your project has no access to it.")
    instance, parameters = _instance(raw.get("instances")), part(raw, "parameters")
    choice(parameters, "personGeneration", *PERSONS)
    asked = VideoRequest(
        text(instance, "prompt") or "",
        model=model,
        duration=whole(parameters, "durationSeconds"),
        aspect_ratio=text(parameters, "aspectRatio", 20),
        resolution=text(parameters, "resolution", 20),
        seed=whole(parameters, "seed"),
        audio=flag(parameters, "generateAudio"),
        negative_prompt=text(parameters, "negativePrompt"),
        image=_picture(instance, "image"),
        last_image=_picture(instance, "lastFrame"),
    )
    wrong = check(_as_bytes(asked), Capabilities(load_catalogue(NAME)))
    if wrong or not asked.prompt.strip():
        raise invalid(f"{wrong[0].pointer.rpartition('/')[2]}: {wrong[0].detail}" if wrong else "prompt: Required")
    shown = {"labels": labels(raw), "storage": _storage(parameters)}
    order = dialect_order(NAME, raw, asked, shown=shown)
    return replace(order, price_micros=order.price_micros * (whole(parameters, "sampleCount", 1, 4) or 1))


def _instance(instances: object) -> Mapping[str, Any]:
    if not isinstance(instances, list) or len(instances) != 1 or not isinstance(instances[0], dict):
        raise invalid("instances: exactly one is required")
    return instances[0]


def _picture(instance: Mapping[str, Any], name: str) -> Media | None:
    """A picture as bytes, or as an object in Cloud Storage."""
    given = part(instance, name)
    if not given:
        return None
    mime_type, uri = choice(given, "mimeType", *_PICTURES), text(given, "gcsUri", 2000)
    if mime_type is None or (uri is None) == (given.get("bytesBase64Encoded") is None):
        raise invalid(f"{name}: mimeType and one of gcsUri and bytesBase64Encoded are required")
    if uri is None:
        return Media(data=picture_bytes(given["bytesBase64Encoded"], name), mime_type=mime_type)
    if not _STORAGE.fullmatch(uri):
        raise invalid(f"{name}: gcsUri must be an object in Cloud Storage")
    return Media(url=uri, mime_type=mime_type)


def _as_bytes(asked: VideoRequest) -> VideoRequest:
    """The catalogue speaks of web addresses, which Veo does not take: an object in Cloud Storage counts as bytes."""

    def held(picture: Media | None) -> Media | None:
        return replace(picture, url=None, data=picture.data or b"") if picture else None

    return replace(asked, image=held(asked.image), last_image=held(asked.last_image))


def _storage(parameters: Mapping[str, Any]) -> str | None:
    uri = text(parameters, "storageUri", 2000)
    if uri is not None and not _STORAGE.fullmatch(uri):
        raise invalid("storageUri: must be gs://bucket/folder/")
    return uri if uri is None or uri.endswith("/") else f"{uri}/"
