"""What an answer means: the result of an attempt, a sentence for people, and the verdict. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import StrEnum

import httpx

from webhooks.hints import hint
from webhooks.wire import Headers, Wire, printable

MAX_RETRY_AFTER = 86_400.0
"""Seconds. A receiver may slow us down for a day, not for ever."""


class Reason(StrEnum):
    """How an attempt ended, one word for metrics and filters."""

    ANSWERED = "answered"
    BAD_URL = "bad_url"
    BLOCKED_ADDRESS = "blocked_address"
    DNS = "dns"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    CONNECT_TIMEOUT = "connect_timeout"
    TLS = "tls"
    TIMEOUT = "timeout"
    RESET = "reset"
    BAD_HTTP = "bad_http"
    POOL = "pool"
    PROXY_FAILED = "proxy_failed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class SendResult:
    """One attempt, as it ended.

    Args:
        status: the status line's number, or None if no answer's headers were read.
        reason: ANSWERED whenever there is a status, whatever happened to the body.
        ms: milliseconds from start to end.
        response: the first bytes of the answer's body, raw, at most 4,096.
        detail: one sentence for people, with what to do.
        retry_after: seconds that a failing receiver asked us to wait, 0 to 86,400, or None.
        address: the IP address that was reached, if the transport told.
        wire: what was sent, over what, and where the time went.
    """

    status: int | None
    reason: Reason
    ms: int
    response: bytes = b""
    detail: str = ""
    retry_after: float | None = None
    address: str | None = None
    wire: Wire = field(default_factory=Wire)


@dataclass(frozen=True, slots=True)
class Delivered:
    """A 2xx was answered: never send this event to this endpoint again."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Not delivered: try again on schedule, but not before `retry_after` seconds if that is set."""

    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Gone:
    """410: the receiver is gone for good; disable the endpoint."""


Verdict = Delivered | Retry | Gone


def judge(result: SendResult) -> Verdict:
    """2xx is success and nothing else is; 410 disables; all else is tried again, because deploys repair it."""
    if result.status is not None and 200 <= result.status <= 299:
        return Delivered()
    if result.status == 410:
        return Gone()
    return Retry(result.retry_after)


def parse_retry_after(value: str | None, now: float) -> float | None:
    """Seconds to wait from `now` (Unix seconds), 0 to MAX_RETRY_AFTER; None for anything unreadable.

    Reads seconds, also with a fraction, and the three HTTP date forms (RFC 9110, 10.2.3 and 5.6.7). A past date is 0.
    """
    text = (value or "").strip()
    if re.fullmatch(r"[0-9]{1,40}(\.[0-9]{1,40})?", text):
        return min(float(text), MAX_RETRY_AFTER)
    if len(text) > 64 or not re.match(r"[A-Za-z]{3,9},? ", text):
        return None
    try:
        moment = parsedate_to_datetime(text)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return min(max(moment.timestamp() - now, 0.0), MAX_RETRY_AFTER)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


_REDIRECTS = frozenset({301, 302, 303, 307, 308})


def describe(status: int, url: str, location: str | None, headers: Headers = (), body: bytes = b"") -> str:
    """One sentence about an answer to a POST to `url`; `location` is its Location header, `body` its first bytes."""
    if 200 <= status <= 299:
        return f"{status}: delivered"
    if status in _REDIRECTS:
        return f"{status}: {_redirect(url, location)}"
    return f"{status}: {hint(status, headers, body)}"


def _redirect(url: str, location: str | None) -> str:
    """Redirects are not followed: a 301 would turn the POST into a GET whose 200 means nothing."""
    try:
        here = httpx.URL(url)
        target = here.join(location or "")
    except (httpx.InvalidURL, ValueError):
        return "a redirect to no readable address, and none is followed; register the receiver's final URL"
    if not location:
        return "a redirect without a target; register the receiver's final URL"
    same = target.host == here.host and target.path.rstrip("/") == here.path.rstrip("/") and target.path != here.path
    why = " (only the trailing slash differs)" if same else ""
    shown = printable(str(target.copy_with(query=None, fragment=None, userinfo=b"")))
    return f"redirects to {shown}{why}, and redirects are not followed; register that URL"
