"""Veo on Google Cloud (see `providers.google_veo` for its wire), under `/google_veo`.

    POST /v1/projects/P/locations/L/publishers/google/models/M:predictLongRunning      {"name"}
    POST /v1/projects/P/locations/L/publishers/google/models/M:fetchPredictOperation   the operation
    GET  /storage/v1/b/{bucket}/o/{object}?alt=media                                   Cloud Storage's part: the file
    POST /token                                      a token for the assertion of a service account, of any account

All but the last two under /v1beta1, too, as the official client has it. Whoever brings a token may ask. Without
`storageUri` the file comes inside the answer. What fails or is filtered is refunded, of which Google's documentation
says nothing (2026-11).
"""

from __future__ import annotations

import base64
import binascii
import json
import time
from typing import Any
from urllib.parse import parse_qs

import jwt
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from providers.mock.body import read_object, read_raw, require_bearer
from providers.mock.cut import CutBody
from providers.mock.dialect import Dialect, silent
from providers.mock.dialects.google_veo_order import NAME, read_order
from providers.mock.dialects.google_wire import error_info, refused
from providers.mock.order import Refusal
from providers.mock.studio import Studio, uuid_id
from providers.mock.work import Work

VERSIONS = ("v1", "v1beta1")
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
AUDIENCE = "https://oauth2.googleapis.com/token"

_MODEL = "/{version}/projects/{project}/locations/{location}/publishers/google/models/{model}"
_TYPE = "type.googleapis.com/cloud.ai.large_models.vision.GenerateVideoResponse"
_FILTERED = (
    "Veo could not generate videos because the output images violate Google's usage guidelines. Try rephrasing the"
    " prompt. Support codes: 61493863"
)
_BLOCKED = (
    "The prompt could not be submitted. This prompt contains words that violate Google's Responsible AI practices."
    " Try rephrasing the prompt. Support codes: 90789179"
)
_ERRORS = {
    "internal": {"code": 13, "message": "Internal error encountered."},
    "final": {"code": 9, "message": "The video could not be generated."},
}


