"""Is a request within what a provider can do, and what does it cost? Pure: answered before anything is paid."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

from providers.base import Audio, Capabilities, Catalogue, Model, VideoRequest
from providers.reserved import plain, refused


@dataclass(frozen=True, slots=True)
class Problem:
    """A member that cannot be: `pointer` is its place, `allowed` what would be taken (if it can be listed)."""

    pointer: str
    detail: str
    allowed: Sequence[object] | None = None


def check(request: VideoRequest, capabilities: Capabilities, allowed: frozenset[str] = frozenset()) -> list[Problem]:
    """Everything that is wrong with a request, or an empty list.

    `allowed` are names that `extra` may have although `providers.reserved` lists them; what the adapter sets itself
    is never among them.
    A model that the catalogue does not know is passed on: of its parameters nothing can be said (see `unknown_model`).
    """
    catalogue = capabilities.catalogue
    found = list(_look(request.extra, "/extra", "", _plain(capabilities.reserved), _plain(allowed)))
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

    Where the length or the resolution is not known the longest and the dearest count. For a model that the catalogue
    does not know it is the dearest of all, whatever resolution is named: that price is another model's.
    """
    request = settled(request, catalogue)
    model = catalogue.models.get(request.model or catalogue.default_model)
    if model is not None:
        return _price(request, model, _per_second(model, request.resolution), max(model.durations, default=0))
    models = list(catalogue.models.values())
    dearest = max(models, key=lambda each: each.per_image)
    longest = max(max(each.durations, default=0) for each in models)
    return _price(request, dearest, max(_per_second(each, None) for each in models), longest)


def _price(request: VideoRequest, model: Model, per_second: int, longest: int) -> int:
    pictures = sum(picture is not None for picture in (request.image, request.last_image))
    return per_second * (request.duration or longest) + model.per_image * pictures


def _per_second(model: Model, resolution: str | None) -> int:
    dearest = max(model.prices.values(), default=0)
    return dearest if resolution is None else model.prices.get(resolution, model.prices.get("*", dearest))


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


def _look(value: object, at: str, place: str, ours: frozenset[str], allowed: frozenset[str]) -> Iterator[Problem]:
    """What is checked and priced is what is sent: `extra` adds to it and replaces nothing of it."""
    if isinstance(value, Mapping):
        for name, below in value.items():
            pointer, path = f"{at}/{_escaped(name)}", f"{place}{plain(name)}"
            problem = _member(name, path, below, ours, allowed)
            if problem is not None:
                yield Problem(pointer, problem)
            else:
                yield from _look(below, pointer, f"{path}.", ours, allowed)
    elif isinstance(value, list | tuple):
        for index, below in enumerate(value):
            yield from _look(below, f"{at}/{index}", place, ours, allowed)


def _member(name: str, path: str, value: object, ours: frozenset[str], allowed: frozenset[str]) -> str | None:
    """What is wrong with a member, itself and not what is in it."""
    if not name or name != name.strip():
        return "has no name, or one with a space at its end"
    if path in ours or (not isinstance(value, Mapping) and any(each.startswith(f"{path}.") for each in ours)):
        return "is set by Dailies: use the request's own members"
    why = None if plain(name) in allowed else refused(name)
    return why and f"{why}; the operator of this service can allow it"


@cache
def _plain(names: frozenset[str]) -> frozenset[str]:
    return frozenset(map(plain, names))


def _escaped(name: str) -> str:
    """As JSON pointers write it (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")
