"""The `/v1/videos` dialect (see `providers.openai_videos` for its wire), under `/openai_videos` and
`/openai_videos/v1`.

    POST /videos                a form or JSON: prompt, model, seconds, size, input_reference (file, or image_url in it)
    GET  /videos/{id}           {"id", "object": "video", "status", "progress", "error", ...}
    GET  /videos/{id}/content   the file, with the key; `variant` must be video

It knows the models of the catalogue by their sizes and lengths, and takes any other as gateways do. Failures are
refunded. Without a size it makes 720x1280, as OpenAI did.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from providers.base import Capabilities, Media, VideoRequest
from providers.catalogue import load_catalogue
from providers.checks import check
from providers.mock.body import read_object, require_bearer
from providers.mock.dialect import Dialect, silent
from providers.mock.multipart import Form, read_form
from providers.mock.order import Order, Refusal, dialect_order
from providers.mock.render import ASPECT_RATIOS
from providers.mock.studio import Studio
from providers.mock.work import Work

NAME = "openai_videos"
ROOTS = ("", "/v1")

_STATUSES = {"queued": "queued", "running": "in_progress", "succeeded": "completed"}
_ERRORS = {
    "moderation": ("moderation_blocked", "Your request was blocked by our moderation system."),
    "internal": ("server_error", "The server had an error while processing your request."),
    "final": ("generation_failed", "The video could not be made."),
}
_REFUSALS = {
    "moderation": (400, "moderation_blocked", "invalid_request_error"),
    "unauthorized": (401, "invalid_api_key", "invalid_request_error"),
    "payment_required": (429, "insufficient_quota", "insufficient_quota"),
    "rate_limited": (429, "rate_limit_exceeded", "requests"),
    "invalid_request": (400, None, "invalid_request_error"),
    "not_found": (404, None, "invalid_request_error"),
    "unavailable": (503, None, "server_error"),
    "internal": (500, None, "server_error"),
}
"""Status, `error.code` and `error.type` by our code."""

_SIZES = {
    "1280x720": ("720p", "16:9"),
    "720x1280": ("720p", "9:16"),
    "1792x1024": ("1024p", "16:9"),
    "1024x1792": ("1024p", "9:16"),
}


def read_order(raw: Mapping[str, Any], image: Media | None) -> Order:
    """Check a request's members. Raises Refusal 400 naming the member."""
    prompt = raw.get("prompt")
    if not isinstance(prompt, str) or not prompt.strip() or len(prompt) > 32_000 or not _writable(prompt):
        raise _invalid("'prompt' must be a text of 1 to 32000 characters")
    model, seconds, size = raw.get("model", "sora-2"), raw.get("seconds", "4"), raw.get("size", "720x1280")
    if not isinstance(model, str) or not model:
        raise _invalid("'model' must be a text")
    if not isinstance(seconds, str) or not re.fullmatch(r"[1-9]\d?", seconds, re.ASCII):
        raise _invalid("'seconds' must be a whole number as a text")
    resolution, aspect_ratio = _shape(size)
    asked = VideoRequest(
        prompt, model=model, duration=int(seconds), resolution=resolution, aspect_ratio=aspect_ratio, image=image
    )
    wrong = check(asked, Capabilities(load_catalogue(NAME)))
    if wrong:
        raise _invalid(f"{wrong[0].pointer.rpartition('/')[2]}: {wrong[0].detail}")
    return dialect_order(NAME, raw, asked, shown={"seconds": seconds, "size": size})


def _invalid(message: str) -> Refusal:
    return Refusal(400, "invalid_request", message)


def _writable(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text)


def _shape(size: object) -> tuple[str, str]:
    """Resolution and the nearest aspect ratio of a size. Raises Refusal 400."""
    sides = re.fullmatch(r"([1-9]\d{2,3})x([1-9]\d{2,3})", size, re.ASCII) if isinstance(size, str) else None
    if sides is None:
        raise _invalid("'size' must be <width>x<height>")
    width, height = int(sides[1]), int(sides[2])
    nearest = min(ASPECT_RATIOS, key=lambda each: abs(_ratio(each) - width / height))
    return _SIZES.get(sides[0], (f"{min(width, height)}p", nearest))


