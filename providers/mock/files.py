"""The produced files: signed links that expire, whole or by range."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
from collections.abc import AsyncIterator, Callable
from functools import lru_cache

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse

from providers.mock.cut import CutBody
from providers.mock.faults import Faults
from providers.mock.order import Refusal
from providers.mock.render import render
from providers.mock.state import State
from providers.mock.work import Work

LINK_SECONDS = 3600
_PIECE = 65_536
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")
_SECONDS = re.compile(r"[0-9]{1,12}")
_PAGE = "<!doctype html><title>Error</title><p>Something went wrong. Please try again later.</p>"


class Files:
    """Renders on demand and keeps the last few; `secret` signs links, `clock` gives Unix seconds."""

    def __init__(self, state: State, faults: Faults, secret: bytes, clock: Callable[[], float]) -> None:
        self._state, self._faults, self._secret, self._clock = state, faults, secret, clock
        self._render = lru_cache(maxsize=8)(render)

    def link(self, base_url: str, work: Work, *, sound: bool = False) -> tuple[str, int]:
        """A fresh URL of the file and when it expires, which is in the past when the fault `expired-url` fires.

        `sound`: no fault; for callbacks, so that the fault is left for the poll.
        """
        expired = not sound and self._faults.fires("expired-url", work.prompt, work.id)
        expires = int(self._clock()) + (-1 if expired else LINK_SECONDS)
        return f"{base_url}files/{work.id}.mp4?expires={expires}&signature={self._sign(work.id, expires)}", expires

    async def serve(self, request: Request) -> Response:
        """`GET /files/{id}.mp4`, with Range. Raises Refusal 403 for a wrong or expired link, 404, 416."""
        return await self.respond(request, self._authorised(request))

    async def respond(self, request: Request, work: Work) -> Response:
        """The file of a work, to whoever may have it. Raises Refusal 404 where there is none yet, 416."""
        if work.status(self._clock()) != "succeeded":
            raise Refusal(404, "not_found", "there is no such file")
        if self._faults.fires("html", work.prompt, work.id):
            return HTMLResponse(_PAGE)
        body = await asyncio.to_thread(self.bytes_of, work)
        if self._faults.fires("truncated", work.prompt, work.id):
            return CutBody(body[: len(body) // 2], len(body), "video/mp4")
        start, stop = read_range(request.headers.get("range", ""), len(body))
        whole = (start, stop) == (0, len(body))
        headers = {"content-length": str(stop - start), "accept-ranges": "bytes"}
        if not whole:
            headers["content-range"] = f"bytes {start}-{stop - 1}/{len(body)}"
        pieces = _pieces(body, start, stop)
        return StreamingResponse(pieces, 200 if whole else 206, headers, media_type="video/mp4")

    def _authorised(self, request: Request) -> Work:
        work_id, expires = request.path_params["id"], request.query_params.get("expires", "")
        signature = request.query_params.get("signature", "")
        known = _SECONDS.fullmatch(expires) and hmac.compare_digest(
            self._sign(work_id, int(expires)).encode(), signature.encode("utf-8", "replace")
        )
        if not known or int(expires) <= self._clock():
            raise Refusal(403, "link_expired", "the link is wrong or has expired")
        work = self._state.by_id(work_id)
        if work is None:
            raise Refusal(404, "not_found", "there is no such file")
        return work

    def _sign(self, work_id: str, expires: int) -> str:
        return hmac.new(self._secret, f"{work_id}:{expires}".encode(), hashlib.sha256).hexdigest()

    def bytes_of(self, work: Work) -> bytes:
        """The video; making it takes some milliseconds."""
        shape = {name: work.body[name] for name in ("seed", "duration", "aspect_ratio", "resolution")}
        return self._render(work.prompt, **shape)


def read_range(header: str, length: int) -> tuple[int, int]:
    """First byte and the byte after the last one. A header of another form means all; raises Refusal 416."""
    match = _RANGE.fullmatch(header.strip())
    if match is None or match.groups() == ("", ""):
        return 0, length
    first, last = match.groups()
    start = int(first) if first else max(length - int(last), 0)
    stop = min(int(last) + 1, length) if first and last else length
    if start >= stop:
        raise Refusal(416, "range", "the range is outside of the file", {"content-range": f"bytes */{length}"})
    return start, stop


async def _pieces(body: bytes, start: int, stop: int) -> AsyncIterator[bytes]:
    for at in range(start, stop, _PIECE):
        yield body[at : min(at + _PIECE, stop)]
