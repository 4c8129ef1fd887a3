"""fal's queue as the mock speaks it; see `providers.fal` for the wire and its sources.

    POST /{owner}/{app}[/path]?fal_webhook=      200 {"request_id", "status_url", ...}
    GET  /{owner}/{app}/requests/{id}/status     202 IN_QUEUE, IN_PROGRESS; 200 COMPLETED
    GET  /{owner}/{app}/requests/{id}            the output, or the run's error
    PUT  /{owner}/{app}/requests/{id}/cancel     202 CANCELLATION_REQUESTED, 400 ALREADY_COMPLETED, 404 NOT_FOUND
    GET  /.well-known/jwks.json                  the keys of its callbacks

Refusals by moderation are charged, to play the dearest that fal's docs allow ("4xx may be billed"); 5xx are not. What
the real one only finds when the run starts, a wrong input, is refused at once here.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from providers.mock.body import origin, read_object, require_bearer
from providers.mock.dialect import Dialect, Ring
from providers.mock.dialects.fal_input import Invalid, read_order
from providers.mock.order import Refusal
from providers.mock.studio import Studio, uuid_id
from providers.mock.work import FAILURES, TERMINAL, Work

NAME = "fal"
_WORDS = {"queued": "IN_QUEUE", "running": "IN_PROGRESS"}
_STATUSES = {"moderation": 422, "payment_required": 403, "invalid_request": 422}
_NO_MONEY = "User is locked. Reason: Exhausted balance. Top up your balance at fal.ai/dashboard/billing."


class _Fal:
    def __init__(self, studio: Studio) -> None:
        self._studio = studio

    async def keys(self, _: Request) -> Response:
        public = _key(self._studio).public_key().public_bytes_raw()
        jwk = {"kty": "OKP", "crv": "Ed25519", "x": base64.urlsafe_b64encode(public).rstrip(b"=").decode()}
        return JSONResponse({"keys": [jwk]})

    async def submit(self, request: Request) -> Response:
        require_bearer(request, "key")
        model, webhook = request.path_params["model"], request.query_params.get("fal_webhook")
        order = read_order(model, await read_object(request), webhook, origin(request))
        work = await self._studio.take(order, make_id=uuid_id)
        return JSONResponse({"status": "IN_QUEUE", "request_id": work.id, "queue_position": 0, **_addresses(work)})

    async def status(self, request: Request) -> Response:
        work = self._find(request)
        status = self._studio.look(work)
        shown: dict[str, Any] = {"request_id": work.id, "logs": None, **_addresses(work)}
        if status not in TERMINAL:
            more = {"queue_position": 0} if status == "queued" else {}
            return JSONResponse({"status": _WORDS.get(status, status), **shown, **more}, 202)
        seconds = max((work.ends_at or work.created_at) - work.starts_at, 0.0)
        code, error = _ended(work, status)
        wrong = {} if code == 200 else {"error": error["words"], "error_type": error["type"]}
        return JSONResponse({"status": "COMPLETED", **shown, "metrics": {"inference_time": seconds}, **wrong})

    async def result(self, request: Request) -> Response:
        work = self._find(request)
        status = work.status(self._studio.clock())
        if status not in TERMINAL:
            return JSONResponse({"detail": "Request is still in progress"}, 400)
        code, error = _ended(work, status)
        if code == 200:
            return JSONResponse(_output(self._studio.files.link(work.body["origin"], work)[0]))
        return JSONResponse(error["body"], code, error["headers"])

    async def cancel(self, request: Request) -> Response:
        work = self._find(request)
        status = work.status(self._studio.clock())
        if status in TERMINAL:
            return JSONResponse({"status": "ALREADY_COMPLETED"}, 400)
        self._studio.cancel(work, refund=status == "queued")
        return JSONResponse({"status": "CANCELLATION_REQUESTED"}, 202)

    def _find(self, request: Request) -> Work:
        require_bearer(request, "key")
        work = self._studio.find(request.path_params["id"], NAME)
        if work.body["app"] != request.path_params["app"]:
            raise Refusal(404, "not_found", "there is no such request of this app")
        return work


def _routes(studio: Studio) -> Sequence[Route]:
    fal = _Fal(studio)
    at = "/{app:path}/requests/{id}"
    return [
        Route("/.well-known/jwks.json", fal.keys, methods=["GET"]),
        Route(f"{at}/status", fal.status, methods=["GET"]),
        Route(f"{at}/cancel", fal.cancel, methods=["PUT"]),
        Route(at, fal.result, methods=["GET"]),
        Route("/{model:path}", fal.submit, methods=["POST"]),
    ]


def _addresses(work: Work) -> dict[str, str]:
    base = f"{work.body['origin']}{NAME}/{work.body['app']}/requests/{work.id}"
    return {"response_url": base, "status_url": f"{base}/status", "cancel_url": f"{base}/cancel"}


def _output(url: str) -> dict[str, Any]:
    return {"video": {"url": url, "content_type": "video/mp4", "file_name": "output.mp4"}}


def _ended(work: Work, status: str) -> tuple[int, dict[str, Any]]:
    """HTTP status of the result, and for a failure its words, type, body and headers."""
    if status == "succeeded":
        return 200, {}
    if status == "cancelled":
        return 499, _queue_error("client_cancelled", "The request was cancelled by the client.")
    words = FAILURES[work.ending]
    if work.ending == "moderation":
        return 422, _model_error("content_policy_violation", words, ["body", "prompt"])
    if work.ending == "internal":
        return 503, _queue_error("runner_disconnected", words)
    return 500, _model_error("internal_server_error", words, ["body"])


def _queue_error(kind: str, words: str) -> dict[str, Any]:
    body = {"detail": words, "error_type": kind}
    return {"words": words, "type": kind, "body": body, "headers": {"x-fal-error-type": kind}}


def _model_error(kind: str, words: str, place: list[str]) -> dict[str, Any]:
    item = {"loc": place, "msg": words, "type": kind, "url": f"https://docs.fal.ai/errors#{kind}", "input": None}
    return {"words": words, "type": kind, "body": {"detail": [item]}, "headers": {"x-fal-retryable": "false"}}


def _refuse(request: Request, refusal: Refusal) -> Response:
    status = _STATUSES.get(refusal.code, refusal.status)
    if refusal.code == "moderation":
        error = _model_error("content_policy_violation", refusal.message, ["body", "prompt"])
    elif refusal.code == "invalid_request":
        kind, place = (refusal.kind, refusal.place) if isinstance(refusal, Invalid) else ("value_error", ["body"])
        error = _model_error(kind, refusal.message, place)
    else:
        words = _NO_MONEY if refusal.code == "payment_required" else refusal.message
        error = {"body": {"detail": words}, "headers": {}}
    if status == 404 and request.method == "PUT":
        error["body"] = {"status": "NOT_FOUND"}
    return JSONResponse(error["body"], status, {**error["headers"], **(refusal.headers or {})})


def _ring(studio: Studio, work: Work, event: str) -> Ring:
    now = studio.clock()
    code, error = _ended(work, status) if (status := work.status(now)) in TERMINAL else (200, {})
    ended: dict[str, Any] = {"status": "OK", "payload": None}
    if code != 200:
        ended = {"status": "ERROR", "error": f"Invalid status code: {code}", "payload": error["body"]}
    elif event != "early":
        ended["payload"] = _output(studio.files.link(work.body["origin"], work, sound=True)[0])
    body = json.dumps({"request_id": work.id, "gateway_request_id": work.id, **ended}).encode()
    lines = [work.id, "mock-user", str(int(now)), hashlib.sha256(body).hexdigest()]
    signature = _key(studio).sign("\n".join(lines).encode()).hex()
    names = ("request-id", "user-id", "timestamp", "signature")
    headers = {f"x-fal-webhook-{name}": text for name, text in zip(names, [*lines[:3], signature], strict=True)}
    return Ring(body, {"content-type": "application/json", **headers})


def _key(studio: Studio) -> Ed25519PrivateKey:
    """The Ed25519 key that signs callbacks."""
    return Ed25519PrivateKey.from_private_bytes(studio.secret_for("fal callbacks"))


DIALECT = Dialect(NAME, _routes, _refuse, _ring)
