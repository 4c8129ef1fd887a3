"""What dialects read of a request's JSON, member by member. Pure; a wrong one is Refusal 400, naming it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from providers.mock.order import Refusal


def invalid(message: str) -> Refusal:
    """The refusal of a request that is not valid."""
    return Refusal(400, "invalid_request", message)


def text(raw: Mapping[str, Any], name: str, longest: int = 100_000) -> str | None:
    """A text of at most so many characters, or None where there is none. Raises Refusal."""
    value = raw.get(name)
    if value is not None and not (isinstance(value, str) and len(value) <= longest and _writable(value)):
        raise invalid(f"{name}: expected a string of at most {longest} characters")
    return value


def whole(raw: Mapping[str, Any], name: str, least: int = 0, most: int = 2**32 - 1) -> int | None:
    """A whole number within bounds, or None where there is none. Raises Refusal."""
    value = raw.get(name)
    if value is not None and (type(value) is not int or not least <= value <= most):
        raise invalid(f"{name}: expected a whole number from {least} to {most}")
    return value


def flag(raw: Mapping[str, Any], name: str) -> bool | None:
    """True, false, or None where there is none. Raises Refusal."""
    value = raw.get(name)
    if not isinstance(value, bool | None):
        raise invalid(f"{name}: expected true or false")
    return value


def _writable(given: str) -> bool:
    """JSON can carry half of a surrogate pair, which no database takes."""
    return given.isascii() or not any("\ud800" <= char <= "\udfff" for char in given)
