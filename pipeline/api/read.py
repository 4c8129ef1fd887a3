"""Reading and cancelling generations: one, a page of them, its timeline, its video."""

from __future__ import annotations

import base64
from datetime import datetime

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response

from pipeline import generations, timeline
from pipeline.api.auth import service_of, tenant_of
from pipeline.api.problems import Problem
from pipeline.db import Row
from pipeline.generations import Filters
from pipeline.lifecycle import TERMINAL, GenerationStatus
from pipeline.models import DEFAULT_TENANT
from pipeline.outbox import attempts, deliveries
from pipeline.schemas import generation_view, iso, timeline_view
from pipeline.storage import StorageError

LINK_SECONDS = 3600
MAX_PAGE = 100
NAMES = frozenset(
    {"limit", "after", "order", "status", "userId", "provider", "model", "errorCode", "generationId", "createdAfter", "createdBefore"}
)


async def one(request: Request) -> Response:
    """`GET /api/generations/{id}`."""
    service = service_of(request)
    row = await _find(request)
    headers = {} if row["status"] in TERMINAL else {"Retry-After": "1"}
    return JSONResponse(generation_view(row, service.links), headers=headers)


async def _find(request: Request, tenant: str | None = None) -> Row:
    tenant = tenant or tenant_of(request)
    reference = request.path_params["id"]
    row = await service_of(request).db.read(lambda tx: generations.find(tx, tenant, reference))
    if row is None:
        raise Problem(404, "not_found", f"there is no generation {reference!r}")
    return row


async def many(request: Request) -> Response:
    """`GET /api/generations`: newest first, pages by an opaque cursor."""
    tenant = tenant_of(request)
    service = service_of(request)
    filters, limit, after, oldest_first = _query(request)
    client_id = request.query_params.get("generationId")
    if client_id is not None:
        found = await service.db.read(lambda tx: generations.find(tx, tenant, client_id))
        rows = [] if found is None else [found]
    else:
        rows = await service.db.read(
            lambda tx: generations.page(tx, tenant, filters, limit=limit + 1, after=after, oldest_first=oldest_first)
        )
    more = len(rows) > limit
    rows = rows[:limit]
    cursor = _encode_cursor(rows[-1]["id"]) if more else None
    headers = {}
    if cursor is not None:
        headers["Link"] = f'<{request.url.include_query_params(after=cursor).replace(scheme="", netloc="")}>; rel="next"'
    body = {
        "object": "list",
        "data": [generation_view(row, service.links) for row in rows],
        "hasMore": more,
        "nextCursor": cursor,
    }
    return JSONResponse(body, headers=headers)


def _query(request: Request) -> tuple[Filters, int, str | None, bool]:
    given = request.query_params
    for name in given:
        if name not in NAMES and not name.startswith("metadata."):
            raise _bad(name, f"is not known; known are {', '.join(sorted(NAMES))} and metadata.KEY")
    statuses = tuple(part for part in given.get("status", "").split(",") if part)
    for status in statuses:
        if status not in set(GenerationStatus):
            raise _bad("status", f"{status!r} is none of {', '.join(GenerationStatus)}")
    order = given.get("order", "desc")
    if order not in {"asc", "desc"}:
        raise _bad("order", "is asc or desc")
    filters = Filters(
        statuses=statuses,
        user_id=given.get("userId"),
        provider=given.get("provider"),
        model=given.get("model"),
        error_code=given.get("errorCode"),
        created_after=_time(request, "createdAfter"),
        created_before=_time(request, "createdBefore"),
        metadata={name.removeprefix("metadata."): value for name, value in given.items() if name.startswith("metadata.")},
    )
    after = given.get("after")
    return filters, _limit(given.get("limit")), None if after is None else _decode_cursor(after), order == "asc"


def _bad(name: str, detail: str) -> Problem:
    return Problem(400, "invalid_parameter", f"{name} {detail}", errors=[{"parameter": name, "detail": detail}])


def _limit(text: str | None) -> int:
    if text is None:
        return 20
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= MAX_PAGE:
        raise _bad("limit", f"is a number from 1 to {MAX_PAGE}")
    return int(text)


