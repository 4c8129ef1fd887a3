"""Replicate as the mock speaks it; see `providers.replicate` for the wire and its sources.

    POST /v1/models/{owner}/{name}/predictions     201, the prediction
    POST /v1/predictions                           the same, of a version
    GET  /v1/predictions                           {"results": [...]}, newest first
    GET  /v1/predictions/{id}                      files are gone an hour after the end
    POST /v1/predictions/{id}/cancel               refunded if it was still starting
    GET  /v1/webhooks/default/secret               {"key": "whsec_..."}
    POST /v1/files                                 a picture, of which only the size is remembered

Refusals by moderation are charged, to play the dearest: Replicate does not say what a failure costs.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from providers.mock.body import origin, read_object, require_bearer
from providers.mock.dialect import Dialect, Ring
from providers.mock.dialects.replicate_input import invalid, read_order
from providers.mock.multipart import read_form
from providers.mock.order import Refusal
from providers.mock.studio import Studio
from providers.mock.work import FAILURES, TERMINAL, Work

NAME = "replicate"
_LIFE = 3600.0
_PAGE = 100
_WORDS = {"queued": "starting", "running": "processing", "cancelled": "canceled"}
_TITLES = {
    "unauthorized": "Unauthenticated",
    "payment_required": "Insufficient credit",
    "not_found": "Not found",
    "invalid_request": "Input validation failed",
    "moderation": "Input validation failed",
    "rate_limited": "Too many requests",
}
_STATUSES = {"invalid_request": 422, "moderation": 422}
_FAILURES = {
    "moderation": "The input or output was flagged as sensitive. Please try again with different inputs. (E005)",
    "internal": "Prediction interrupted; please retry (code: PA)",
}


class _Replicate:
    def __init__(self, studio: Studio) -> None:
        self._studio = studio

    async def submit(self, request: Request) -> Response:
        require_bearer(request)
        place = request.path_params
        model = f"{place['owner']}/{place['name']}" if place else None
        order = read_order(model, await read_object(request), origin(request))
        work = await self._studio.take(order, make_id=_id)
        return JSONResponse(self._shown(work, work.status(self._studio.clock())), 201)

    async def poll(self, request: Request) -> Response:
        work = self._find(request)
        return JSONResponse(self._shown(work, self._studio.look(work)))

    async def cancel(self, request: Request) -> Response:
        work = self._find(request)
        work = self._studio.cancel(work, refund=work.status(self._studio.clock()) == "queued")
        return JSONResponse(self._shown(work, work.status(self._studio.clock())))

    async def page(self, request: Request) -> Response:
        require_bearer(request)
        now = self._studio.clock()
        works = [work for work in self._studio.state.search("", _PAGE)[::-1] if work.dialect == NAME]
        results = [prediction(work, work.status(now), now, lambda: None) for work in works]
        return JSONResponse({"previous": None, "next": None, "results": results})

    async def secret(self, request: Request) -> Response:
        require_bearer(request)
        return JSONResponse({"key": _secret(self._studio)})

    async def upload(self, request: Request) -> Response:
        require_bearer(request)
        form = await read_form(request)
        if "content" not in form.files:
            raise invalid("content is required")
        kind, content = form.files["content"]
        digest = hashlib.sha256(content).hexdigest()
        now = self._studio.clock()
        file = {
            "id": digest[:26],
            "name": "content",
            "content_type": kind,
            "size": len(content),
            "etag": digest,
            "checksums": {"sha256": digest},
            "metadata": {},
            "created_at": _iso(now),
            "expires_at": _iso(now + 86_400),
            "urls": {"get": f"{origin(request)}{NAME}/v1/files/{digest[:26]}"},
        }
        return JSONResponse(file, 201)

    def _find(self, request: Request) -> Work:
        require_bearer(request)
        return self._studio.find(request.path_params["id"], NAME)

    def _shown(self, work: Work, status: str) -> dict[str, Any]:
        link = self._studio.files.link
        return prediction(work, status, self._studio.clock(), lambda: link(work.body["origin"], work)[0])


def prediction(work: Work, status: str, now: float, link: Callable[[], str | None]) -> dict[str, Any]:
    """A prediction as it is at `now` (Unix seconds); `link` makes its file's URL."""
    ended = status in TERMINAL
    gone = ended and now >= (work.ends_at or now) + _LIFE
    started = now >= work.starts_at and (work.cancelled_at is None or work.cancelled_at >= work.starts_at)
    at = f"{work.body['origin']}{NAME}/v1/predictions/{work.id}"
    return {
        "id": work.id,
        "model": work.body["name"],
        "version": work.body["version"],
        "status": _WORDS.get(status, status),
        "input": {} if gone else work.body["input"],
        "output": link() if status == "succeeded" and not gone else None,
        "logs": _logs(work, now) if started else "",
        "error": _FAILURES.get(work.ending, FAILURES.get(work.ending)) if status == "failed" else None,
        "metrics": {"predict_time": max((work.ends_at or now) - work.starts_at, 0.0)} if ended and started else {},
        "data_removed": gone,
        "source": "api",
        "created_at": _iso(work.created_at),
        "started_at": _iso(work.starts_at) if started else None,
        "completed_at": _iso(work.ends_at or now) if ended else None,
        "urls": {"get": at, "cancel": f"{at}/cancel"},
    }


