"""`extra`: members for the provider's own body, passed through as they are. Bounded, since they are stored and sent."""

from __future__ import annotations

import json
import math
from typing import Annotated, Any

from pydantic import AfterValidator, Field

MAX_BYTES = 16_384
MAX_DEPTH = 8
MAX_NUMBER = 2**63


def _extra(value: dict[str, Any]) -> dict[str, Any]:
    """JSON that every provider, and both databases, can read. Raises ValueError."""
    _look(value, 1)
    size = len(json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass"))
    if size > MAX_BYTES:
        raise ValueError(f"has {size} bytes as JSON; at most {MAX_BYTES} are taken")
    return value


def _look(value: object, depth: int) -> None:
    match value:
        case dict() | list() if depth > MAX_DEPTH:
            raise ValueError(f"is nested more than {MAX_DEPTH} deep")
        case dict():
            for name, member in value.items():
                _look(name, depth)
                if not name or name != name.strip():
                    raise ValueError("has a member without a name, or with a space at the end of its name")
                _look(member, depth + 1)
        case list():
            for item in value:
                _look(item, depth + 1)
        case str() if "\0" in value or not _is_text(value):
            raise ValueError("may contain neither the character U+0000 nor half characters")
        case float() if not math.isfinite(value):
            raise ValueError("holds a number that JSON has no word for")
        case int() if not -MAX_NUMBER < value < MAX_NUMBER:
            raise ValueError("holds a whole number of more than 64 bits")


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


Extra = Annotated[
    dict[str, Any],
    AfterValidator(_extra),
    Field(
        description=f"members for the provider's own body, laid over it; up to {MAX_BYTES} bytes, {MAX_DEPTH} deep."
        " What Dailies sets itself is refused"
    ),
]
