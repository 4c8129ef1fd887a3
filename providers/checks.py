"""Is a request within what a provider can do? Pure: refused here, before anything is paid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from providers.base import Capabilities, VideoRequest


@dataclass(frozen=True, slots=True)
class Problem:
    """A member that cannot be: `pointer` is its place, `allowed` what would be taken (if it can be listed)."""

    pointer: str
    detail: str
    allowed: Sequence[object] | None = None


def check(request: VideoRequest, capabilities: Capabilities) -> list[Problem]:
    """Everything that is wrong with a request, or an empty list."""
    return list(_problems(request, capabilities))


def list_price(can: Capabilities, duration: int | None) -> int:
    """What the list price says, in micro-USD. For a length that was not asked for, that of the provider's usual one,
    or, where that is not known, of the longest: what is quoted is not exceeded.
    """
    return can.price_micros_per_second * (duration or can.default_duration or max(can.durations, default=0))


def _problems(request: VideoRequest, can: Capabilities) -> Iterator[Problem]:
    if len(request.prompt) > can.max_prompt:
        yield Problem("/prompt", f"has {len(request.prompt)} characters; at most {can.max_prompt} are taken")
    if request.model is not None and request.model not in can.models:
        yield Problem("/model", f"{request.model!r} is not a model of this provider", list(can.models))
    choices = (
        ("duration", request.duration, can.durations),
        ("aspectRatio", request.aspect_ratio, can.aspect_ratios),
        ("resolution", request.resolution, can.resolutions),
    )
    for name, value, allowed in choices:
        if value is not None and value not in allowed:
            yield Problem(f"/parameters/{name}", f"{value!r} is not offered by this model", list(allowed))
    image = request.image
    switches = (
        ("seed", request.seed is not None, can.seed),
        ("audio", bool(request.audio), can.audio),
        ("negativePrompt", request.negative_prompt is not None, can.negative_prompt),
        ("image/url", image is not None and image.url is not None, can.image_url),
        ("image/data", image is not None and image.data is not None, can.image_data),
    )
    for name, asked, offered in switches:
        if asked and not offered:
            yield Problem(f"/parameters/{name}", "is not offered by this provider")