def _routes(studio: Studio) -> Sequence[Route]:
    replicate = _Replicate(studio)
    return [
        Route("/v1/models/{owner}/{name}/predictions", replicate.submit, methods=["POST"]),
        Route("/v1/predictions", replicate.submit, methods=["POST"]),
        Route("/v1/predictions", replicate.page, methods=["GET"]),
        Route("/v1/predictions/{id}", replicate.poll, methods=["GET"]),
        Route("/v1/predictions/{id}/cancel", replicate.cancel, methods=["POST"]),
        Route("/v1/webhooks/default/secret", replicate.secret, methods=["GET"]),
        Route("/v1/files", replicate.upload, methods=["POST"]),
    ]


def _id(bits: int) -> str:
    """Replicate's ids are 26 letters and digits."""
    return base64.b32encode((bits & (1 << 128) - 1).to_bytes(16)).decode().rstrip("=").lower()


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _logs(work: Work, now: float) -> str:
    done = work.progress(now)
    return f"Using seed: {work.body['seed']}\n{done:4.0%}|{'█' * round(done * 10):10}| {done * 25:.0f}/25\n"


def _refuse(_: Request, refusal: Refusal) -> Response:
    status = _STATUSES.get(refusal.code, refusal.status)
    title = _TITLES.get(refusal.code, "Internal server error")
    words = f"- input.prompt: {refusal.message} (E005)\n" if refusal.code == "moderation" else refusal.message
    body: dict[str, Any] = {"type": "about:blank", "title": title, "status": status, "detail": words}
    wait = (refusal.headers or {}).get("retry-after")
    if wait is not None:
        body["retry_after"] = int(wait)
    return JSONResponse(body, status, refusal.headers, media_type="application/problem+json")


def _ring(studio: Studio, work: Work, event: str) -> Ring:
    now = studio.clock()
    link = studio.files.link
    shown = prediction(work, work.status(now), now, lambda: link(work.body["origin"], work, sound=True)[0])
    body, event_id = json.dumps(shown).encode(), f"msg_{work.id}_{event}"
    key = base64.b64decode(_secret(studio).removeprefix("whsec_"))
    signature = hmac.digest(key, f"{event_id}.{int(now)}.".encode() + body, hashlib.sha256)
    headers = {
        "content-type": "application/json",
        "webhook-id": event_id,
        "webhook-timestamp": str(int(now)),
        "webhook-signature": f"v1,{base64.b64encode(signature).decode()}",
    }
    return Ring(body, headers)


def _secret(studio: Studio) -> str:
    return "whsec_" + base64.b64encode(studio.secret_for("replicate callbacks")).decode()


DIALECT = Dialect(NAME, _routes, _refuse, _ring)
