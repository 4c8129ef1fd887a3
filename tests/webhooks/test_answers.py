"""What an answer, or its absence, means. No network here."""

import socket
import ssl

import httpx
import pytest

from webhooks.answers import (
    MAX_RETRY_AFTER,
    Delivered,
    Gone,
    Reason,
    Retry,
    SendResult,
    describe,
    judge,
    parse_retry_after,
)
from webhooks.failures import classify, explain
from webhooks.wire import Headers

URL = "https://app.example/api/webhooks/worker"
NOW = 1_763_820_000.0  # Sat, 22 Nov 2025 14:00:00 GMT


def answered(status: int | None, retry_after: float | None = None) -> SendResult:
    return SendResult(status, Reason.ANSWERED, 3, retry_after=retry_after)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_2xx_is_delivered(status: int) -> None:
    assert judge(answered(status)) == Delivered()


@pytest.mark.parametrize("status", [None, 101, 199, 300, 301, 304, 308, 400, 401, 404, 413, 429, 500, 503, 600, 999])
def test_nothing_else_is(status: int | None) -> None:
    assert judge(answered(status)) == Retry()


def test_410_disables_and_retry_after_is_handed_on() -> None:
    assert judge(answered(410, 5.0)) == Gone()
    assert judge(answered(503, 5.0)) == Retry(5.0)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("1.5", 1.5),
        ("86401", MAX_RETRY_AFTER),
        ("9" * 20, MAX_RETRY_AFTER),
        ("Sat, 22 Nov 2025 14:01:00 GMT", 60.0),
        ("Saturday, 22-Nov-25 14:01:00 GMT", 60.0),
        ("Sat Nov 22 14:01:00 2025", 60.0),
        ("Sat, 22 Nov 2025 13:00:00 GMT", 0.0),
        ("Sat, 22 Nov 2025 16:01:00 +0200", 60.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", MAX_RETRY_AFTER),
        ("Fri, 31 Dec 9999 23:59:59 -2359", MAX_RETRY_AFTER),
        ("Sat, 99 Nov 2025 14:01:00 GMT", None),
        ("Sat, 22 Nov 99999999999999999999 14:01:00 GMT", None),
        ("-5", None),
        ("+5", None),
        ("1e3", None),
        ("inf", None),
        ("NaN", None),
        ("１２", None),
        ("120, 240", None),
        ("soon", None),
        ("Mon, ", None),
        ("", None),
        (None, None),
        ("9" * 5000, None),
    ],
)
def test_retry_after_in_every_form(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value, NOW) == seconds


@pytest.mark.parametrize(
    ("status", "words"),
    [(401, "secret"), (403, "protection"), (404, "path"), (405, "POST"), (413, "limit"), (504, "answer first")],
)
def test_each_status_says_what_to_do(status: int, words: str) -> None:
    assert describe(status, URL, None).startswith(f"{status}: ")
    assert words in describe(status, URL, None)


@pytest.mark.parametrize(
    ("status", "headers", "body", "words"),
    [
        (401, (), b"<!doctype html><title>Log in", "a page to log in answered instead of the route"),
        (403, (), b" <html><body>SSO", "deployment protection"),
        (401, (("www-authenticate", "Basic"),), b"", "a page to log in"),
        (401, (), b'{"error":"invalid signature"}', "found the signature wrong"),
        (400, (), b"Missing required headers: webhook-id", "found the signature wrong"),
        (400, (), b"The plain HTTP request was sent to HTTPS port", "https://"),
        (400, (), b"Client sent an HTTP request to an HTTPS server.\n", "https://"),
        (403, (("cf-mitigated", "challenge"),), b"", "a check for browsers"),
        (503, (), b"<html>Just a moment...", "a check for browsers"),
        (404, (("ngrok-error-code", "ERR_NGROK_3200"),), b"", "start the tunnel"),
        (400, (), b"\xff\xfe", "found the request bad"),
        (304, (), b"", "which is for GET"),
        (300, (), b"", "register"),
        (522, (), b"", "Cloudflare"),
        (999, (), b"", "no such status"),
        (418, (), b"", "not a 2xx"),
    ],
)
def test_an_answer_gives_away_who_answered(status: int, headers: Headers, body: bytes, words: str) -> None:
    told = describe(status, URL, None, headers, body)
    assert told.startswith(f"{status}: ")
    assert words in told
    assert len(told) < 200


