"""Is a request within what a provider can do, and what does it cost? Pure: answered before anything is paid."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from providers.base import Audio, Capabilities, Catalogue, Model, VideoRequest


@dataclass(frozen=True, slots=True)
class Problem:
    """A member that cannot be: `pointer` is its place, `allowed` what would be taken (if it can be listed)."""

    pointer: str
    detail: str
    allowed: Sequence[object] | None = None


def check(request: VideoRequest, capabilities: Capabilities) -> list[Problem]:
    """Everything that is wrong with a request, or an empty list.

    A model that the catalogue does not know is passed on: of its parameters nothing can be said (see `unknown_model`).
    """
    catalogue = capabilities.catalogue
    found = list(_extra(request.extra, capabilities.reserved))
    retired = catalogue.retired.get(request.model or "")
    if retired is not None:
        detail = f"{request.model!r} was shut down by its provider on {retired.on}; ask for {retired.successor!r}"
        return [Problem("/model", detail, [retired.successor]), *found]
    model = catalogue.models.get(request.model or catalogue.default_model)
    return found if model is None else [*_problems(request, model), *found]


def unknown_model(request: VideoRequest, catalogue: Catalogue) -> str | None:
    """A warning for people when the request's model is not in the catalogue, or None."""
    if request.model is None or request.model in catalogue.models or request.model in catalogue.retired:
        return None
    return (
        f"the model {request.model!r} is not in the catalogue of {catalogue.date}: it is passed on as it is, its"
        " parameters are not checked, and its price is taken to be the highest that is known"
    )


def settled(request: VideoRequest, catalogue: Catalogue) -> VideoRequest:
    """The request with its model named and the model's defaults filled in: what is priced is what is sent."""
    model = catalogue.models.get(request.model or catalogue.default_model)
    if model is None:
        return request
    return replace(
        request,
        model=model.id,
        duration=request.duration or model.default_duration,
        resolution=request.resolution or model.default_resolution,
    )


def list_price(request: VideoRequest, catalogue: Catalogue) -> int:
    """What the list price says, in micro-USD; never less than what is asked for may cost.

    Where the length or the resolution is not known the longest and the dearest count, and for a model that the
    catalogue does not know the dearest of all.
    """
    request = settled(request, catalogue)
    model = catalogue.models.get(request.model or catalogue.default_model)
    models = [model] if model else list(catalogue.models.values())
    per_second = max(_per_second(each, request.resolution) for each in models)
    longest = max((max(each.durations, default=0) for each in models), default=0)
    return per_second * (request.duration or longest)


def _per_second(model: Model, resolution: str | None) -> int:
    if resolution is None:
        return max(model.prices.values(), default=0)
    return model.prices.get(resolution, model.prices.get("*", max(model.prices.values(), default=0)))


def _problems(request: VideoRequest, can: Model) -> Iterator[Problem]:
    if len(request.prompt) > can.max_prompt:
        yield Problem("/prompt", f"has {len(request.prompt)} characters; {can.id} takes at most {can.max_prompt}")
    choices = (
        ("duration", request.duration, can.durations),
        ("aspectRatio", request.aspect_ratio, can.aspect_ratios),
        ("resolution", request.resolution, can.resolutions),
    )
    for name, value, allowed in choices:
        if value is not None and value not in allowed:
            yield Problem(f"/parameters/{name}", f"{value!r} is not offered by {can.id}", list(allowed))
    yield from _switches(request, can)


def _switches(request: VideoRequest, can: Model) -> Iterator[Problem]:
    image, last = request.image, request.last_image
    switches = (
        ("seed", request.seed is not None, can.seed),
        ("negativePrompt", request.negative_prompt is not None, can.negative_prompt),
        ("image/url", image is not None and image.url is not None, can.image_url),
        ("image/data", image is not None and image.data is not None, can.image_data),
        ("lastImage", last is not None, can.last_image),
        ("lastImage/url", last is not None and last.url is not None, can.image_url or not can.last_image),
        ("lastImage/data", last is not None and last.data is not None, can.image_data or not can.last_image),
    )
    for name, asked, offered in switches:
        if asked and not offered:
            yield Problem(f"/parameters/{name}", f"is not offered by {can.id}")
    sound = {Audio.NEVER: [False], Audio.ALWAYS: [True], Audio.OPTIONAL: [True, False]}[can.audio]
    if request.audio is not None and request.audio not in sound:
        yield Problem("/parameters/audio", f"{can.id} makes sound {can.audio}", sound)
    if can.needs_image and image is None:
        yield Problem("/parameters/image", f"{can.id} makes videos from a first picture only")


def _extra(extra: Mapping[str, Any], reserved: frozenset[str], at: str = "") -> Iterator[Problem]:
    """What is checked and priced is what is sent: `extra` adds to it and replaces nothing of it."""
    for name, value in extra.items():
        path = f"{at}{name}"
        within = any(place.startswith(f"{path}.") for place in reserved)
        if path in reserved or (within and not isinstance(value, Mapping)):
            yield Problem(f"/extra/{path.replace('.', '/')}", "is set by Dailies: use the request's own members")
        elif isinstance(value, Mapping):
            yield from _extra(value, reserved, f"{path}.")