class _Veo:
    def __init__(self, studio: Studio) -> None:
        self._studio = studio

    async def submit(self, request: Request) -> Response:
        require_bearer(request)
        parent = _parent(request)
        order = read_order(await read_object(request), request.path_params["model"])
        work = await self._studio.take(order, make_id=lambda bits: f"{parent}/operations/{uuid_id(bits)}")
        return JSONResponse({"name": work.id})

    async def poll(self, request: Request) -> Response:
        require_bearer(request)
        name = (await read_object(request)).get("operationName")
        if not isinstance(name, str) or not name.startswith(f"{_parent(request)}/operations/"):
            raise Refusal(400, "invalid_request", "Invalid operation name, or one of another model.")
        work = self._studio.find(name, NAME)
        status = self._studio.look(work)
        if status == "failed":
            return JSONResponse(_failed(work))
        if status != "succeeded":
            return JSONResponse({"name": work.id})
        return self._done(work)

    async def object(self, request: Request) -> Response:
        require_bearer(request)
        work = self._named(request.path_params["object"])
        place = f"gs://{request.path_params['bucket']}/{request.path_params['object']}"
        one_segment = b"/" not in request.scope["raw_path"].partition(b"/o/")[2]  # as Cloud Storage wants it
        gone = work is None or not one_segment or place != _place(work) or self._fires("expired-url", work)
        if work is None or gone:
            raise Refusal(404, "not_found", f"No such object: {place.removeprefix('gs://')}")
        return await self._studio.files.respond(request, work)

    async def token(self, request: Request) -> Response:
        """A token for an assertion of the right form. Whether it is signed rightly nobody here can know."""
        form = parse_qs((await read_raw(request)).decode("utf-8", "replace"))
        if form.get("grant_type") != [GRANT]:
            return _no_grant("unsupported_grant_type", "Invalid grant_type")
        wrong = _wrong_assertion(form.get("assertion", [""])[0], time.time())
        if wrong:
            return _no_grant("invalid_grant", wrong)
        return JSONResponse({"access_token": "ya29.mock", "expires_in": 3599, "token_type": "Bearer"})

    def _done(self, work: Work) -> Response:
        video = {"mimeType": "video/mp4", "gcsUri": _place(work)}
        if work.body["storage"] is not None and not self._studio.inline(work):
            return JSONResponse(_response(work, {"raiMediaFilteredCount": 0, "videos": [video]}))
        data = base64.b64encode(self._studio.files.bytes_of(work)).decode()
        video = {"mimeType": "video/mp4", "bytesBase64Encoded": data}
        body = json.dumps(_response(work, {"raiMediaFilteredCount": 0, "videos": [video]})).encode()
        if self._fires("truncated", work):
            return CutBody(body[: len(body) // 2], len(body), "application/json")
        return Response(body, media_type="application/json")

    def _named(self, key: str) -> Work | None:
        """The work whose name is the last folder of an object."""
        try:
            name = base64.urlsafe_b64decode(key.split("/")[-2].encode()).decode()
        except (binascii.Error, ValueError, IndexError):
            return None
        work = self._studio.state.by_id(name)
        return work if work is not None and work.dialect == NAME and work.body["storage"] is not None else None

    def _fires(self, fault: str, work: Work) -> bool:
        return self._studio.faults.fires(fault, work.prompt, work.id)


def _parent(request: Request) -> str:
    given = request.path_params
    return f"projects/{given['project']}/locations/{given['location']}/publishers/google/models/{given['model']}"


def _place(work: Work) -> str:
    """Where the file is in Cloud Storage: its folder there tells whose it is."""
    return f"{work.body['storage']}{base64.urlsafe_b64encode(work.id.encode()).decode()}/sample_0.mp4"


def _response(work: Work, response: dict[str, Any]) -> dict[str, Any]:
    return {"name": work.id, "done": True, "response": {"@type": _TYPE, **response}}


def _failed(work: Work) -> dict[str, Any]:
    if work.ending in _ERRORS:
        return {"name": work.id, "done": True, "error": _ERRORS[work.ending]}
    return _response(work, {"raiMediaFilteredCount": 1, "raiMediaFilteredReasons": [_FILTERED]})


def _no_grant(error: str, description: str) -> Response:
    return JSONResponse({"error": error, "error_description": description}, 400)


def _wrong_assertion(assertion: str, now: float) -> str | None:
    """What is wrong with a service account's assertion, but for its signature."""
    try:
        header = jwt.get_unverified_header(assertion)
        claims = jwt.decode(assertion, options={"verify_signature": False})
        begins, ends = int(claims["iat"]), int(claims["exp"])
    except (jwt.PyJWTError, KeyError, ValueError, TypeError):
        return "Invalid JWT: it cannot be read"
    if header.get("alg") != "RS256" or not claims.get("iss"):
        return "Invalid JWT Signature."
    if claims.get("aud") != AUDIENCE:
        return "Invalid JWT: Failed audience check."
    if not (begins - 300 <= now < ends <= begins + 3600):
        return "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe."
    return None if "cloud-platform" in str(claims.get("scope")) else "Invalid OAuth scope"


def _routes(studio: Studio) -> list[Route]:
    veo = _Veo(studio)
    routes = [
        Route("/token", veo.token, methods=["POST"]),
        Route("/storage/v1/b/{bucket}/o/{object:path}", veo.object, methods=["GET"]),
    ]
    for version in VERSIONS:
        model = _MODEL.replace("{version}", version)
        routes += [
            Route(f"{model}:predictLongRunning", veo.submit, methods=["POST"]),
            Route(f"{model}:fetchPredictOperation", veo.poll, methods=["POST"]),
        ]
    return routes


def _refuse(_: Request, refusal: Refusal) -> Response:
    if refusal.code == "payment_required":
        message = "This API method requires billing to be enabled. Please enable billing on project."
        return refused(Refusal(403, refusal.code, message), details=[error_info("BILLING_DISABLED")])
    if refusal.code == "moderation":
        return refused(Refusal(400, refusal.code, _BLOCKED))
    return refused(refusal)


DIALECT = Dialect(NAME, _routes, _refuse, silent)
