"""Luma's dialect (see `providers.luma` for its wire), under `/luma` and `/luma/v1`.

    POST /generations        201, the generation
    GET  /generations/{id}   the generation

Errors are {"detail": text}. Failures are refunded, of which nothing is known about the real one. Videos only.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from providers.base import Capabilities, Media, VideoRequest
from providers.catalogue import load_catalogue
from providers.checks import check
from providers.mock import members
from providers.mock.body import origin, read_object, require_bearer
from providers.mock.dialect import Dialect, silent
from providers.mock.order import Order, Refusal, dialect_order
from providers.mock.studio import Studio, uuid_id
from providers.mock.work import FAILURES, Work

NAME = "luma"
ROOTS = ("", "/v1")
MODELS = frozenset({"uni-1", "uni-1-max", "ray-3.2"})
MOST_KEYFRAMES = 64
FRAMES = {"5s": 120, "10s": 240}

_STATES = {"queued": "queued", "running": "processing", "succeeded": "completed", "failed": "failed"}
_CODES = {"moderation": "content_moderated", "internal": "generation_failed", "final": "corrupt_input"}
_DETAILS = {
    "unauthorized": "Invalid or missing API key",
    "payment_required": "Insufficient balance",
    "moderation": "The prompt was rejected by content moderation",
    "rate_limited": "Rate limit exceeded",
}


def read_order(raw: dict[str, Any]) -> Order:
    """Check a request's JSON. Raises Refusal 400 for a wrong member, 422 for members that do not go together."""
    model = _model(raw)
    video = raw.get("video")
    if not isinstance(video, dict | None):
        raise members.invalid("video: expected an object")
    video = video or {}
    first, last = _frames(video)
    asked = VideoRequest(
        members.text(raw, "prompt") or "",
        model=model,
        duration=_seconds(video),
        aspect_ratio=members.text(raw, "aspect_ratio"),
        resolution=members.text(video, "resolution"),
        image=first,
        last_image=last,
    )
    if not asked.prompt.strip():
        raise members.invalid("prompt: field required")
    wrong = check(asked, Capabilities(load_catalogue(NAME)))
    if wrong:
        raise members.invalid(f"{wrong[0].pointer.rpartition('/')[2]}: {wrong[0].detail}")
    _require_compatible(video, asked)
    return dialect_order(NAME, raw, asked, shown={}, reference=members.text(raw, "user_id", 256))


def _model(raw: Mapping[str, Any]) -> str:
    model, kind = members.text(raw, "model"), members.text(raw, "type")
    if model is not None and model not in MODELS:
        raise members.invalid(f"model: expected one of {', '.join(sorted(MODELS))}")
    if (model, kind) != ("ray-3.2", "video"):
        raise members.invalid("type: this mock makes videos only, with ray-3.2")
    return "ray-3.2"


def _seconds(video: Mapping[str, Any]) -> int | None:
    duration = members.text(video, "duration")
    if duration is not None and duration not in FRAMES:
        raise members.invalid(f"video.duration: expected one of {', '.join(FRAMES)}")
    return None if duration is None else int(duration.removesuffix("s"))


def _require_compatible(video: Mapping[str, Any], asked: VideoRequest) -> None:
    loop, hdr = members.flag(video, "loop"), members.flag(video, "hdr")
    anchored = video.get("start_frame") is not None or video.get("end_frame") is not None
    placed = video.get("keyframes") is not None
    if hdr:
        raise Refusal(403, "forbidden", "HDR access is not enabled for this account")
    if members.flag(video, "exr_export"):
        raise _incompatible("exr_export requires hdr=true")
    if placed and (anchored or loop):
        raise _incompatible("keyframes are mutually exclusive with start_frame, end_frame and loop")
    if asked.duration == 10 and (anchored or loop):
        raise _incompatible("start_frame, end_frame and loop are not supported with duration=10s")


