"""What Google's video APIs have in common: their error envelope, their words for failures, and labels. Pure.

    {"error": {"code", "message", "status": "INVALID_ARGUMENT", "details": [{"@type", "reason"|"retryDelay"|...}]}}

`code` is the HTTP status or a word, and Google's front end may wrap the whole in a list (observed 2026-07). An
operation's own error has a google.rpc code instead (https://cloud.google.com/apis/design/errors, 2026-11).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from providers.base import ErrorCode, ProviderError
from providers.wire import error_of, looks_refused

_RPC = {
    **{1: "CANCELLED", 2: "UNKNOWN", 3: "INVALID_ARGUMENT", 4: "DEADLINE_EXCEEDED", 5: "NOT_FOUND"},
    **{6: "ALREADY_EXISTS", 7: "PERMISSION_DENIED", 8: "RESOURCE_EXHAUSTED", 9: "FAILED_PRECONDITION", 10: "ABORTED"},
    **{11: "OUT_OF_RANGE", 12: "UNIMPLEMENTED", 13: "INTERNAL", 14: "UNAVAILABLE", 16: "UNAUTHENTICATED"},
}
_CODES = {
    "CANCELLED": ErrorCode.CANCELLED,
    "INVALID_ARGUMENT": ErrorCode.INVALID_REQUEST,
    "FAILED_PRECONDITION": ErrorCode.INVALID_REQUEST,
    "OUT_OF_RANGE": ErrorCode.INVALID_REQUEST,
    "UNIMPLEMENTED": ErrorCode.INVALID_REQUEST,
    "INVALID_REQUEST": ErrorCode.INVALID_REQUEST,
    "NOT_FOUND": ErrorCode.NOT_FOUND,
    "UNAUTHENTICATED": ErrorCode.AUTH,
    "PERMISSION_DENIED": ErrorCode.AUTH,
    "API_KEY_INVALID": ErrorCode.AUTH,
    "API_KEY_SERVICE_BLOCKED": ErrorCode.AUTH,
    "SERVICE_DISABLED": ErrorCode.AUTH,
    "BILLING_DISABLED": ErrorCode.QUOTA,
    "BUDGET_EXCEEDED": ErrorCode.QUOTA,
    "RESOURCE_EXHAUSTED": ErrorCode.RATE_LIMITED,
    "RATE_LIMIT_EXCEEDED": ErrorCode.RATE_LIMITED,
    "UNAVAILABLE": ErrorCode.TRANSIENT,
    "INTERNAL": ErrorCode.TRANSIENT,
    "DEADLINE_EXCEEDED": ErrorCode.TRANSIENT,
    "ABORTED": ErrorCode.TRANSIENT,
    "UNKNOWN": ErrorCode.TRANSIENT,
}
_TELLING = frozenset({"API_KEY_INVALID", "API_KEY_SERVICE_BLOCKED", "SERVICE_DISABLED", "BILLING_DISABLED"})
"""Reasons that say more than the status they come with."""
_UNSAFE = re.compile(r"SAFETY|PROHIBITED_CONTENT|BLOCKLIST|\bSPII\b|CONTENT_POLICY|MODERATION")
_BLOCKED = re.compile(r"blocked.{0,80}polic|polic.{0,80}blocked|violat.{0,60}polic|support codes?:", re.I)
_GONE = re.compile(r"invalid (interaction|operation) name|no longer available|is not found for API version", re.I)
_SPENT = re.compile(r"limit: 0\b|per[ _]?day", re.I)
_UNPAID = re.compile(r"billing|prepa(y|id)|credits?\b", re.I)
_SECONDS = re.compile(r"\d{1,6}(?:\.\d{1,9})?s")
_LABEL = re.compile(r"[^a-z0-9_-]")
MAX_LABEL = 63


def label(token: str) -> str:
    """A label's value: at most 63 lowercase letters, digits, `_` and `-` (google-genai 3.4.0, types)."""
    return _LABEL.sub("-", token.lower())[:MAX_LABEL]


def read_error(status: int, headers: Mapping[str, str], body: object) -> ProviderError:
    """A refused call, by its words first, then by its status line. Never raises for what the body holds."""
    inner = _inner(body)
    details = [each for each in _listed(inner.get("details")) if isinstance(each, dict)]
    words = [*_reasons(details), *_words(inner.get("status"), inner.get("code"))]
    message = inner["message"] if isinstance(inner.get("message"), str) else ""
    wait = _delay(details)
    plain = error_of(status, headers, {"error": {"message": message} if message else inner})
    code = _code(words, message, status, wait, str(details)) or plain.code
    return ProviderError(
        code,
        plain.message,
        retry_after=wait,
        provider_code=next(iter(words), None),
        http_status=status,
    )


def failure(error: object, fallback: str) -> ProviderError:
    """Why work that was taken came to nothing: {"code": a word, an address that ends in one, or a google.rpc code,
    "message"}. Of the charge Google's documentation says nothing (2026-11), so that it is unknown."""
    inner = error if isinstance(error, dict) else {}
    number = inner.get("code")
    word = _RPC.get(number) if type(number) is int else next(_words(inner.get("code"), inner.get("status")), None)
    message = inner["message"] if isinstance(inner.get("message"), str) else fallback
    if _is_refusal([word or ""], message):
        code = ErrorCode.MODERATION
    else:
        code = _CODES.get(word or "", ErrorCode.PROVIDER_ERROR)
        code = ErrorCode.TRANSIENT if code is ErrorCode.RATE_LIMITED else code
    return ProviderError(code, message, provider_code=word)


def _code(words: list[str], message: str, status: int, wait: float | None, details: str) -> ErrorCode | None:
    """The class of the words, or None where they tell nothing."""
    if status in {400, 422} and _is_refusal(words, message):
        return ErrorCode.MODERATION
    if status in {400, 404} and _GONE.search(message):
        return ErrorCode.NOT_FOUND
    code = next((_CODES[word] for word in words if word in _CODES), None)
    if code is ErrorCode.RATE_LIMITED or (code is None and status == 429):
        spent = _SPENT.search(message) or _SPENT.search(details) or (wait is None and _UNPAID.search(message))
        return ErrorCode.QUOTA if spent else ErrorCode.RATE_LIMITED
    return code


def _is_refusal(words: list[str], message: str) -> bool:
    unsafe = any(_UNSAFE.search(word) for word in words)
    return unsafe or looks_refused(message) or _BLOCKED.search(message) is not None


def _inner(body: object) -> dict[str, Any]:
    body = body[0] if isinstance(body, list) and body else body
    error = body.get("error", body) if isinstance(body, dict) else body
    if isinstance(error, str):
        return {"message": error}
    return error if isinstance(error, dict) else {}


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _words(*values: object) -> Iterator[str]:
    for value in values:
        if isinstance(value, str) and value:
            yield value.rpartition("/")[2].upper().replace("-", "_").replace(" ", "_")[:100]


def _reasons(details: list[dict[str, Any]]) -> Iterator[str]:
    for each in details:
        yield from (word for word in _words(each.get("reason")) if word in _TELLING)


def _delay(details: list[dict[str, Any]]) -> float | None:
    """Seconds that google.rpc.RetryInfo asks to wait."""
    delays = [each["retryDelay"] for each in details if isinstance(each.get("retryDelay"), str)]
    return next((float(delay[:-1]) for delay in delays if _SECONDS.fullmatch(delay)), None)
