"""What receivers do wrong, one row each: which behaviour of the sink it is, and what has to come of it.

`make receivers` tries every row over real sockets and prints the table (`tests.webhooks.receivers`).
"""

from __future__ import annotations

from dataclasses import dataclass

from webhooks.sender import Delivered, Gone, Reason, Retry, Verdict

DEADLINE = 1.0
"""Seconds of an attempt in these trials."""


@dataclass(frozen=True, slots=True)
class Row:
    """One receiver.

    Args:
        number: the row of the failure list that it belongs to.
        behaviour: of the sink.
        status: the status that is recorded; None if there is no answer.
        reason: why there is none.
        verdict: what follows; of a Retry its `retry_after` is compared to two seconds.
        words: what the sentence for people says.
        scheme: http or https.
        kept: bytes of the answer's body that are kept, None for any number.
    """

    number: int
    behaviour: str
    status: int | None
    verdict: Verdict
    words: str
    reason: Reason = Reason.ANSWERED
    scheme: str = "http"
    kept: int | None = None


def good(number: int, behaviour: str, status: int = 200, words: str = "delivered", kept: int | None = None) -> Row:
    return Row(number, behaviour, status, Delivered(), words, kept=kept)


def answered(number: int, behaviour: str, status: int, words: str, after: float | None = None) -> Row:
    return Row(number, behaviour, status, Retry(after), words)


def silent(number: int, behaviour: str, reason: Reason, words: str, scheme: str = "http") -> Row:
    return Row(number, behaviour, None, Retry(), words, reason, scheme)


CUT = "its body did not come to an end"
SLOW = "answer first and do the work afterwards"
CRASH = "look at the receiver's log"
NO_HTTP = "not HTTP as we understand it"

ROWS: tuple[Row, ...] = (
    silent(1, "no-accept", Reason.CONNECT_TIMEOUT, "firewall"),
    silent(2, "silence", Reason.TIMEOUT, SLOW),
    silent(3, "slow-headers", Reason.TIMEOUT, SLOW),
    good(4, "slow-body", words=CUT),
    good(4, "no-body-ever", words=CUT, kept=0),
    silent(5, "endless-103", Reason.TIMEOUT, SLOW),
    good(6, "huge-body", kept=4096),
    good(6, "endless-body", kept=4096),
    good(7, "gzip-bomb", kept=4096),
    good(8, "gzip-in-gzip"),
    good(9, "broken-gzip", kept=4),
    good(10, "odd-charset", kept=3),
    *(
        answered(11, f"redirect={code}", code, "/moved/here, and redirects are not followed")
        for code in (301, 302, 303)
    ),
    answered(11, "location=https://user:secret@app.example/x?token=t", 302, "redirects to https://app.example/x, and"),
    answered(12, "redirect=307", 307, "register that URL"),
    answered(12, "trailing-slash", 308, "/hook/ (only the trailing slash differs)"),
    answered(12, "status=308", 308, "a redirect without a target"),
    answered(13, "status=304", 304, "which is for GET"),
    answered(13, "redirect=300", 300, "register the receiver's final URL"),
    good(14, "ok", kept=0),
    good(14, "status=204", 204),
    good(14, "body-on-204", 204),
    good(14, "no-length"),
    good(14, "http10", kept=4),
    good(14, "no-reason"),
    Row(15, "status=410", 410, Gone(), "the endpoint is disabled"),
    answered(16, "status=400", 400, "look at its log"),
    answered(16, "status=401", 401, "dailies verify"),
    answered(16, "login-page", 401, "a page to log in answered instead of the route"),
    answered(16, "status=403", 403, "let the webhook path through"),
    answered(16, "status=404", 404, "check the URL"),
    answered(16, "status=405", 405, "export a POST handler"),
    answered(16, "status=413", 413, "raise the limit"),
    answered(16, "status=422", 422, "ignore members"),
    answered(16, "status=418", 418, "answer 2xx once the event is stored"),
    answered(17, "status=429,retry-after=120", 429, "slow down", 120.0),
    answered(17, "retry-after=120", 503, "not available", 120.0),
    answered(18, "status=429,retry-after=date", 429, "slow down", 60.0),
    answered(18, "retry-after=date", 503, "not available", 60.0),
    answered(18, "retry-after=past", 503, "not available", 0.0),
    answered(18, "retry-after=garbage", 503, "not available"),
    answered(18, "retry-after=negative", 503, "not available"),
    answered(18, "retry-after=huge", 503, "not available", 86_400.0),
    answered(19, "status=500", 500, "handler failed"),
    answered(19, "status=502", 502, "gateway"),
    answered(19, "status=503", 503, "not available"),
    answered(19, "status=504", 504, SLOW),
    answered(20, "status=999", 999, "no such status"),
    silent(20, "status=42", Reason.BAD_HTTP, NO_HTTP),
    silent(21, "status=101", Reason.BAD_HTTP, "WebSockets"),
    silent(22, "reset", Reason.RESET, CRASH),
    silent(22, "reset-on-connect", Reason.RESET, CRASH),
    silent(22, "reset-in-headers", Reason.RESET, CRASH),
    good(23, "reset-in-body", words=CUT),
    good(23, "short-body", words=CUT, kept=1),
    good(23, "broken-chunks", words=CUT),
    silent(24, "close", Reason.RESET, CRASH),
    silent(24, "close-in-headers", Reason.RESET, CRASH),
    silent(26, "garbage", Reason.BAD_HTTP, NO_HTTP),
    silent(26, "http09", Reason.BAD_HTTP, NO_HTTP),
    silent(26, "two-lengths", Reason.BAD_HTTP, NO_HTTP),
    silent(26, "bad-header", Reason.BAD_HTTP, NO_HTTP),
    good(26, "latin1-header"),  # RFC 9110, 5.5: the value is opaque, and the status is plain
    silent(27, "huge-header", Reason.BAD_HTTP, "headers are too large"),
    silent(27, "many-headers", Reason.BAD_HTTP, "too many headers"),
    answered(28, "early-413", 413, "raise the limit"),
    silent(29, "tls-self-signed", Reason.TLS, "nobody we know vouches", "https"),
    silent(29, "tls-wrong-name", Reason.TLS, "another name", "https"),
    silent(29, "tls-expired", Reason.TLS, "renew it", "https"),
    Row(29, "ok", 200, Delivered(), "delivered", scheme="https"),
    silent(30, "tls-old", Reason.TLS, "too old", "https"),
    silent(31, "tls-stall", Reason.CONNECT_TIMEOUT, "the handshake of TLS", "https"),
    silent(31, "plain-http", Reason.TLS, "the port speaks plain HTTP", "https"),
    silent(32, "speaks-tls", Reason.BAD_HTTP, "register the URL with https://"),
    silent(31, "reset", Reason.RESET, CRASH, "https"),
    good(35, "set-cookie"),
)