def _incompatible(message: str) -> Refusal:
    return Refusal(422, "invalid_request", message)


def _frames(video: Mapping[str, Any]) -> tuple[Media | None, Media | None]:
    """The first and the last picture, however they were given."""
    keyframes, indexes = video.get("keyframes"), video.get("keyframe_indexes")
    if keyframes is None:
        return _picture(video.get("start_frame")), _picture(video.get("end_frame"))
    end = FRAMES.get(str(video.get("duration")), FRAMES["5s"])
    if not _are_places(indexes, end) or not isinstance(keyframes, list) or len(indexes or []) != len(keyframes):
        raise _incompatible(f"keyframe_indexes must be unique, within 0 to {end}, and as many as keyframes")
    placed = dict(zip(indexes or [], map(_picture, keyframes), strict=True))
    return placed.get(0), placed.get(end)


def _are_places(indexes: Sequence[object] | None, end: int) -> bool:
    if not isinstance(indexes, list) or not 0 < len(indexes) <= MOST_KEYFRAMES:
        return False
    return all(type(index) is int and 0 <= index <= end for index in indexes) and len(set(indexes)) == len(indexes)


def _picture(given: object) -> Media | None:
    if given is None:
        return None
    sources = [name for name in ("url", "data", "generation_id", "file_id") if _text_of(given, name)]
    if len(sources) != 1:
        raise members.invalid("a media reference has exactly one of url, data, generation_id and file_id")
    value = _text_of(given, sources[0])
    if sources == ["url"] and not value.startswith(("https://", "http://")):
        raise members.invalid("url: expected an http or https URL")
    if sources == ["data"]:
        _require_picture(value, _text_of(given, "media_type"))
    return Media(url=value)


def _text_of(given: object, name: str) -> str:
    value = given.get(name) if isinstance(given, dict) else None
    return value if isinstance(value, str) else ""


def _require_picture(data: str, media_type: str) -> None:
    if not media_type.startswith("image/"):
        raise members.invalid("media_type: required with data, as image/*")
    try:
        base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _incompatible("data: not valid base64") from error


def show(work: Work, status: str, url: str | None) -> dict[str, Any]:
    """The generation as Luma tells it; a status that is none of its words is passed on."""
    generation = {
        "id": work.id,
        "type": "video",
        "model": work.body["model"],
        "state": _STATES.get(status, status),
        "created_at": datetime.fromtimestamp(work.created_at, UTC).isoformat(timespec="seconds"),
        "output": [{"type": "video", "url": url}] if url else [],
        "failure_code": None,
        "failure_reason": None,
    }
    if status == "failed":
        generation |= {"failure_code": _CODES[work.ending], "failure_reason": FAILURES[work.ending]}
    return generation


class _Luma:
    def __init__(self, studio: Studio) -> None:
        self._studio = studio

    async def submit(self, request: Request) -> Response:
        require_bearer(request)
        order = read_order(await read_object(request))
        work = await self._studio.take(order, make_id=uuid_id)
        return JSONResponse(show(work, "queued", None), 201)

    async def poll(self, request: Request) -> Response:
        require_bearer(request)
        work = self._studio.find(request.path_params["id"], NAME)
        status = self._studio.look(work)
        url = self._studio.files.link(origin(request), work)[0] if status == "succeeded" else None
        return JSONResponse(show(work, status, url))


def _routes(studio: Studio) -> list[Route]:
    luma = _Luma(studio)
    return [
        route
        for root in ROOTS
        for route in (
            Route(f"{root}/generations", luma.submit, methods=["POST"]),
            Route(f"{root}/generations/{{id}}", luma.poll, methods=["GET"]),
        )
    ]


def _refuse(_: Request, refusal: Refusal) -> Response:
    return JSONResponse({"detail": _DETAILS.get(refusal.code, refusal.message)}, refusal.status, refusal.headers)


DIALECT = Dialect(NAME, _routes, _refuse, silent)
