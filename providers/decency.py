"""What of strangers' words is fit to be kept: in any database, in a log line, in an address. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

MAX_MESSAGE = 500
MAX_DATA = 16_384
"""Characters of an operation's data as JSON."""
_TYPE = re.compile(r"[A-Za-z0-9][!-~]{0,49}/[!-~][ -~]{0,99}")


def clean(text: str) -> str:
    """Words as any database takes them: no NUL, no half characters, at most MAX_MESSAGE of them."""
    return text[:MAX_MESSAGE].encode("utf-8", "replace").decode().replace("\x00", "")


def decent_members(data: Mapping[str, Any]) -> dict[str, Any]:
    """The members whose texts are printable, in their order, as long as there is room for them in MAX_DATA."""
    kept: dict[str, Any] = {}
    room = MAX_DATA
    for name, value in data.items():
        length = len(json.dumps({name: value}))
        if (not isinstance(value, str) or value.isprintable()) and length <= room:
            kept[name], room = value, room - length
    return kept


def is_media_type(text: str) -> bool:
    """Whether it looks like `video/mp4`, perhaps with parameters."""
    return _TYPE.fullmatch(text) is not None
