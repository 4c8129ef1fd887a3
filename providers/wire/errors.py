"""From status lines, headers and error bodies to ProviderError. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from providers.base import ErrorCode, ProviderError
from providers.wire.exchange import Answer

MAX_RETRY_AFTER = 86_400.0

ReadError = Callable[[int, Mapping[str, str], Any], ProviderError]

_CODES = {
    401: ErrorCode.AUTH,
    402: ErrorCode.QUOTA,
    403: ErrorCode.AUTH,
    404: ErrorCode.NOT_FOUND,
    410: ErrorCode.NOT_FOUND,
    408: ErrorCode.TRANSIENT,
    409: ErrorCode.TRANSIENT,
    425: ErrorCode.TRANSIENT,
    429: ErrorCode.RATE_LIMITED,
    499: ErrorCode.TRANSIENT,
}


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds to wait as `Retry-After` asks, 0 to one day, from either of its forms; None when absent or unreadable.

    Args:
        headers: any case of the name is found.
        now: Unix seconds, from which a date is counted where the answer does not say when it was made: its own `Date`
            goes first, so that neither clock need be right.
    """
    value = _header(headers, "retry-after")
    try:
        seconds = float(value)
    except ValueError:
        said = _seconds(_header(headers, "date"))
        seconds = _seconds(value) - (now if math.isnan(said) else said)
    return None if math.isnan(seconds) else min(max(seconds, 0.0), MAX_RETRY_AFTER)


def _header(headers: Mapping[str, str], name: str) -> str:
    return next((text.strip() for each, text in headers.items() if each.lower() == name), "")


def _seconds(date: str) -> float:
    """Unix seconds, or NaN."""
    try:
        return parsedate_to_datetime(date).timestamp()
    except (ValueError, OverflowError, TypeError):
        return math.nan


def error_of(status: int, headers: Mapping[str, str], body: object) -> ProviderError:
    """The error that a status line alone tells, with the message of the usual envelopes if the body has one.

    A redirect counts as UNREADABLE: it is worth another try of a free call, and is never followed.
    """
    code = _CODES.get(status)
    if code is None:
        code = ErrorCode.INVALID_REQUEST if 400 <= status < 500 else ErrorCode.TRANSIENT
    if status < 400:
        code = ErrorCode.UNREADABLE
    provider_code, message = envelope(body)
    return ProviderError(
        code, message or f"the provider answered {status}", provider_code=provider_code, http_status=status
    )


def with_code(error: ProviderError, code: ErrorCode, *, billed: bool | None = None) -> ProviderError:
    """The same error in another class of the taxonomy, for adapters that know better than the status line."""
    return ProviderError(
        code,
        error.message,
        retry_after=error.retry_after,
        provider_code=error.provider_code,
        http_status=error.http_status,
        billed=billed,
    )


_URL = re.compile(r"https?://\S+", re.I)
_REFUSED = re.compile(
    r"(content|safety|usage).{0,20}polic|moderat|nsfw|sensitive content|risk control|blocked.{0,60}(safety|polic)", re.I
)


def looks_refused(text: str) -> bool:
    """Whether free text speaks of moderation. The last resort, where a provider has no code for it."""
    return _REFUSED.search(without_urls(text)) is not None


def without_urls(text: str) -> str:
    """Free text without the addresses in it, whose names say nothing."""
    return _URL.sub(" ", text)


def envelope(body: object) -> tuple[str | None, str | None]:
    """Code and message out of `{"error": {"code", "message"}}` and its usual variants; None for what is not there."""
    inner = body.get("error", body) if isinstance(body, dict) else body
    if isinstance(inner, str):
        return None, inner
    if not isinstance(inner, dict):
        return None, None
    code = inner.get("code", inner.get("type"))
    message = inner.get("message", inner.get("detail"))
    return None if code is None else str(code)[:100], message if isinstance(message, str) else None


def read_failure(answer: Answer, read_error: ReadError, now: float) -> ProviderError:
    """The adapter's reading of a failed answer, completed with status and Retry-After; `error_of` where it fails."""
    body = answer.json_or_none()
    try:
        error = read_error(answer.status, answer.headers, body)
    except Exception:
        error = error_of(answer.status, answer.headers, body)
    error.http_status = error.http_status or answer.status
    if error.retry_after is None:
        error.retry_after = retry_after(answer.headers, now)
    return error
