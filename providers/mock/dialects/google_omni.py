"""Gemini's Interactions API for videos (see `providers.google_omni` for its wire), under `/google_omni`.

    POST   /v1/interactions                   200 the interaction, `queued`
    GET    /v1/interactions/{id}              the interaction; once completed with the file's address, or with the file
    POST   /v1/interactions/{id}/cancel       the interaction; what it has cost stays charged (not documented, 2026-11)
    DELETE /v1/interactions/{id}              {}; it is forgotten by nobody but its owner: the mock keeps it
    GET    /v1/files/{id}[:download]          what is known of a file; its bytes, with the key
    GET    /.well-known/jwks.json             the keys that sign callbacks

All of it under /v1beta, too. The key comes as `x-goog-api-key` or `?key=`. Failures are refunded, of which Google's
documentation says nothing (2026-11).
"""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import UTC, datetime
from typing import Any

import jwt
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from providers.mock.body import read_object
from providers.mock.cut import CutBody
from providers.mock.dialect import Dialect, Ring
from providers.mock.dialects.google_omni_order import NAME, read_order
from providers.mock.dialects.google_wire import error_info, refused
from providers.mock.order import Refusal
from providers.mock.rsa_key import public_jwk, rsa_key
from providers.mock.studio import Studio
from providers.mock.work import Work

VERSIONS = ("v1", "v1beta")

_STATUSES = {"running": "in_progress", "succeeded": "completed"}
_ERRORS = {
    "internal": {"code": "INTERNAL", "message": "An internal error has occurred."},
    "final": {"code": "GENERATION_FAILED", "message": "The video could not be generated."},
}
_REFUSAL_TEXT = "I can't make this video."
_TOKENS_PER_SECOND = 5792


def make_id(bits: int) -> str:
    """An interaction's id."""
    return f"v1_{bits:032x}"