def _time(request: Request, name: str) -> int | None:
    text = request.query_params.get(name)
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise ValueError("no offset")
        return int(moment.timestamp() * 1000)
    except (ValueError, OverflowError):
        raise _bad(name, "is a time like 2026-11-22T14:00:00Z") from None


def _encode_cursor(generation_id: str) -> str:
    return base64.urlsafe_b64encode(generation_id.encode()).decode().rstrip("=")


def _decode_cursor(text: str) -> str:
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode("ascii")
    except ValueError:
        raise _bad("after", "is no cursor of ours: take nextCursor of the page before") from None


async def cancel(request: Request) -> Response:
    """`POST /api/generations/{id}/cancel`: 200 when it has ended, 202 when the end is under way."""
    tenant = tenant_of(request)
    service = service_of(request)
    reference = request.path_params["id"]
    row = await service.db.write(lambda tx: generations.cancel(tx, tenant, reference, service.outbox))
    if row is None:
        raise Problem(404, "not_found", f"there is no generation {reference!r}")
    service.wake()
    return JSONResponse(generation_view(row, service.links), 200 if row["status"] in TERMINAL else 202)


async def events(request: Request) -> Response:
    """`GET /api/generations/{id}/events`: what happened so far, and how its webhooks fared."""
    service = service_of(request)
    row = await _find(request)
    lines = await service.db.read(lambda tx: timeline.read(tx, row["id"]))
    sent = await service.db.read(lambda tx: [(d, attempts(tx, d["id"])) for d in deliveries(tx, row["id"])])
    body = {
        "object": "timeline",
        "id": row["id"],
        "data": [timeline_view(line) for line in lines],
        "deliveries": [_delivery_view(delivery, tries) for delivery, tries in sent],
    }
    return JSONResponse(body)


def _delivery_view(delivery: Row, tries: list[Row]) -> dict[str, object]:
    return {
        "id": delivery["id"],
        "eventId": delivery["event_id"],
        "type": delivery["type"],
        "endpoint": delivery["endpoint_id"],
        "state": delivery["state"],
        "nextAttemptAt": iso(delivery["next_at"]),
        "lastError": delivery["last_error"],
        "attempts": [
            {
                "attempt": row["attempt"],
                "at": iso(row["at"]),
                "status": row["status"],
                "reason": row["reason"],
                "detail": row["detail"],
                "milliseconds": row["ms"],
                "response": row["response"],
            }
            for row in tries
        ],
    }


async def content(request: Request) -> Response:
    """`GET /api/generations/{id}/content`: 302 to a signed link of the bucket, or the bytes of a local file (with ranges)."""
    service = service_of(request)
    row = await _find(request, _reader(request))
    if row["status"] != GenerationStatus.COMPLETED:
        raise Problem(409, "not_ready", f"the generation is {row['status']}: there is no video")
    path = service.storage.local_path(row["video_key"])
    name = f"{row['id']}.mp4"
    if path is not None:
        if not path.is_file():
            raise Problem(410, "not_ready", "the file is gone from this machine's DATA_DIR")
        headers = {"Cache-Control": "private, max-age=3600", "Content-Disposition": f'inline; filename="{name}"'}
        return FileResponse(path, media_type="video/mp4", headers=headers)
    try:
        link = await service.storage.link(row["video_key"], expires=LINK_SECONDS)
    except StorageError as error:
        raise Problem(503, "storage_unavailable", str(error), headers={"Retry-After": "5"}, retryable=True) from None
    assert link is not None
    return RedirectResponse(link, 302, headers={"Cache-Control": "no-store"})


def _reader(request: Request) -> str:
    """The tenant of a caller with a key, or with a token of ours for this one video."""
    token = request.query_params.get("token")
    if token is None:
        return tenant_of(request)
    service = service_of(request)
    if not service.links.may_read(request.path_params["id"], token, service.clock.now()):
        raise Problem(401, "unauthorized", "the link has expired or was changed: read the generation for a fresh videoUrl")
    return DEFAULT_TENANT
