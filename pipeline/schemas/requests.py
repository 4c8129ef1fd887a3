"""Request bodies: camelCase on the wire, unknown members refused, since a typo costs money."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from functools import cached_property
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    RootModel,
    StringConstraints,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic.fields import FieldInfo

from pipeline.db import Row
from pipeline.schemas.extra import Extra
from providers.base import Media, VideoRequest
from webhooks.events import EventType

OUR_PREFIX = "gen_"
_CLIENT_ID = re.compile(r"[A-Za-z0-9._:@+-]{1,128}\Z")
IMAGE_TYPES = ("image/png", "image/jpeg", "image/webp")
_MAGIC = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}


def _storable(value: str) -> str:
    """PostgreSQL keeps no U+0000 in text, so that no engine is given one."""
    if "\0" in value:
        raise ValueError("may not contain the character U+0000")
    return value


def _shown(**keywords: object) -> FieldInfo:
    """Keywords for the OpenAPI document that say what a validator of ours checks with better words."""
    return Field(json_schema_extra=keywords)  # type: ignore[arg-type, no-any-return]


_Storable = AfterValidator(_storable)
_NO_NUL = r"^[^\u0000]*$"
Short = Annotated[str, StringConstraints(min_length=1, max_length=128), _Storable, _shown(pattern=_NO_NUL)]
LaneName = Annotated[str, StringConstraints(min_length=1, max_length=140), _Storable, _shown(pattern=_NO_NUL)]
"""One of `Short` behind its kind, such as `user:ID`."""
Words = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=20_000),
    _Storable,
    _shown(pattern=r"^[^\u0000]*[^\s\u0000][^\u0000]*$"),
]
Url = Annotated[str, StringConstraints(min_length=8, max_length=2048, pattern=r"^https?://[^\s\x00-\x1f\x7f]+$")]


def _whole(value: object) -> object:
    """8.0 is 8, as JSON Schema has it and as every JavaScript client writes it."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = BeforeValidator(_whole)


class Body(BaseModel):
    """Strict on types (`"8"` is not 8) and on names."""

    model_config = ConfigDict(extra="forbid", strict=True, alias_generator=to_camel, frozen=True)


_QUAD = "[A-Za-z0-9+/]"
_REST = f"(?:{_QUAD}{{4}})*(?:{_QUAD}{{2}}==|{_QUAD}{{3}}=)?$"
_BASE64 = {
    "image/png": f"^iVBORw0KGg(?:[o-r]=|[o-r]{_QUAD}){_REST}",
    "image/jpeg": f"^(?:/9j/){_REST}",
    "image/webp": f"^UklGR[g-v]{_QUAD}{{2}}{_QUAD}{{2}}[BFJNRVZdhlptx159]XRUJQ{_REST}",
}
"""How a picture of each type looks in base64: its first bytes, then anything."""


def _either(schema: dict[str, Any]) -> None:
    """A picture by its address, or bytes of one of three types."""
    null, text = {"type": "null"}, {"type": "string"}
    ways: list[dict[str, Any]] = [
        {"title": "ByAddress", "required": ["url"], "properties": {"url": text, "data": null}},
    ]
    for kind, pattern in _BASE64.items():
        members = {"url": null, "data": {"type": "string", "pattern": pattern}, "mimeType": {"const": kind}}
        title = kind.removeprefix("image/").capitalize()
        ways.append({"title": title, "required": ["data", "mimeType"], "properties": members})
    schema["oneOf"] = ways


class ImageInput(Body):
    """A picture to begin or end with: `url`, or `data` (base64, up to 20 MB) with its `mimeType`."""

    model_config = ConfigDict(json_schema_extra=_either)

    url: Url | None = None
    data: Annotated[str, Field(description="base64 of a PNG, JPEG or WebP")] | None = None
    mime_type: Annotated[str, _shown(enum=list(IMAGE_TYPES))] | None = None

    @model_validator(mode="after")
    def _one_of_two(self) -> ImageInput:
        if (self.url is None) == (self.data is None):
            raise ValueError("give either url or data")
        if self.mime_type not in (IMAGE_TYPES if self.data is not None else (None, *IMAGE_TYPES)):
            raise ValueError(f"mimeType must be one of {', '.join(IMAGE_TYPES)} when data is given")
        return self

    def decode(self) -> bytes:
        """The picture's bytes. Raises ValueError when they are not base64 or not of the announced type."""
        try:
            data = base64.b64decode(self.data or "", validate=True)
        except (binascii.Error, ValueError):
            raise ValueError("is not base64") from None
        found = next((kind for magic, kind in _MAGIC.items() if data.startswith(magic)), None)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            found = "image/webp"
        if found != self.mime_type:
            raise ValueError(
                f"does not hold what mimeType says ({self.mime_type}); it looks like {found or 'no picture'}"
            )
        return data


class Parameters(Body):
    """How the video should be. What a provider does not offer is refused with what it does."""

    duration: Annotated[int, Field(ge=1, le=100_000), Whole] | None = None
    aspect_ratio: Short | None = None
    resolution: Short | None = None
    seed: Annotated[int, Field(ge=0, le=2**32 - 1), Whole] | None = None
    audio: bool | None = None
    negative_prompt: Words | None = None
    image: Annotated[ImageInput | None, Field(description="the first frame")] = None
    last_image: Annotated[ImageInput | None, Field(description="the last frame, where a model takes one")] = None


