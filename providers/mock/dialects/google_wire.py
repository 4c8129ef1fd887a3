"""What the dialects of Google's two video APIs have in common: error envelopes, and how requests are read. Pure."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse, Response

from providers.mock.members import invalid, text
from providers.mock.order import Refusal

_WORDS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    405: "UNIMPLEMENTED",
    413: "INVALID_ARGUMENT",
    416: "OUT_OF_RANGE",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_LABEL = re.compile(r"[a-z0-9_-]{0,63}")
_LABEL_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")


def refused(
    refusal: Refusal, *, status: int | None = None, word: str | None = None, details: list[dict[str, Any]] | None = None
) -> Response:
    """A refusal in Google's envelope; Retry-After is also told as google.rpc.RetryInfo."""
    number = status or refusal.status
    found = list(details or [])
    headers = refusal.headers or {}
    if "retry-after" in headers:
        found.append({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{headers['retry-after']}s"})
    error: dict[str, Any] = {
        "code": number,
        "message": refusal.message,
        "status": word or _WORDS.get(number, "UNKNOWN"),
    }
    return JSONResponse({"error": error | ({"details": found} if found else {})}, number, headers)


def error_info(reason: str, domain: str = "googleapis.com") -> dict[str, Any]:
    """A detail that names a reason."""
    return {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": domain}


def part(raw: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A member that is an object; empty where there is none. Raises Refusal."""
    value = raw.get(name)
    if not isinstance(value, dict | None):
        raise invalid(f'Invalid value at "{name}": expected an object')
    return value or {}


def choice(raw: Mapping[str, Any], name: str, *allowed: str) -> str | None:
    """A text out of a list, or None where there is none. Raises Refusal."""
    value = text(raw, name)
    if value is not None and value not in allowed:
        raise invalid(f'Invalid value at "{name}": expected one of {", ".join(allowed)}')
    return value


def labels(raw: Mapping[str, Any]) -> dict[str, str]:
    """The labels: at most 63 characters each, lowercase. Raises Refusal."""
    given = part(raw, "labels")
    for name, value in given.items():
        if not (_LABEL_NAME.fullmatch(name) and isinstance(value, str) and _LABEL.fullmatch(value)):
            raise invalid("labels: lowercase letters, digits, _ and -, at most 63 of them")
    return dict(given)


def picture_bytes(value: object, name: str) -> bytes:
    """Base64 of a picture. Raises Refusal."""
    try:
        return base64.b64decode(value if isinstance(value, str) else "!", validate=True)
    except (binascii.Error, ValueError):
        raise invalid(f'Invalid value at "{name}": Base64 decoding failed') from None
