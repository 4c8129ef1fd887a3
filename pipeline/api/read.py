"""Reading and cancelling generations: one, a page of them."""

from __future__ import annotations

import hashlib
import re

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from pipeline import generations
from pipeline.api.auth import CHALLENGE, require, service_of, tenant_over
from pipeline.api.problems import Problem
from pipeline.api.query import bad, decode_cursor, flag_of, limit_of, once, one_of, page, time_of
from pipeline.api.waiting import asked_seconds, until_ended
from pipeline.credentials import Scope
from pipeline.db import Row
from pipeline.generations import Filters
from pipeline.lifecycle import TERMINAL, GenerationStatus, Stage
from pipeline.schemas import generation_view

PATH = "/api/generations"
MAX_LABELS = 16
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
        "deleted",
    }
)


RETRY_AFTER = {Stage.WAITING: 2, Stage.SUBMITTING: 1, Stage.GENERATING: 3, Stage.HELD: 5, Stage.STORING: 1}
"""Seconds after which asking again may show something new, by stage."""


async def one(request: Request) -> Response:
    """`GET /api/generations/{id}`: as it is, or with `Prefer: wait` once it has ended; 304 for who has it so."""
    service = service_of(request)
    row, seconds = await visible(request), asked_seconds(request)
    headers = {"Cache-Control": "private, no-cache"}
    if seconds is not None:
        row = not_deleted(await until_ended(request, row, seconds))
        headers["Preference-Applied"] = f"wait={seconds}"
    if row["status"] not in TERMINAL:
        headers["Retry-After"] = str(RETRY_AFTER.get(row["stage"], 2))
    response = JSONResponse(generation_view(row, service.links), headers=headers)
    tag = hashlib.blake2b(bytes(response.body), digest_size=12).hexdigest()
    headers["ETag"] = response.headers["ETag"] = f'W/"{tag}"'
    if matches(request.headers.get("if-none-match"), tag):
        return Response(status_code=304, headers=headers)
    return response


def matches(tags: str | None, current: str) -> bool:
    """Whether If-None-Match names this tag, compared weakly (RFC 9110 13.1.2). Of what is shown nothing is left out of
    it: a time alone would miss a second change within its millisecond."""
    if tags is None:
        return False
    return tags.strip() == "*" or current in {tag.strip().removeprefix("W/").strip('"') for tag in tags.split(",")}


async def visible(request: Request, *, by_video_link: bool = False) -> Row:
    """The generation that the path names by either id, for a key with the scope `read` or a read token for this one.

    The token of a video's link opens nothing but the video. Raises Problem 401, 403, 404 or 410.
    """
    service, reference = service_of(request), request.path_params["id"]
    token = request.query_params.get("token")
    if token is not None:
        row = await service.db.read(lambda tx: generations.find_any(tx, reference))
        opens = service.links.may_play if by_video_link else service.links.may_watch
        if row is None or not opens(row["id"], token, service.clock.now()):
            detail = "the link has expired or was changed: read the generation for a fresh one"
            raise Problem(401, "unauthorized", detail, headers=CHALLENGE)
        return not_deleted(row)
    tenant = await tenant_over(request, Scope.READ)
    row = await service.db.read(lambda tx: generations.find(tx, tenant, reference))
    if row is None:
        raise Problem(404, "not_found", f"there is no generation {reference!r}")
    return not_deleted(row)


def not_deleted(row: Row) -> Row:
    """The row itself. Raises Problem 410 for a tombstone."""
    if row["deleted_at"] is not None:
        raise gone(row)
    return row


def gone(row: Row) -> Problem:
    """It was deleted: nothing of it can be read or done any more."""
    return Problem(410, "gone", f"the generation {row['id']} was deleted", existing_id=row["id"])


async def many(request: Request) -> Response:
    """`GET /api/generations`: newest first, pages by an opaque cursor."""
    tenant = (await require(request, Scope.READ)).tenant
    service = service_of(request)
    filters, limit, after, oldest_first = _query(request)
    rows = await service.db.read(
        lambda tx: generations.page(tx, tenant, filters, limit=limit + 1, after=after, oldest_first=oldest_first)
    )
    data = [generation_view(row, service.links) for row in rows[:limit]]
    return page(request, data, rows[limit - 1]["id"] if len(rows) > limit else None)


def _query(request: Request) -> tuple[Filters, int, str | None, bool]:
    """Filters, limit, the id to go on behind, and whether the oldest come first. Raises Problem 400."""
    given = once(request, NAMES, labels=True)
    labels = {name.removeprefix("metadata."): value for name, value in given.items() if name.startswith("metadata.")}
    if len(labels) > MAX_LABELS:
        raise bad("metadata", f"narrows by at most {MAX_LABELS} members")
    order = one_of(given, "order", ("asc", "desc")) or "desc"
    filters = Filters(
        reference=given.get("generationId"),
        statuses=_statuses(given.get("status")),
        user_id=given.get("userId"),
        provider=given.get("provider"),
        model=given.get("model"),
        error_code=given.get("errorCode"),
        created_after=time_of(given, "createdAfter"),
        created_before=time_of(given, "createdBefore"),
        metadata=labels,
        deleted=flag_of(given, "deleted"),
    )
    after = given.get("after")
    return filters, limit_of(given), None if after is None else decode_cursor(after, _CURSOR), order == "asc"


def _statuses(text: str | None) -> tuple[str, ...]:
    if text is None:
        return ()
    statuses = tuple(text.split(","))
    for status in statuses:
        if status not in set(GenerationStatus):
            raise bad("status", f"{status[:100]!r} is none of {', '.join(GenerationStatus)}")
    return statuses


async def cancel(request: Request) -> Response:
    """`POST /api/generations/{id}/cancel`: 200 when it has ended, 202 when the end is under way."""
    tenant = await tenant_over(request, Scope.SUBMIT)
    service = service_of(request)
    reference = request.path_params["id"]
    row = await service.db.write(lambda tx: generations.cancel(tx, tenant, reference, service.outbox))
    if row is None:
        raise Problem(404, "not_found", f"there is no generation {reference!r}")
    not_deleted(row)
    service.wake()
    return JSONResponse(generation_view(row, service.links), 200 if row["status"] in TERMINAL else 202)
