"""The dialects that the mock speaks, by name: one line each."""

from collections.abc import Mapping
from types import MappingProxyType

from providers.mock.dialect import Dialect
from providers.mock.dialects import (
    fal,
    google_omni,
    google_veo,
    luma,
    native,
    openai_videos,
    openrouter,
    replicate,
    runway,
)

_ALL = (
    native.DIALECT,
    luma.DIALECT,
    fal.DIALECT,
    google_omni.DIALECT,
    google_veo.DIALECT,
    openai_videos.DIALECT,
    openrouter.DIALECT,
    replicate.DIALECT,
    runway.DIALECT,
)

DIALECTS: Mapping[str, Dialect] = MappingProxyType({each.name: each for each in _ALL})
