"""Putting a request's `extra` into a provider's body. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def merged(body: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """The body with `extra` laid over it, objects member by member, all else as a whole. Neither is changed."""
    result = dict(body)
    for name, value in extra.items():
        below = result.get(name)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        result[name] = merged(below, value) if both and below is not None else value
    return result