def test_a_redirect_names_its_target_and_says_register_it() -> None:
    told = describe(308, URL, "/api/webhooks/worker/?token=secret")
    assert "https://app.example/api/webhooks/worker/ (only the trailing slash differs)" in told
    assert told.endswith("register that URL")
    assert "token" not in told
    assert "https://other.example/x, and" in describe(301, URL, "https://user:pass@other.example/x#y")


@pytest.mark.parametrize("location", [None, "", "http://[", "http://\x00", "//", "http://a:99999999/", "x" * 70_000])
def test_an_unreadable_redirect_still_gets_a_sentence(location: str | None) -> None:
    assert "register" in describe(302, URL, location)
    assert len(describe(302, URL, location)) < 400


def raised(outer: BaseException, *behind: BaseException) -> BaseException:
    current = outer
    for cause in behind:
        current.__cause__ = cause
        current = cause
    return outer


class BlockedAddress(OSError):
    """Stands where a guarding transport's own class would stand: it is known by its name alone."""


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (raised(httpx.ConnectError("x"), BlockedAddress("10.0.0.1")), Reason.BLOCKED_ADDRESS),
        (raised(httpx.ConnectError("x"), ssl.SSLCertVerificationError(1, "bad")), Reason.TLS),
        (httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed"), Reason.TLS),
        (raised(httpx.ConnectError("x"), OSError("y"), socket.gaierror(-2, "no such name")), Reason.DNS),
        (httpx.ConnectError("[Errno -2] Name or service not known"), Reason.DNS),
        (
            raised(
                httpx.ConnectError("x"), ExceptionGroup("tried", [OSError("v6"), ConnectionRefusedError(111, "no")])
            ),
            Reason.REFUSED,
        ),
        (raised(httpx.ConnectError("x"), OSError(101, "Network is unreachable")), Reason.UNREACHABLE),
        (httpx.ConnectError("All connection attempts failed"), Reason.UNREACHABLE),
        (raised(httpx.ConnectTimeout(""), TimeoutError()), Reason.CONNECT_TIMEOUT),
        (httpx.PoolTimeout(""), Reason.POOL),
        (httpx.ReadTimeout(""), Reason.TIMEOUT),
        (TimeoutError(), Reason.TIMEOUT),
        (httpx.ReadError(""), Reason.RESET),
        (raised(httpx.WriteError(""), BrokenPipeError(32, "Broken pipe")), Reason.RESET),
        (ConnectionResetError(104, "gone"), Reason.RESET),
        (httpx.RemoteProtocolError("Server disconnected without sending a response."), Reason.RESET),
        (httpx.RemoteProtocolError("illegal status line"), Reason.BAD_HTTP),
        (httpx.InvalidURL("no"), Reason.BAD_URL),
        (httpx.UnsupportedProtocol("no"), Reason.BAD_URL),
        (httpx.ProxyError("407"), Reason.FAILED),
        (httpx.RemoteProtocolError("the server closed the connection without an answer"), Reason.RESET),
        (httpx.ConnectError("[Errno 107] Transport endpoint is not connected"), Reason.RESET),
    ],
)
def test_an_error_becomes_a_reason_and_a_sentence(error: BaseException, reason: Reason) -> None:
    assert classify(error) is reason
    assert 20 < len(explain(error, reason)) < 400


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("400, message:\n  Bad status line:\n\n    b'\\x15\\x03\\x01\\x00'", "the port speaks TLS"),
        ("400, message:\n  Too many headers received", "too many headers; send fewer (Too many headers received)"),
        ("400, message:\n  Got more than 32768 bytes when reading: b'aa'", "headers are too large"),
        ("the answer's head is over 131072 bytes", "headers are too large"),
        ("the server switched protocols, which nobody asked for", "WebSockets"),
        ("", "not HTTP as we understand it"),
    ],
)
def test_what_is_no_http_says_what_it_is(words: str, sentence: str) -> None:
    told = explain(httpx.RemoteProtocolError(words), Reason.BAD_HTTP)
    assert sentence in told
    assert "()" not in told
    assert "message:" not in told


def test_a_circle_of_causes_ends() -> None:
    first, second = httpx.ReadError("a"), OSError("b")
    first.__cause__, second.__cause__ = second, first
    assert classify(first) is Reason.RESET


def test_foreign_words_are_made_harmless() -> None:
    told = explain(httpx.RemoteProtocolError("bad\n\x1b[31m" + "x" * 9_000), Reason.BAD_HTTP)
    assert "\n" not in told
    assert "\x1b" not in told
    assert len(told) < 400