def _ratio(shape: str) -> float:
    across, down = shape.split(":")
    return int(across) / int(down)


def read_members(form: Form) -> tuple[dict[str, Any], Media | None]:
    """A form's members as JSON would have them, with a fingerprint of its file, and the picture."""
    raw: dict[str, Any] = {name: texts[-1] for name, texts in form.texts.items()}
    file_type, data = form.files.get("input_reference", ("", None))
    if data is None:
        return raw, read_reference({"image_url": raw.get("input_reference[image_url]")})
    if not file_type.startswith("image/"):
        raise _invalid("'input_reference' must be a picture")
    return raw | {"input_reference": hashlib.sha256(data).hexdigest()}, Media(data=data, mime_type=file_type)


def read_reference(reference: object) -> Media | None:
    """A picture by URL or data URI, which only members that a client adds by itself can carry."""
    url = reference.get("image_url") if isinstance(reference, dict) else None
    if url is None:
        return None
    if not isinstance(url, str) or not url.startswith(("https://", "http://", "data:image/")):
        raise _invalid("'input_reference.image_url' must be a URL")
    return Media(data=url.encode("utf-8", "replace"), mime_type="text/uri-list")


class _Videos:
    def __init__(self, studio: Studio) -> None:
        self._studio = studio

    async def submit(self, request: Request) -> Response:
        require_bearer(request)
        if request.headers.get("content-type", "").startswith("application/json"):
            raw = await read_object(request)
            image = read_reference(raw.get("input_reference"))
        else:
            raw, image = read_members(await read_form(request))
        work = await self._studio.take(read_order(raw, image), make_id=lambda bits: f"video_{bits:032x}")
        return JSONResponse(_told(work, "queued", self._studio.clock()))

    async def poll(self, request: Request) -> Response:
        work = self._find(request)
        return JSONResponse(_told(work, self._studio.look(work), self._studio.clock()))

    async def content(self, request: Request) -> Response:
        work = self._find(request)
        if request.query_params.get("variant", "video") != "video":
            raise _invalid("'variant': there is only the video")
        if self._studio.faults.fires("expired-url", work.prompt, work.id):
            raise Refusal(404, "not_found", "The video has expired")
        return await self._studio.files.respond(request, work)

    def _find(self, request: Request) -> Work:
        require_bearer(request)
        return self._studio.find(request.path_params["id"], NAME)


def _told(work: Work, status: str, now: float) -> dict[str, Any]:
    ended = int(work.ends_at) if work.ends_at is not None and work.ends_at <= now else None
    code, message = _ERRORS.get(work.ending, ("", "")) if status == "failed" else ("", "")
    return {
        "id": work.id,
        "object": "video",
        "model": work.body["model"],
        "status": _STATUSES.get(status, status),
        "progress": 100 if status == "succeeded" else int(work.progress(now) * 100),
        "created_at": int(work.created_at),
        "completed_at": ended,
        "expires_at": None if ended is None else ended + 86_400,
        "prompt": work.prompt,
        "seconds": work.body["seconds"],
        "size": work.body["size"],
        "error": {"code": code, "message": message} if code else None,
        "remixed_from_video_id": None,
    }


def _routes(studio: Studio) -> list[Route]:
    videos = _Videos(studio)
    return [
        route
        for root in ROOTS
        for route in (
            Route(f"{root}/videos", videos.submit, methods=["POST"]),
            Route(f"{root}/videos/{{id}}", videos.poll, methods=["GET"]),
            Route(f"{root}/videos/{{id}}/content", videos.content, methods=["GET"]),
        )
    ]


def _refuse(_: Request, refusal: Refusal) -> Response:
    status, code, kind = _REFUSALS.get(refusal.code, (refusal.status, None, "invalid_request_error"))
    error = {"message": refusal.message, "type": kind, "param": None, "code": code}
    return JSONResponse({"error": error}, status, refusal.headers)


DIALECT = Dialect(NAME, _routes, _refuse, silent)
