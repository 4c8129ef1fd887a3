"""Problem responses (RFC 9457): what is wrong, where, what would be taken, and whether trying again may help.

::

    Problem              status, code; `errors` point at the members of the body
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from pipeline.db import CommitUnknown, DatabaseBusy, WriterFull

TITLES: dict[str, str] = {
    "unauthorized": "A key is needed",
    "not_found": "There is no such thing",
    "method_not_allowed": "This cannot be done here",
    "invalid_json": "The body is not JSON",
    "invalid_request": "The request has mistakes",
    "unsupported_parameters": "The provider does not offer this",
    "unknown_provider": "There is no such provider",
    "provider_not_configured": "The provider is not configured",
    "webhook_not_allowed": "The webhook URL is not allowed",
    "body_too_large": "The body is too large",
    "unsupported_media_type": "The body must be JSON",
    "idempotency_conflict": "The key was used for another request",
    "generation_id_conflict": "The generationId was used for another request",
    "request_in_progress": "The same request is being answered",
    "invalid_idempotency_key": "The Idempotency-Key cannot be used",
    "invalid_parameter": "A query parameter has a mistake",
    "not_ready": "The video is not there",
    "range_not_satisfiable": "The range is outside the file",
    "storage_unavailable": "The storage cannot be reached",
    "overloaded": "Too much is waiting",
    "commit_unknown": "The answer of the database was lost",
    "callback_refused": "The callback is not what the provider sends",
    "internal_error": "Something went wrong here",
    "http_error": "The request cannot be answered",
}


class Problem(Exception):  # noqa: N818 - the name of RFC 9457
    """An answer that says no. `errors` are `{pointer, detail, allowed?}`."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        errors: Sequence[Mapping[str, Any]] = (),
        headers: Mapping[str, str] | None = None,
        retryable: bool = False,
        **extra: Any,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = list(errors)
        self.headers = dict(headers or {})
        self.retryable = retryable
        self.extra = extra

    def response(self, request: Request) -> Response:
        """As `application/problem+json`."""
        body: dict[str, Any] = {
            "type": f"about:blank#{self.code}",
            "title": TITLES[self.code],
            "status": self.status,
            "detail": self.detail,
            "instance": request.url.path,
            "code": self.code,
            "requestId": request.scope.get("state", {}).get("request_id"),
            "retryable": self.retryable,
        }
        if self.errors:
            body["errors"] = self.errors
        body |= self.extra
        return JSONResponse(body, self.status, self.headers, media_type="application/problem+json")


def from_validation(error: ValidationError) -> Problem:
    """What pydantic found, one entry per member, with pointers into the body."""
    errors = []
    for item in error.errors(include_url=False, include_input=False):
        entry: dict[str, Any] = {"pointer": "".join(f"/{part}" for part in item["loc"]), "detail": _sentence(item)}
        allowed = item.get("ctx", {}).get("expected")
        if allowed is not None:
            entry["allowed"] = allowed
        errors.append(entry)
    return Problem(422, "invalid_request", f"{len(errors)} member(s) of the body cannot be taken", errors=errors)


def _sentence(item: Mapping[str, Any]) -> str:
    if item["type"] == "extra_forbidden":
        return "is not a member of this request (a typo?)"
    if item["type"] == "missing":
        return "is required"
    return str(item["msg"]).removeprefix("Value error, ")


async def handle(request: Request, error: Exception) -> Response:
    """Every exception as a problem; Starlette calls this."""
    return to_problem(error).response(request)


def to_problem(error: Exception) -> Problem:
    """Which problem an exception is."""
    match error:
        case Problem():
            return error
        case ValidationError():
            return from_validation(error)
        case WriterFull() | DatabaseBusy():
            return Problem(503, "overloaded", str(error), headers={"Retry-After": "2"}, retryable=True)
        case CommitUnknown():
            detail = "the request may or may not have been kept: repeat it with the same Idempotency-Key"
            return Problem(503, "commit_unknown", detail, headers={"Retry-After": "2"}, retryable=True)
        case HTTPException():
            return _from_http(error)
    logging.getLogger("dailies").error("request.failed", exc_info=error, extra={"fields": {"error": repr(error)}})
    return Problem(500, "internal_error", "the error is in the log under this requestId", retryable=True)


def _from_http(error: HTTPException) -> Problem:
    code = {404: "not_found", 405: "method_not_allowed", 413: "body_too_large", 416: "range_not_satisfiable"}.get(
        error.status_code, "http_error"
    )
    return Problem(error.status_code, code, error.detail, headers=error.headers)
