"""Problem responses (RFC 9457): what is wrong, where, what would be taken, and whether trying again may help.

::

    Problem              status, code; `errors` point at the members of the body
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from pipeline.db import CommitUnknown, DatabaseBusy, DatabaseError, DatabaseUnavailable, WriterFull
from pipeline.telemetry import emit

TITLES: dict[str, str] = {
    "unauthorized": "A key is needed",
    "host_not_allowed": "The service is not reached under this name",
    "origin_not_allowed": "A page of another site asks",
    "forbidden": "The key may not do this",
    "rate_limited": "The key makes too many requests",
    "not_found": "There is no such thing",
    "method_not_allowed": "This cannot be done here",
    "invalid_json": "The body is not JSON",
    "invalid_request": "The request has mistakes",
    "unsupported_parameters": "The provider does not offer this",
    "unknown_provider": "There is no such provider",
    "provider_not_configured": "The provider cannot be asked here",
    "webhook_not_allowed": "The webhook URL is not allowed",
    "body_too_large": "The body is too large",
    "unsupported_media_type": "The body must be JSON",
    "idempotency_conflict": "The key was used for another request",
    "generation_id_conflict": "The generationId was used for another request",
    "request_in_progress": "The same request is being answered",
    "invalid_idempotency_key": "The Idempotency-Key cannot be used",
    "invalid_parameter": "A query parameter has a mistake",
    "gone": "The generation was deleted",
    "not_ended": "The generation has not ended",
    "not_redrivable": "The generation cannot go on",
    "repay_needed": "It would be paid for again",
    "not_held": "No paid call of this generation is unclear",
    "still_under_way": "The paid call may still be answered",
    "operation_unknown": "The provider does not know this operation",
    "operation_taken": "The operation is another call's",
    "provider_unreachable": "The provider could not be asked",
    "spend_cap": "There is no money for it today",
    "not_ready": "The video is not there",
    "video_gone": "The video's file is gone",
    "range_not_satisfiable": "The range is outside the file",
    "storage_unavailable": "The storage cannot be reached",
    "overloaded": "Too much is waiting",
    "too_many_watchers": "Too many are watching",
    "database_unavailable": "The database cannot be reached",
    "commit_unknown": "The answer of the database was lost",
    "set_by_settings": "The settings decide this",
    "too_many": "There are as many as there may be",
    "sealed_away": "What is kept cannot be opened",
    "callback_refused": "The callback is not what the provider sends",
    "callback_unverified": "The callback cannot be verified just now",
    "internal_error": "Something went wrong here",
    "http_error": "The request cannot be answered",
}


MAX_ERRORS = 50
MAX_POINTER = 300


class Problem(Exception):
    """An answer that says no, by the name of RFC 9457.

    `errors` are `{pointer, detail, allowed?}`; `existing_id` is the generation that stands in the way; `members` are
    what this kind of problem says besides.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        errors: Sequence[Mapping[str, Any]] = (),
        headers: Mapping[str, str] | None = None,
        retryable: bool = False,
        existing_id: str | None = None,
        members: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = list(errors)
        self.headers = dict(headers or {})
        self.retryable = retryable
        self.existing_id = existing_id
        self.members = dict(members or {})

    def response(self, request: Request) -> Response:
        """As `application/problem+json`; the log line of the request names the code."""
        request.scope.setdefault("state", {})["problem"] = self.code
        return JSONResponse(self.body(request), self.status, self.headers, media_type="application/problem+json")

    def body(self, request: Request) -> dict[str, Any]:
        """The members of the problem, in JSON's words."""
        body: dict[str, Any] = {
            "type": f"/problems/{self.code}",
            "title": TITLES[self.code],
            "status": self.status,
            "detail": self.detail,
            "instance": request.scope["path"],
            "code": self.code,
            "requestId": request.scope.get("state", {}).get("request_id"),
            "retryable": self.retryable,
        }
        if self.errors:
            body["errors"] = self.errors
        if self.existing_id is not None:
            body["existingId"] = self.existing_id
        return body | self.members


def from_validation(error: ValidationError) -> Problem:
    """What pydantic found, one entry per member, with pointers into the body."""
    found = error.errors(include_url=False, include_input=False)
    errors = [{"pointer": _pointer(item["loc"]), "detail": _sentence(item)} for item in found[:MAX_ERRORS]]
    return Problem(422, "invalid_request", f"{len(found)} member(s) of the body cannot be taken", errors=errors)


def _pointer(place: Sequence[int | str]) -> str:
    """A JSON Pointer (RFC 6901); pydantic marks a bad name of a member with a last part of its own."""
    parts = place[:-1] if place and place[-1] == "[key]" else place
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)[:MAX_POINTER]


def _sentence(item: Mapping[str, Any]) -> str:
    if item["type"] == "extra_forbidden":
        return "is not a member of this request (a typo?)"
    if item["type"] == "missing":
        return "is required"
    if item["type"] == "string_pattern_mismatch":
        return "is not an http:// or https:// URL"
    return str(item["msg"]).removeprefix("Value error, ")


async def explain(request: Request) -> Response:
    """`GET /problems/{code}`: what a problem's `type` points at."""
    code = request.path_params["code"]
    if code not in TITLES:
        raise Problem(404, "not_found", f"there is no problem {code!r}; there are {', '.join(TITLES)}")
    return PlainTextResponse(f"{code}: {TITLES[code]}.\n")


async def handle(request: Request, error: Exception) -> Response:
    """Every exception as a problem. What nobody foresaw is logged with its trace, and shows nothing of itself.

    Of a database that is away every request tells in a line, and none with a trace: there is no bug to find.
    """
    problem = to_problem(error)
    if problem.status >= 500 and not isinstance(error, Problem | WriterFull | DatabaseBusy):
        request_id = request.scope.get("state", {}).get("request_id")
        if isinstance(error, CommitUnknown | DatabaseUnavailable):
            emit("request.failed", level=logging.WARNING, request=request_id, error=str(error))
        else:
            emit("request.failed", level=logging.ERROR, exc_info=error, request=request_id, error=type(error).__name__)
    return problem.response(request)


def to_problem(error: Exception) -> Problem:
    """Which problem an exception is."""
    match error:
        case Problem():
            return error
        case WriterFull() | DatabaseBusy():
            detail = "too much is being written; nothing of this request was kept: repeat it"
            return Problem(503, "overloaded", detail, headers={"Retry-After": "2"}, retryable=True)
        case CommitUnknown():
            detail = "the request may or may not have been kept: repeat it with the same Idempotency-Key"
            return Problem(503, "commit_unknown", detail, headers={"Retry-After": "2"}, retryable=True)
        case DatabaseError() | PoolTimeout():
            detail = "the database did not answer; the reason is in the log under this requestId"
            return Problem(503, "database_unavailable", detail, headers={"Retry-After": "5"}, retryable=True)
        case HTTPException():
            return _from_http(error)
    return Problem(500, "internal_error", "the error is in the log under this requestId", retryable=True)


def _from_http(error: HTTPException) -> Problem:
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
    return Problem(error.status_code, code, error.detail, headers=error.headers)
