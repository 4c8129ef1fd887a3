"""OpenRouter's dialect (see `providers.openrouter` for its wire), under `/openrouter` and `/openrouter/api/v1`.

    POST /videos                        202 {"id", "polling_url", "status"}
    GET  /videos/{id}                   {"status", "error", "urls", "unsigned_urls", "expires_at", "usage"}
    GET  /videos/{id}/content?index=0   the file, with the key
    GET  /videos/models                 what the catalogue knows
    GET  /webhook_secret                {"secret"}: what signs callbacks; really it stands in a workspace's settings

Where the real one wants HTTPS for `callback_url`, loopback may be plain http. Failures are refunded.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from providers.base import Audio, Capabilities, Media, Model, VideoRequest
from providers.catalogue import load_catalogue
from providers.checks import check
from providers.mock.body import origin, read_object, require_bearer
from providers.mock.dialect import Dialect, Ring
from providers.mock.order import Order, Refusal, dialect_order
from providers.mock.studio import Studio
from providers.mock.work import Work

NAME = "openrouter"
ROOTS = ("", "/api/v1")

_STATUSES = {"queued": "pending", "running": "in_progress", "succeeded": "completed"}
_ERRORS = {
    "moderation": "The upstream provider refused the request: OutputVideoSensitiveContentDetected",
    "internal": "The upstream provider returned an internal error.",
    "final": "The upstream provider could not make this video.",
}
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def read_order(raw: dict[str, Any]) -> Order:
    """Check a request's JSON. Raises Refusal 400 naming the member."""
    asked = VideoRequest(
        _required(raw, "prompt"),
        model=_required(raw, "model"),
        duration=_number(raw, "duration"),
        aspect_ratio=_text(raw, "aspect_ratio"),
        resolution=(_text(raw, "resolution") or "").lower() or None,
        seed=_number(raw, "seed"),
        audio=_flag(raw, "generate_audio"),
        negative_prompt=_negative_prompt(raw),
        image=_frame(raw, "first_frame"),
        last_image=_frame(raw, "last_frame"),
    )
    wrong = check(asked, Capabilities(load_catalogue(NAME)))
    if wrong:
        raise _invalid(f"{wrong[0].pointer.rpartition('/')[2]}: {wrong[0].detail}")
    session = _text(raw, "session_id", 256)
    shown = {"user": _text(raw, "user"), "session_id": session, "generate_audio": asked.audio}
    return dialect_order(NAME, raw, asked, shown=shown, callback_url=_callback_url(raw), reference=session)


def _invalid(message: str) -> Refusal:
    return Refusal(400, "invalid_request", message)


def _required(raw: dict[str, Any], name: str) -> str:
    value = _text(raw, name)
    if not value or not value.strip():
        raise _invalid(f"{name}: Required")
    return value


def _text(raw: dict[str, Any], name: str, longest: int = 100_000) -> str | None:
    value = raw.get(name)
    if value is not None and not (isinstance(value, str) and len(value) <= longest and _writable(value)):
        raise _invalid(f"{name}: expected a string of at most {longest} characters")
    return value


def _writable(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text)


def _number(raw: dict[str, Any], name: str) -> int | None:
    value = raw.get(name)
    if value is not None and (type(value) is not int or not 0 <= value < 2**32):
        raise _invalid(f"{name}: expected a whole number")
    return value


def _flag(raw: dict[str, Any], name: str) -> bool | None:
    value = raw.get(name)
    if not isinstance(value, bool | None):
        raise _invalid(f"{name}: expected true or false")
    return value


def _negative_prompt(raw: dict[str, Any]) -> str | None:
    """Where Google's models look for it: `provider.options.google-vertex.parameters.negativePrompt`."""
    place: Any = raw.get("provider", {})
    for name in ("options", "google-vertex", "parameters"):
        if not isinstance(place, dict):
            raise _invalid("provider: expected objects")
        place = place.get(name, {})
    return _text(place, "negativePrompt") if isinstance(place, dict) else None


def _frame(raw: dict[str, Any], kind: str) -> Media | None:
    """The picture of that kind, as a URL whether it is one or a data URI."""
    frames = raw.get("frame_images", [])
    if not isinstance(frames, list):
        raise _invalid("frame_images: expected a list")
    urls = [url for given, url in map(_read_frame, frames) if given == kind]
    return Media(url=urls[0]) if urls else None


def _read_frame(frame: object) -> tuple[str, str]:
    image = frame.get("image_url") if isinstance(frame, dict) and frame.get("type") == "image_url" else None
    url = image.get("url") if isinstance(image, dict) else None
    if not isinstance(url, str) or not url.startswith(("https://", "http://", "data:image/")):
        raise _invalid("frame_images: expected {type: image_url, image_url: {url}, frame_type}")
    kind = frame.get("frame_type") if isinstance(frame, dict) else None
    if kind not in {"first_frame", "last_frame"}:
        raise _invalid("frame_images: frame_type must be first_frame or last_frame")
    return kind, url


def _callback_url(raw: dict[str, Any]) -> str | None:
    url = _text(raw, "callback_url", 2000)
    if url is None or url.startswith("https://"):
        return url
    if not url.startswith("http://") or _host(url) not in _LOOPBACK:
        raise _invalid("callback_url: must be HTTPS")
    return url


