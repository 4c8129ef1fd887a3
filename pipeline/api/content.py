"""A generation's video: a way into the bucket, or the bytes of a local file, whole or in ranges."""

from __future__ import annotations

import os
import re
from email.utils import parsedate_to_datetime
from pathlib import Path

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response

from pipeline.api.auth import service_of
from pipeline.api.problems import Problem
from pipeline.api.read import visible
from pipeline.db import Row
from pipeline.links import has_video
from pipeline.schemas import iso
from pipeline.storage import StorageError

LINK_SECONDS = 3600
_PART = re.compile(r"(\d{0,18})-(\d{0,18})", re.ASCII)


async def content(request: Request) -> Response:
    """`GET /api/generations/{id}/content`: 302 to a signed link of the bucket, or the bytes of a local file."""
    service = service_of(request)
    row = await visible(request, by_video_link=True)
    if not has_video(row):
        raise Problem(409, "not_ready", f"the generation is {row['status']}: there is no video")
    ends = row["expired_at"] or row["expires_at"]
    if ends is not None and ends <= service.clock.now_ms():
        raise Problem(410, "video_gone", f"the video was kept until {iso(ends)}")
    path = service.storage.local_path(row["video_key"])
    if path is not None:
        return _file(request, path, row)
    try:
        link = await service.storage.link(row["video_key"], expires=LINK_SECONDS)
    except StorageError as error:
        raise Problem(503, "storage_unavailable", str(error), headers={"Retry-After": "5"}, retryable=True) from None
    assert link is not None
    return RedirectResponse(link, 302, headers={"Cache-Control": "no-store"})


def _file(request: Request, path: Path, row: Row) -> Response:
    """The file, or 304 for a reader who has it. Raises Problem 410 or 416."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        raise Problem(410, "video_gone", "the file is gone from this machine's DATA_DIR") from None
    headers = {
        "Cache-Control": "private, max-age=3600",
        "Content-Disposition": f'inline; filename="{row["id"]}.mp4"',
        "ETag": f'"{row["video_sha256"]}"',
    }
    if _known(request.headers, headers["ETag"], found.st_mtime):
        return Response(status_code=304, headers=headers)
    parts = _parts(request.headers.get("range", ""))
    if not parts:
        request.scope["headers"] = [pair for pair in request.scope["headers"] if pair[0] != b"range"]
    elif "if-range" not in request.headers and any(_outside(first, last, found.st_size) for first, last in parts):
        raise Problem(
            416,
            "range_not_satisfiable",
            f"the file has {found.st_size} bytes",
            headers={"Content-Range": f"bytes */{found.st_size}"},
        )
    return FileResponse(path, media_type="video/mp4", headers=headers, stat_result=found)


def _known(headers: Headers, etag: str, modified: float) -> bool:
    """Whether the reader's copy is the current one; If-None-Match goes before If-Modified-Since (RFC 9110 13.2.2)."""
    tags = headers.get("if-none-match")
    if tags is not None:
        return tags.strip() == "*" or etag in {tag.strip().removeprefix("W/") for tag in tags.split(",")}
    since = headers.get("if-modified-since")
    if since is None:
        return False
    try:
        return int(modified) <= parsedate_to_datetime(since).timestamp()
    except (ValueError, OverflowError):
        return False


def _parts(header: str) -> list[tuple[str, str]]:
    """The parts of a Range header, or none when it is no valid range of bytes: such is ignored (RFC 9110 14.2)."""
    unit, _, text = header.partition("=")
    found = [_PART.fullmatch(part.strip()) for part in text.split(",")]
    parts = [(match[1], match[2]) for match in found if match is not None and match[0] != "-"]
    backwards = any(first and last and int(first) > int(last) for first, last in parts)
    return [] if unit.strip().lower() != "bytes" or len(parts) < len(found) or backwards else parts


def _outside(first: str, last: str, size: int) -> bool:
    """Whether a part begins behind the end; `-0` asks for the last nothing."""
    return int(first) >= size if first else not int(last)
