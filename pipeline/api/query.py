"""Query strings: each parameter known and given once, pages by an opaque cursor."""

from __future__ import annotations

import base64
import re
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from pipeline.api.problems import Problem

MAX_PAGE = 100
_LIMIT = re.compile(r"[1-9][0-9]{0,2}", re.ASCII)


def bad(name: str, detail: str) -> Problem:
    """A parameter that cannot be taken."""
    return Problem(400, "invalid_parameter", f"{name} {detail}", errors=[{"parameter": name, "detail": detail}])


def once(request: Request, names: Collection[str], *, labels: bool = False) -> dict[str, str]:
    """The query's parameters, each known and given once; with `labels` also `metadata.KEY`. Raises Problem 400."""
    given: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name not in names and not (labels and name.startswith("metadata.")):
            listed = ", ".join(sorted(names)) + (" and metadata.KEY" if labels else "")
            raise bad(name[:100], f"is not known; known are {listed}" if names else "is not known: there are none")
        if name in given:
            raise bad(name[:100], "is given twice")
        given[name] = value
    return given


def one_of(given: Mapping[str, str], name: str, values: Collection[str]) -> str | None:
    """A parameter that is one of these, or None where it is left out. Raises Problem 400."""
    value = given.get(name)
    if value is not None and value not in values:
        raise bad(name, f"is one of {', '.join(values)}")
    return value


def limit_of(given: Mapping[str, str]) -> int:
    """How many to answer with: 20 unless asked otherwise. Raises Problem 400."""
    text = given.get("limit")
    if text is None:
        return 20
    if not _LIMIT.fullmatch(text) or int(text) > MAX_PAGE:
        raise bad("limit", f"is a number from 1 to {MAX_PAGE}")
    return int(text)


def time_of(given: Mapping[str, str], name: str) -> int | None:
    """A time in milliseconds since 1970. Raises Problem 400."""
    text = given.get(name)
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise ValueError("no offset")
        return int(moment.timestamp() * 1000)
    except (ValueError, OverflowError):
        raise bad(name, "is a time like 2026-11-22T14:00:00Z (a + has to be written %2B)") from None


def flag_of(given: Mapping[str, str], name: str) -> bool:
    """A parameter that is `true` or `false`, or left out. Raises Problem 400."""
    return one_of(given, name, ("true", "false")) == "true"


def encode_cursor(place: str) -> str:
    """A place in a list as clients hand it back."""
    return base64.urlsafe_b64encode(place.encode()).decode().rstrip("=")


def decode_cursor(text: str, pattern: re.Pattern[str], *, name: str = "after") -> str:
    """The place that a cursor names. Raises Problem 400 for what is none of ours."""
    try:
        found = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode("ascii")
    except ValueError:
        found = ""
    if not pattern.fullmatch(found):
        raise bad(name, "is no cursor of ours: take nextCursor of the page before")
    return found


def page(request: Request, data: list[dict[str, Any]], after: str | None) -> Response:
    """A page of a list. `after` is the place where it ends, or None when nothing follows."""
    cursor = None if after is None else encode_cursor(after)
    headers = {}
    if cursor is not None:
        asked = {**request.query_params, "after": cursor}
        headers["Link"] = f'<{request.url.path}?{urlencode(asked)}>; rel="next"'
    body = {"object": "list", "data": data, "hasMore": cursor is not None, "nextCursor": cursor}
    return JSONResponse(body, headers=headers)