def _host(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def job_id(bits: int, now: float) -> str:
    """`gen-vid-<timestamp>-<20 alphanumerics>` (official client's types, 1.3.84)."""
    letters = []
    for _ in range(20):
        bits, digit = divmod(bits, len(_DIGITS))
        letters.append(_DIGITS[digit])
    return f"gen-vid-{int(now)}-{''.join(letters)}"


class _OpenRouter:
    def __init__(self, studio: Studio) -> None:
        self._studio = studio

    async def submit(self, request: Request) -> Response:
        require_bearer(request)
        order, now = read_order(await read_object(request)), self._studio.clock()
        work = await self._studio.take(order, make_id=lambda bits: job_id(bits, now))
        return JSONResponse(_told(work, "pending"), 202)

    async def poll(self, request: Request) -> Response:
        work = self._find(request)
        body = _told(work, self._studio.look(work), self._studio.clock())
        if body["status"] == "completed":
            url, expires_at = self._studio.files.link(origin(request), work)
            content = f"{origin(request)}{NAME}/api/v1/videos/{work.id}/content?index=0"
            body |= {"urls": [url], "unsigned_urls": [content], "expires_at": expires_at}
        return JSONResponse(body)

    async def content(self, request: Request) -> Response:
        work = self._find(request)
        if request.query_params.get("index", "0") != "0":
            raise _invalid("index: there is one output")
        if work.status(self._studio.clock()) != "succeeded":
            raise Refusal(409, "conflict", "The video is not completed")
        return await self._studio.files.respond(request, work)

    async def models(self, _: Request) -> Response:
        return JSONResponse({"data": [_model(each) for each in load_catalogue(NAME).models.values()]})

    async def secret(self, _: Request) -> Response:
        return JSONResponse({"secret": _secret(self._studio)})

    def _find(self, request: Request) -> Work:
        require_bearer(request)
        return self._studio.find(request.path_params["id"], NAME)


def _told(work: Work, status: str, now: float | None = None) -> dict[str, Any]:
    """A job as the API tells it; what it cost once it has ended, in USD."""
    body: dict[str, Any] = {
        "id": work.id,
        "polling_url": f"/{NAME}/api/v1/videos/{work.id}",
        "status": _STATUSES.get(status, status),
    }
    if now is not None and status in {"succeeded", "failed"}:
        body["generation_id"] = work.id
        body["usage"] = {"cost": work.cost_micros(now) / 1_000_000, "is_byok": False}
    if status == "failed":
        body["error"] = _ERRORS[work.ending]
    return body


def _model(model: Model) -> dict[str, Any]:
    frames = ["first_frame"] * model.image_url + ["last_frame"] * model.last_image
    skus = {resolution: f"{micros / 1_000_000:.6f}" for resolution, micros in model.prices.items()}
    return {
        "id": model.id,
        "canonical_slug": model.id,
        "name": model.id,
        "created": 1_780_000_000,
        "supported_durations": list(model.durations),
        "supported_resolutions": [re.sub("k$", "K", each) for each in model.resolutions],
        "supported_aspect_ratios": list(model.aspect_ratios),
        "supported_sizes": None,
        "supported_frame_images": frames,
        "seed": model.seed,
        "generate_audio": model.audio is not Audio.NEVER,
        "creativity": None,
        "upscale_factor": None,
        "allowed_passthrough_parameters": ["negativePrompt"] * model.negative_prompt,
        "pricing_skus": {"per-video-second" + ("" if name == "*" else f"-{name}"): usd for name, usd in skus.items()},
    }


def _routes(studio: Studio) -> list[Route]:
    openrouter = _OpenRouter(studio)
    return [Route("/webhook_secret", openrouter.secret, methods=["GET"])] + [
        route
        for root in ROOTS
        for route in (
            Route(f"{root}/videos", openrouter.submit, methods=["POST"]),
            Route(f"{root}/videos/models", openrouter.models, methods=["GET"]),
            Route(f"{root}/videos/{{id}}", openrouter.poll, methods=["GET"]),
            Route(f"{root}/videos/{{id}}/content", openrouter.content, methods=["GET"]),
        )
    ]


def _refuse(_: Request, refusal: Refusal) -> Response:
    status = 403 if refusal.code == "moderation" else refusal.status
    error: dict[str, Any] = {"code": status, "message": refusal.message}
    if refusal.code == "moderation":
        error["metadata"] = {"reasons": ["violence"], "flagged_input": "...", "provider_name": "Mock"}
    return JSONResponse({"error": error}, status, refusal.headers)


def _secret(studio: Studio) -> str:
    return studio.secret_for(f"{NAME} callbacks").hex()


def _ring(studio: Studio, work: Work, _: str) -> Ring:
    now = studio.clock()
    job = _told(work, work.status(now), now) | {"model": work.body["model"]}
    event = {"type": f"video.generation.{job['status']}", "created_at": f"{now:.0f}", "data": job}
    body, timestamp = json.dumps(event).encode(), str(int(now))
    signature = hmac.new(_secret(studio).encode(), f"{timestamp},".encode() + body, hashlib.sha256).hexdigest()
    headers = {
        "content-type": "application/json",
        "x-openrouter-signature": f"t={timestamp},v1={signature}",
        "x-openrouter-idempotency-key": f"{work.id}-{job['status']}",
    }
    return Ring(body, headers)


DIALECT = Dialect(NAME, _routes, _refuse, _ring)