class TokenCreate(Body):
    """How long a read token opens its generation, in seconds."""

    expires_in: Annotated[int, Field(ge=1, le=3600), Whole] = 600


class WebhookInput(Body):
    """Where the events of this one generation should go besides the default endpoint; only hosts in WEBHOOK_HOSTS."""

    url: Url
    events: (
        Annotated[list[Annotated[Short, _shown(enum=list(EventType))]], Field(min_length=1, max_length=20)] | None
    ) = None


MAX_FALLBACKS = 5


class FallbackInput(Body):
    """Another provider, asked instead once the one before surely did not take the work, or failed at no charge."""

    provider: Short
    model: Short | None = None
    extra: Extra = Field(default_factory=dict)


class GenerationCreate(Body):
    """A request for a video."""

    prompt: Words
    user_id: Short | None = None
    provider: Short | None = None
    model: Short | None = None
    extra: Extra = Field(default_factory=dict)
    fallback: (
        Annotated[
            list[FallbackInput],
            Field(max_length=MAX_FALLBACKS, description="asked in this order; [] is none, not even the service's own"),
        ]
        | None
    ) = None
    parameters: Parameters = Field(default_factory=Parameters)
    priority: Annotated[int, Field(ge=1, le=10, description="1 is highest"), Whole] = 5
    metadata: Annotated[
        dict[
            Annotated[str, StringConstraints(min_length=1, max_length=64), _Storable],
            Annotated[str, StringConstraints(max_length=500), _Storable, _shown(pattern=_NO_NUL)],
        ],
        Field(max_length=16),
        _shown(propertyNames={"minLength": 1, "maxLength": 64, "pattern": _NO_NUL}),
    ] = Field(default_factory=dict)
    generation_id: (
        Annotated[str, _shown(pattern=r"^(?!gen_)(?!\.+$)[A-Za-z0-9._:@+-]{1,128}$", description="the app's own id")]
        | None
    ) = None
    webhook: WebhookInput | None = None

    @field_validator("generation_id")
    @classmethod
    def _client_id(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if value.startswith(OUR_PREFIX):
            raise ValueError(f"may not start with {OUR_PREFIX}, which marks our own ids")
        if not _CLIENT_ID.match(value) or not value.strip("."):
            raise ValueError("takes 1 to 128 letters, digits and . _ : @ + -, not only dots")
        return value

    @cached_property
    def fingerprint(self) -> str:
        """What makes two requests the same: a hash over everything that was asked.

        A member left out is the same as its default, so that members which later versions add change no old hash.
        """
        asked = self.model_dump(mode="json", exclude_defaults=True)
        for name in ("image", "last_image"):
            image = asked.get("parameters", {}).get(name)
            if image is not None and "data" in image:
                image["data"] = hashlib.sha256(image["data"].encode()).hexdigest()
        canonical = json.dumps(asked, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def stored_parameters(self) -> dict[str, object]:
        """The parameters as they are kept and shown: a picture given as bytes is named, not repeated."""
        values = self.parameters.model_dump(by_alias=True, exclude_none=True)
        for name in ("image", "lastImage"):
            if "data" in values.get(name, {}):
                values[name] = {"mimeType": values[name]["mimeType"]}
        return values

    def video_request(self, image: bytes | None, last_image: bytes | None = None) -> VideoRequest:
        """The same in the providers' words, as the first of them is asked."""
        asked = self.parameters
        return VideoRequest(
            prompt=self.prompt,
            model=self.model,
            duration=asked.duration,
            aspect_ratio=asked.aspect_ratio,
            resolution=asked.resolution,
            seed=asked.seed,
            audio=asked.audio,
            negative_prompt=asked.negative_prompt,
            image=_media(asked.image, image),
            last_image=_media(asked.last_image, last_image),
            extra=self.extra,
        )


def _media(given: ImageInput | None, data: bytes | None) -> Media | None:
    return None if given is None else Media(url=given.url, data=data, mime_type=given.mime_type)


MAX_BATCH = 100


class GenerationRequest(
    RootModel[GenerationCreate | Annotated[list[GenerationCreate], Field(min_length=1, max_length=MAX_BATCH)]]
):
    """A request for a video, or several at once: each of them is answered for itself."""

    # For the document alone: an array is cut into its items first, so that a bad one does not hinder the others.


def video_request(row: Row, image: bytes | None = None, last_image: bytes | None = None) -> VideoRequest:
    """The providers' request of a stored generation, for the candidate whose turn it is; `image` and `last_image` are
    the bytes under its `input_key` and `last_input_key`, if it has them."""
    asked = json.loads(row["parameters"])
    return VideoRequest(
        prompt=row["prompt"],
        model=row["model"],
        duration=asked.get("duration"),
        aspect_ratio=asked.get("aspectRatio"),
        resolution=asked.get("resolution"),
        seed=asked.get("seed"),
        audio=asked.get("audio"),
        negative_prompt=asked.get("negativePrompt"),
        image=_stored_media(asked.get("image"), image, row["input_type"]),
        last_image=_stored_media(asked.get("lastImage"), last_image, row["last_input_type"]),
        extra=json.loads(row["extra"]),
    )


def _stored_media(shown: dict[str, Any] | None, data: bytes | None, kind: str | None) -> Media | None:
    if shown is None:
        return None
    return Media(url=shown.get("url"), data=data, mime_type=kind or shown.get("mimeType"))