class _Omni:
    def __init__(self, studio: Studio) -> None:
        self._studio = studio

    async def submit(self, request: Request) -> Response:
        _require_key(request)
        order = read_order(await read_object(request))
        work = await self._studio.take(order, make_id=make_id)
        return JSONResponse(_shown(work, "in_progress"))

    async def poll(self, request: Request) -> Response:
        work = self._find(request)
        status = self._studio.look(work)
        if status != "succeeded":
            return JSONResponse(_shown(work, status))
        video = {"type": "video", "mime_type": "video/mp4"}
        if work.body["delivery"] == "inline" or self._studio.inline(work):
            data = base64.b64encode(self._studio.files.bytes_of(work)).decode()
            return self._whole(work, _shown(work, status, video | {"data": data}))
        version = request.url.path.rpartition("/interactions/")[0]
        uri = f"{request.url.scheme}://{request.url.netloc}{version}/files/{_file_id(work)}:download?alt=media"
        return JSONResponse(_shown(work, status, video | {"uri": uri}))

    async def cancel(self, request: Request) -> Response:
        work = self._studio.cancel(self._find(request), refund=False)
        return JSONResponse(_shown(work, work.status(self._studio.clock())))

    async def forget(self, request: Request) -> Response:
        self._find(request)
        return JSONResponse({})

    async def file(self, request: Request) -> Response:
        work = self._file(request)
        ready = work.status(self._studio.clock()) == "succeeded"
        address = f"{request.url.scheme}://{request.url.netloc}{request.url.path}"
        return JSONResponse(
            {
                "name": f"files/{_file_id(work)}",
                "mimeType": "video/mp4",
                "state": "ACTIVE" if ready else "PROCESSING",
                "source": "GENERATED",
                "uri": address,
                "downloadUri": f"{address}:download?alt=media",
            }
        )

    async def content(self, request: Request) -> Response:
        work = self._file(request)
        if self._studio.faults.fires("expired-url", work.prompt, work.id):
            raise _no_file(request)
        return await self._studio.files.respond(request, work)

    async def keys(self, _: Request) -> Response:
        secret = _signing_secret(self._studio)
        return JSONResponse({"keys": [public_jwk(secret, _kid(secret))]})

    def _whole(self, work: Work, shown: dict[str, Any]) -> Response:
        """An answer with a file in it, which may be cut as a file may."""
        body = json.dumps(shown).encode()
        if self._studio.faults.fires("truncated", work.prompt, work.id):
            return CutBody(body[: len(body) // 2], len(body), "application/json")
        return Response(body, media_type="application/json")

    def _find(self, request: Request) -> Work:
        _require_key(request)
        work = self._studio.state.by_id(request.path_params["id"])
        if work is None or work.dialect != NAME:
            raise Refusal(400, "unknown_interaction", "Invalid interaction name.")
        return work

    def _file(self, request: Request) -> Work:
        _require_key(request)
        work = self._studio.state.by_id("v1_" + request.path_params["id"])
        if work is None or work.dialect != NAME:
            raise _no_file(request)
        return work


def _no_file(request: Request) -> Refusal:
    message = f"You do not have permission to access the File {request.path_params['id']} or it may not exist."
    return Refusal(403, "no_file", message)


def _file_id(work: Work) -> str:
    return work.id.removeprefix("v1_")


def _require_key(request: Request) -> None:
    if not (request.headers.get("x-goog-api-key") or request.query_params.get("key")):
        raise Refusal(403, "no_key", "Method doesn't allow unregistered callers. Please use API Key.")


def _shown(work: Work, status: str, video: dict[str, Any] | None = None) -> dict[str, Any]:
    """An interaction as the API tells it."""
    times = datetime.fromtimestamp(work.created_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    shown = {
        "id": work.id,
        "object": "interaction",
        "status": _STATUSES.get(status, status),
        "model": work.body["model"],
        "created": times,
        "updated": times,
        "labels": work.body["labels"],
        "steps": [{"type": "user_input", "content": [{"type": "text", "text": work.body["text"]}]}],
    }
    if status == "failed" and work.ending in _ERRORS:
        return shown | {"errors": [_ERRORS[work.ending]]}
    refused_by_model = status == "failed"
    if refused_by_model or video is not None:
        said = [video] if video is not None else [{"type": "text", "text": _REFUSAL_TEXT}]
        tokens = {"modality": "video" if video else "text", "tokens": _tokens(work) if video else 12}
        shown["status"] = "completed"
        shown["steps"].append({"type": "model_output", "content": said})
        shown["usage"] = {"output_tokens_by_modality": [tokens]}
    return shown


def _tokens(work: Work) -> int:
    return _TOKENS_PER_SECOND * int(work.body["duration"])


def _routes(studio: Studio) -> list[Route]:
    omni = _Omni(studio)
    routes = [Route("/.well-known/jwks.json", omni.keys, methods=["GET"])]
    for version in VERSIONS:
        routes += [
            Route(f"/{version}/interactions", omni.submit, methods=["POST"]),
            Route(f"/{version}/interactions/{{id}}", omni.poll, methods=["GET"]),
            Route(f"/{version}/interactions/{{id}}", omni.forget, methods=["DELETE"]),
            Route(f"/{version}/interactions/{{id}}/cancel", omni.cancel, methods=["POST"]),
            Route(f"/{version}/files/{{id}}:download", omni.content, methods=["GET"]),
            Route(f"/{version}/files/{{id}}", omni.file, methods=["GET"]),
        ]
    return routes


def _refuse(_: Request, refusal: Refusal) -> Response:
    if refusal.code == "unauthorized":
        return refused(refusal, status=400, details=[error_info("API_KEY_INVALID")])
    if refusal.code == "payment_required":
        message = "Your prepayment credits are depleted. Please manage your project and billing in AI Studio."
        return refused(Refusal(429, refusal.code, message))
    if refusal.code == "moderation":
        return refused(refusal, word="PROHIBITED_CONTENT")
    return refused(refusal)


def _signing_secret(studio: Studio) -> bytes:
    return studio.secret_for(f"{NAME} callbacks")


def _kid(secret: bytes) -> str:
    return hashlib.sha256(b"kid" + secret).hexdigest()[:16]


def _ring(studio: Studio, work: Work, event: str) -> Ring:
    """A callback as the documentation of 2026-05 has it; the JWT's claims are not documented but for an audience."""
    now, secret = int(studio.clock()), _signing_secret(studio)
    kind = "requires_action" if event == "early" else "failed" if work.ending in _ERRORS else "completed"
    kind = "cancelled" if work.cancelled_at is not None else kind
    told = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    body = {"type": f"interaction.{kind}", "version": "v1", "timestamp": told, "data": {"id": work.id}}
    claims = {
        "iss": "https://generativelanguage.googleapis.com",
        "aud": work.callback_url,
        "iat": now,
        "exp": now + 300,
    }
    headers = {
        "content-type": "application/json",
        "webhook-id": f"evt_{_file_id(work)}_{event}",
        "webhook-timestamp": str(now),
        "webhook-signature": jwt.encode(claims, rsa_key(secret), "RS256", headers={"kid": _kid(secret)}),
    }
    return Ring(json.dumps(body).encode(), headers)


DIALECT = Dialect(NAME, _routes, _refuse, _ring)
