"""Catalogues: what a provider's models can do and cost, read from `providers/catalogues/<name>.toml`.

A catalogue is data with a date. Its form::

    date = "2026-11-22"                  # when its facts were gathered
    default_model = "fox-2"
    poll_seconds = 5                     # the provider's minimum between two looks
    [defaults]                           # what holds for every model that does not say otherwise; all keys optional
    aspect_ratios = ["16:9", "9:16"]
    [models."fox-2"]
    durations = [4, 6, 8]                # or a range: { min = 3, max = 15 }
    resolutions = ["720p", "1080p"]
    default_duration = 8
    default_resolution = "720p"
    audio = "optional"                   # never, always or optional
    seed = true                          # also: negative_prompt, image_url, image_data, last_image, needs_image
    max_prompt = 4000
    typical_seconds = 90
    per_image = "0.01"                   # USD beside the seconds for each input picture, as text
    [models."fox-2".prices]              # USD per second of video, as text, by resolution; "*" for all others
    "720p" = "0.10"
    "*" = "0.15"
    [retired."fox-1"]
    on = "2026-10-22"
    successor = "fox-2"
    [native]                             # the adapter's own: facts that only its provider has words for
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from decimal import Decimal
from functools import cache
from importlib.resources import files
from typing import Any

from providers.base import Audio, Catalogue, Model, Retired

_MICROS = 1_000_000
_DOCUMENT_KEYS = {"date", "default_model", "poll_seconds", "play_money", "defaults", "models", "retired", "native"}
_MODEL_KEYS = {field.name for field in fields(Model)} - {"id"}


@cache
def load_catalogue(provider: str) -> Catalogue:
    """The catalogue of a provider. Raises ValueError, naming the place, when the file is wrong."""
    return read_catalogue(_document(provider))


@cache
def load_native(provider: str) -> Mapping[str, Any]:
    """The table `native` of a provider's catalogue, as it stands there: for its adapter alone."""
    native: Mapping[str, Any] = _document(provider).get("native", {})
    return native


def native_of(provider: str, model: str) -> dict[str, Any]:
    """What `native` says of one model, where its tables are named by the beginnings of ids: the longest counts last."""
    native = load_native(provider)
    beginnings = sorted((name for name in native if model.startswith(name)), key=len)
    return {name: value for beginning in beginnings for name, value in native[beginning].items()}


def _document(provider: str) -> Mapping[str, Any]:
    return tomllib.loads(files("providers").joinpath("catalogues", f"{provider}.toml").read_text("utf-8"))


def read_catalogue(document: Mapping[str, Any]) -> Catalogue:
    """A catalogue from a parsed file. Raises ValueError, naming the place, for anything that is missing or unknown."""
    unknown = set(document) - _DOCUMENT_KEYS
    if unknown:
        raise ValueError(f"a catalogue does not know {', '.join(sorted(unknown))}")
    defaults = document.get("defaults", {})
    models = {name: _model(name, {**defaults, **entry}) for name, entry in document["models"].items()}
    retired = {name: Retired(entry["on"], entry["successor"]) for name, entry in document.get("retired", {}).items()}
    catalogue = Catalogue(
        date=document["date"],
        default_model=document["default_model"],
        models=models,
        retired=retired,
        poll_seconds=float(document.get("poll_seconds", 5.0)),
        play_money=bool(document.get("play_money", False)),
    )
    _require_known([catalogue.default_model, *(entry.successor for entry in retired.values())], models)
    return catalogue


def _require_known(names: Sequence[str], models: Mapping[str, Model]) -> None:
    for name in names:
        if name not in models:
            raise ValueError(f"{name!r} is no model of this catalogue")


def _model(name: str, entry: Mapping[str, Any]) -> Model:
    unknown = set(entry) - _MODEL_KEYS
    if unknown:
        raise ValueError(f"{name}: a model does not know {', '.join(sorted(unknown))}")
    model = Model(
        id=name,
        **{
            **entry,
            "durations": _durations(entry.get("durations", ())),
            "aspect_ratios": tuple(entry.get("aspect_ratios", ())),
            "resolutions": tuple(entry.get("resolutions", ())),
            "audio": Audio(entry.get("audio", Audio.NEVER)),
            "per_image": _micros(entry.get("per_image", "0")),
            "prices": {key: _micros(price) for key, price in entry.get("prices", {}).items()},
        },
    )
    _require_consistent(model)
    return model


def _require_consistent(model: Model) -> None:
    for value, allowed in (
        (model.default_duration, model.durations),
        (model.default_resolution, model.resolutions),
    ):
        if value is not None and value not in allowed:
            raise ValueError(f"{model.id}: the default {value!r} is not among what is offered")
    if not model.durations:
        raise ValueError(f"{model.id}: has a price for a second, and no length that it could be multiplied by")
    priced = set(model.prices) - {"*"}
    if not priced <= set(model.resolutions):
        raise ValueError(f"{model.id}: has prices for resolutions that it does not offer")
    if not model.prices or ("*" not in model.prices and priced != set(model.resolutions)):
        raise ValueError(f"{model.id}: has no price for some of what it offers")


def _durations(given: Sequence[int] | Mapping[str, int]) -> Sequence[int]:
    return range(given["min"], given["max"] + 1) if isinstance(given, Mapping) else tuple(given)


def _micros(usd: str) -> int:
    """Micro-USD of an amount in USD written as text, such as "0.40". Raises ValueError for fractions of a micro-USD."""
    micros = Decimal(usd) * _MICROS
    if micros != micros.to_integral_value() or micros < 0:
        raise ValueError(f"{usd!r} is no price in USD")
    return int(micros)
