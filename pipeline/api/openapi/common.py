"""Parameters, headers and problems that many operations share."""

from __future__ import annotations

from pipeline.api.openapi.parts import Header, Link, Parameter

STATUS: dict[str, int] = {
    "unauthorized": 401,
    "host_not_allowed": 403,
    "origin_not_allowed": 403,
    "forbidden": 403,
    "rate_limited": 429,
    "not_found": 404,
    "method_not_allowed": 405,
    "invalid_json": 400,
    "invalid_request": 422,
    "unsupported_parameters": 422,
    "unknown_provider": 422,
    "provider_not_configured": 422,
    "webhook_not_allowed": 422,
    "body_too_large": 413,
    "unsupported_media_type": 415,
    "idempotency_conflict": 422,
    "generation_id_conflict": 409,
    "request_in_progress": 409,
    "invalid_idempotency_key": 400,
    "invalid_parameter": 400,
    "gone": 410,
    "not_ended": 409,
    "not_redrivable": 409,
    "repay_needed": 409,
    "not_held": 409,
    "still_under_way": 409,
    "operation_unknown": 422,
    "operation_taken": 409,
    "provider_unreachable": 503,
    "spend_cap": 402,
    "not_ready": 409,
    "video_gone": 410,
    "range_not_satisfiable": 416,
    "storage_unavailable": 503,
    "overloaded": 503,
    "too_many_watchers": 503,
    "database_unavailable": 503,
    "commit_unknown": 503,
    "set_by_settings": 409,
    "too_many": 409,
    "sealed_away": 409,
    "callback_refused": 400,
    "callback_unverified": 503,
    "internal_error": 500,
}
"""The status of every problem that an operation may answer with."""

ALWAYS = ("invalid_parameter", "host_not_allowed", "origin_not_allowed", "internal_error")
"""What every operation may answer."""

KEYED = ("unauthorized", "forbidden", "rate_limited", "database_unavailable", "overloaded")
"""What every operation that needs a key may answer, beside those."""

WRITES = ("commit_unknown",)
BODY = ("invalid_json", "invalid_request", "body_too_large", "unsupported_media_type")

REQUEST_ID = Header({"type": "string"}, "the id of this request, as the log names it", always=True)
RETRY_AFTER = Header({"type": "integer", "minimum": 0}, "seconds to wait before asking again")
LOCATION = Header({"type": "string"}, "the path of the generation; an array has none")
APPLIED = Header({"type": "string"}, "`wait=N`, if you asked for it")
PREFER = Parameter(
    "Prefer",
    "header",
    {"type": "string"},
    "`wait=N`: answer once the generation has ended, or after N seconds, at most 60 (RFC 7240)",
)
PROBLEM_HEADERS: dict[int, dict[str, Header]] = {
    401: {"WWW-Authenticate": Header({"type": "string"}, "the challenge (RFC 9110)", always=True)},
    402: {"Retry-After": Header(RETRY_AFTER.schema, "seconds to midnight (UTC), if that helps")},
    429: {"Retry-After": Header(RETRY_AFTER.schema, RETRY_AFTER.description, always=True)},
    503: {"Retry-After": Header(RETRY_AFTER.schema, RETRY_AFTER.description, always=True)},
}
LIMIT_HEADERS = {
    "RateLimit-Policy": Header({"type": "string"}, 'the limit of a key that has one: `"key";q=60;w=60`'),
    "RateLimit": Header({"type": "string"}, 'what is left of it: `"key";r=9;t=10`'),
}
"""Carried by every answer to a key that has a limit (draft-ietf-httpapi-ratelimit-headers)."""

GENERATION_ID = Parameter(
    "id",
    "path",
    {"type": "string", "pattern": r"^[A-Za-z0-9._:@+-]{1,128}$"},
    "our id (`gen_...`) or the app's own `generationId`",
)
IDEMPOTENCY_KEY = Parameter(
    "Idempotency-Key",
    "header",
    {"type": "string", "pattern": "^[!-~]{1,255}$"},
    "makes the request safe to repeat: the same key is one generation, however often it is sent",
)

TEXT = {"type": "string", "pattern": r"^[^\u0000]*$"}
TIME = {"type": "string", "format": "date-time"}
LIMIT = Parameter("limit", "query", {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}, "how many")
NEXT = Header({"type": "string"}, 'the next page as `rel="next"`, if there is one')
MISSING = ("not_found", "gone")
"""What is answered for a generation that never was, and for one that was deleted."""

BY_ID = {"id": "$response.body#/id"}
ABOUT_IT = {
    "get": Link("getGeneration", BY_ID),
    "events": Link("listGenerationEvents", BY_ID),
    "cancel": Link("cancelGeneration", BY_ID),
    "token": Link("createReadToken", BY_ID),
    "redrive": Link("redriveGeneration", BY_ID),
    "delete": Link("deleteGeneration", BY_ID),
    "content": Link("getGenerationContent", BY_ID),
}
"""What can be done with a generation that was answered."""
