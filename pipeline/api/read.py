"""Reading and cancelling generations: one, a page of them."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from datetime import datetime
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from pipeline import generations
from pipeline.api.auth import CHALLENGE, require, service_of
from pipeline.api.problems import Problem
from pipeline.credentials import Scope
from pipeline.db import Row
from pipeline.generations import Filters
from pipeline.lifecycle import TERMINAL, GenerationStatus
from pipeline.schemas import generation_view

PATH = "/api/generations"
MAX_PAGE = 100
MAX_LABELS = 16
_LIMIT = re.compile(r"[1-9][0-9]{0,2}", re.ASCII)
_CURSOR = re.compile(r"gen_[0-9A-Za-z]{1,60}")
NAMES = frozenset(
    {
        "limit",
        "after",
        "order",
        "status",
        "userId",
        "provider",
        "model",
        "errorCode",
        "generationId",
        "createdAfter",
        "createdBefore",
    }
)


async def one(request: Request) -> Response:
    """`GET /api/generations/{id}`."""
    service = service_of(request)
    row = await visible(request)
    headers = {} if row["status"] in TERMINAL else {"Retry-After": "1"}
    return JSONResponse(generation_view(row, service.links), headers=headers)


async def visible(request: Request, *, by_video_link: bool = False) -> Row:
    """The generation that the path names by either id, for a key with the scope `read` or a read token for this one.

    The token of a video's link opens nothing but the video. Raises Problem 401, 403 or 404.
    """
    service, reference = service_of(request), request.path_params["id"]
    token = request.query_params.get("token")
    if token is not None:
        row = await service.db.read(lambda tx: generations.find_any(tx, reference))
        opens = service.links.may_play if by_video_link else service.links.may_watch
        if row is None or not opens(row["id"], token, service.clock.now()):
            detail = "the link has expired or was changed: read the generation for a fresh one"
            raise Problem(401, "unauthorized", detail, headers=CHALLENGE)
        return row
    tenant = (await require(request, Scope.READ)).tenant
    row = await service.db.read(lambda tx: generations.find(tx, tenant, reference))
    if row is None:
        raise Problem(404, "not_found", f"there is no generation {reference!r}")
    return row


async def many(request: Request) -> Response:
    """`GET /api/generations`: newest first, pages by an opaque cursor."""
    tenant = (await require(request, Scope.READ)).tenant
    service = service_of(request)
    filters, limit, after, oldest_first = _query(request)
    rows = await service.db.read(
        lambda tx: generations.page(tx, tenant, filters, limit=limit + 1, after=after, oldest_first=oldest_first)
    )
    more = len(rows) > limit
    rows = rows[:limit]
    cursor = _encode_cursor(rows[-1]["id"]) if more else None
    headers = {}
    if cursor is not None:
        asked = {**request.query_params, "after": cursor}
        headers["Link"] = f'<{PATH}?{urlencode(asked)}>; rel="next"'
    body = {
        "object": "list",
        "data": [generation_view(row, service.links) for row in rows],
        "hasMore": more,
        "nextCursor": cursor,
    }
    return JSONResponse(body, headers=headers)


def _query(request: Request) -> tuple[Filters, int, str | None, bool]:
    """Filters, limit, the id to go on behind, and whether the oldest come first. Raises Problem 400."""
    given = _once(request)
    labels = {name.removeprefix("metadata."): value for name, value in given.items() if name.startswith("metadata.")}
    if len(labels) > MAX_LABELS:
        raise _bad("metadata", f"narrows by at most {MAX_LABELS} members")
    order = given.get("order", "desc")
    if order not in {"asc", "desc"}:
        raise _bad("order", "is asc or desc")
    filters = Filters(
        reference=given.get("generationId"),
        statuses=_statuses(given.get("status")),
        user_id=given.get("userId"),
        provider=given.get("provider"),
        model=given.get("model"),
        error_code=given.get("errorCode"),
        created_after=_time(given, "createdAfter"),
        created_before=_time(given, "createdBefore"),
        metadata=labels,
    )
    after = given.get("after")
    return filters, _limit(given.get("limit")), None if after is None else _decode_cursor(after), order == "asc"


def _once(request: Request) -> dict[str, str]:
    """The query's parameters, each known and given once."""
    given: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name not in NAMES and not name.startswith("metadata."):
            raise _bad(name[:100], f"is not known; known are {', '.join(sorted(NAMES))} and metadata.KEY")
        if name in given:
            raise _bad(name[:100], "is given twice")
        given[name] = value
    return given


def _statuses(text: str | None) -> tuple[str, ...]:
    if text is None:
        return ()
    statuses = tuple(text.split(","))
    for status in statuses:
        if status not in set(GenerationStatus):
            raise _bad("status", f"{status[:100]!r} is none of {', '.join(GenerationStatus)}")
    return statuses


def _bad(name: str, detail: str) -> Problem:
    return Problem(400, "invalid_parameter", f"{name} {detail}", errors=[{"parameter": name, "detail": detail}])


def _limit(text: str | None) -> int:
    if text is None:
        return 20
    if not _LIMIT.fullmatch(text) or int(text) > MAX_PAGE:
        raise _bad("limit", f"is a number from 1 to {MAX_PAGE}")
    return int(text)


def _time(given: Mapping[str, str], name: str) -> int | None:
    text = given.get(name)
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise ValueError("no offset")
        return int(moment.timestamp() * 1000)
    except (ValueError, OverflowError):
        raise _bad(name, "is a time like 2026-11-22T14:00:00Z (a + has to be written %2B)") from None


def _encode_cursor(generation_id: str) -> str:
    return base64.urlsafe_b64encode(generation_id.encode()).decode().rstrip("=")


def _decode_cursor(text: str) -> str:
    try:
        found = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode("ascii")
    except ValueError:
        found = ""
    if not _CURSOR.fullmatch(found):
        raise _bad("after", "is no cursor of ours: take nextCursor of the page before")
    return found


async def cancel(request: Request) -> Response:
    """`POST /api/generations/{id}/cancel`: 200 when it has ended, 202 when the end is under way."""
    tenant = (await require(request, Scope.SUBMIT)).tenant
    service = service_of(request)
    reference = request.path_params["id"]
    row = await service.db.write(lambda tx: generations.cancel(tx, tenant, reference, service.outbox))
    if row is None:
        raise Problem(404, "not_found", f"there is no generation {reference!r}")
    service.wake()
    return JSONResponse(generation_view(row, service.links), 200 if row["status"] in TERMINAL else 202)
