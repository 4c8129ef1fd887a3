"""The shared HTTP manners: what becomes of a submit, a repeated call and a download, against a raw socket server."""

import asyncio
import contextlib
import gzip
import json
from datetime import UTC, datetime
from email.utils import format_datetime

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.base import Accepted, ErrorCode, Operation, ProviderError, Rejected, Unknown
from providers.wire import MAX_ANSWER, Call, call_json, error_of, retry_after, submit_once

pytestmark = pytest.mark.anyio
NOW = 1_700_000_000.0


class Script:
    """A server on loopback that plays one scripted answer per connection and keeps what it was sent."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.requests = []
        self.asked = asyncio.Event()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    async def __aexit__(self, *_):
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                (int(line[15:]) for line in head.lower().split(b"\r\n") if line[:15] == b"content-length:"), 0
            )
            self.requests.append((head.decode(), await reader.readexactly(length)))
            self.asked.set()
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            if answer is None:
                writer.transport.abort()
                return
            if answer == "hang":
                await reader.read()
            else:
                writer.write(answer)
                await writer.drain()
        writer.close()


def answer(status, body=b"", **headers):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {"Content-Length": str(len(content)), "Connection": "close"}
    named |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in named.items())
    return f"HTTP/1.1 {status} Said\r\n{lines}\r\n".encode() + content


@pytest.fixture
async def client():
    async with httpx.AsyncClient(timeout=5) as client:
        yield client


def read_id(status, headers, body):
    return Operation(body["id"])


async def submitted(client, *answers, **options):
    async with Script(*answers) as server:
        call = Call("POST", server.url + "/v1", json={"prompt": "fox"})
        result = await submit_once(client, call, read=read_id, clock=lambda: NOW, **options)
    assert len(server.requests) == 1
    return result


async def called(client, *answers, **options):
    waits = []

    async def sleep(seconds):
        waits.append(seconds)

    async with Script(*answers) as server:
        try:
            outcome = await call_json(client, Call("GET", server.url), sleep=sleep, clock=lambda: NOW, **options)
        except ProviderError as error:
            outcome = error
    return outcome, waits, len(server.requests)


async def test_a_readable_2xx_is_accepted_and_carried_the_body(client):
    async with Script(answer(202, {"id": "op1"})) as server:
        call = Call("POST", server.url + "/v1?a=1", json={"prompt": "fox"}, headers={"authorization": "Bearer k"})
        assert await submit_once(client, call, read=read_id) == Accepted(Operation("op1"))
    head, body = server.requests[0]
    assert head.startswith("POST /v1?a=1 HTTP/1.1")
    assert "authorization: Bearer k" in head
    assert json.loads(body) == {"prompt": "fox"}


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 413, 422, 429])
async def test_a_sure_refusal_is_rejected_and_not_billed(client, status):
    result = await submitted(client, answer(status, {"error": {"code": "c", "message": "no"}}))
    assert isinstance(result, Rejected)
    assert (result.error.http_status, result.error.billed, result.error.message) == (status, False, "no")


@pytest.mark.parametrize("status", [301, 302, 307, 308, 408, 409, 424, 425, 460, 499, 500, 502, 503, 504, 529])
async def test_an_unsure_status_is_unknown_and_sent_once(client, status):
    result = await submitted(client, answer(status, b"oops", Location="https://user:pw@elsewhere.test/x"))
    assert isinstance(result, Unknown)
    assert result.error.billed is None
    assert "pw" not in result.error.message
    assert status >= 400 or "elsewhere.test" in result.error.message


@pytest.mark.parametrize("code", list(ErrorCode))
async def test_a_4xx_whose_words_are_of_a_breakdown_is_unknown(client, code):
    def read_error(status, headers, body):
        return ProviderError(code, "so it says", billed=False)

    result = await submitted(client, answer(400), read_error=read_error)
    undecided = {ErrorCode.TRANSIENT, ErrorCode.TIMEOUT, ErrorCode.UNREADABLE}
    assert isinstance(result, Unknown if code in undecided else Rejected)
    assert result.error.billed is (None if code in undecided else False)
    listed = await submitted(client, answer(400), read_error=read_error, not_taken=frozenset({400}))
    assert isinstance(listed, Rejected)


async def test_a_4xx_that_the_adapter_calls_worth_another_try_is_unknown(client):
    def read_error(status, headers, body):
        return ProviderError(ErrorCode.PROVIDER_ERROR, "again", retryable=True)

    assert isinstance(await submitted(client, answer(422), read_error=read_error), Unknown)


async def test_a_status_that_the_adapter_lists_is_rejected(client):
    assert isinstance(await submitted(client, answer(503), not_taken=frozenset({503})), Rejected)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'"id"', b"{}", b'{"id"', b"\xff\xfe{", b"[" * 100_000, b" " * (MAX_ANSWER + 1)]
)
async def test_an_unreadable_2xx_is_unknown(client, body):
    result = await submitted(client, answer(200, body))
    assert isinstance(result, Unknown)
    assert result.error.code is ErrorCode.UNREADABLE


async def test_a_2xx_that_is_cut_short_is_unknown(client):
    result = await submitted(client, answer(200, b'{"id": "op1"}', Content_Length="50"))
    assert isinstance(result, Unknown)


async def test_a_refusal_that_is_cut_short_is_still_a_refusal(client):
    assert isinstance(await submitted(client, answer(400, b'{"err', Content_Length="50")), Rejected)


@pytest.mark.parametrize("end", [None, b"", b"garbage\r\n\r\n"], ids=["reset", "closed", "garbage"])
async def test_a_connection_that_ends_after_sending_is_unknown(client, end):
    assert isinstance(await submitted(client, end), Unknown)


async def test_no_answer_in_time_is_unknown(client):
    result = await submitted(client, "hang", deadline=0.05)
    assert isinstance(result, Unknown)


async def test_a_closed_port_is_rejected_as_not_sent(client):
    async with Script(None) as server:
        pass
    result = await submit_once(client, Call("POST", server.url), read=read_id)
    assert isinstance(result, Rejected)
    assert (result.error.code, result.error.billed, result.error.retryable) == (ErrorCode.TRANSIENT, False, True)


@pytest.mark.parametrize("url", ["http://[broken", "ftp://127.0.0.1/x"])
async def test_an_impossible_address_is_rejected_as_not_sent(client, url):
    assert isinstance(await submit_once(client, Call("POST", url), read=read_id), Rejected)


@pytest.mark.parametrize("body", [{"x": object()}, {"x": float("nan")}, {"x": "\ud800"}])
async def test_a_body_that_cannot_be_written_is_rejected(client, body):
    async with Script(answer(200)) as server:
        result = await submit_once(client, Call("POST", server.url, json=body), read=read_id)
    assert isinstance(result, Rejected)
    assert result.error.code is ErrorCode.INVALID_REQUEST
    assert server.requests == []


async def test_an_exception_that_a_transport_leaks_after_sending_is_unknown():
    def leak(request):
        raise RuntimeError("a transport's own class")

    async with httpx.AsyncClient(transport=httpx.MockTransport(leak)) as client:
        result = await submit_once(client, Call("POST", "http://provider.test/"), read=read_id)
    assert isinstance(result, Unknown)


async def test_cancelling_a_submit_passes_through(client):
    async with Script("hang") as server:
        task = asyncio.create_task(submit_once(client, Call("POST", server.url), read=read_id))
        await asyncio.wait_for(server.asked.wait(), 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_rate_limit_carries_its_wait(client):
    result = await submitted(client, answer(429, Retry_After="7"))
    assert isinstance(result, Rejected)
    assert (result.error.code, result.error.retry_after) == (ErrorCode.RATE_LIMITED, 7.0)


async def test_an_error_reader_that_breaks_falls_back(client):
    result = await submitted(client, answer(401), read_error=lambda status, headers, body: body["error"])
    assert isinstance(result, Rejected)
    assert result.error.code is ErrorCode.AUTH


async def test_a_packed_answer_is_read_and_a_bomb_is_not(client):
    packed = answer(200, gzip.compress(b'{"id": "op1"}'), Content_Encoding="gzip")
    assert await submitted(client, packed) == Accepted(Operation("op1"))
    bomb = answer(200, gzip.compress(b" " * 50_000_000 + b'{"id": "op1"}'), Content_Encoding="gzip")
    assert isinstance(await submitted(client, bomb), Unknown)


async def test_a_call_survives_blips_within_seconds(client):
    outcome, waits, requests = await called(client, answer(503), None, answer(200, {"ok": 1}))
    assert (outcome.document(), requests) == ({"ok": 1}, 3)
    assert 0.2 < sum(waits) < 4


async def test_a_call_gives_up_after_its_attempts(client):
    outcome, _, requests = await called(client, answer(502), attempts=2)
    assert (outcome.code, outcome.http_status, requests) == (ErrorCode.TRANSIENT, 502, 2)


async def test_a_longer_wait_is_left_to_the_queue(client):
    outcome, waits, requests = await called(client, answer(503, Retry_After="30"))
    assert (outcome.retry_after, waits, requests) == (30.0, [], 1)


@pytest.mark.parametrize(
    ("status", "code", "retryable"),
    [
        (302, ErrorCode.UNREADABLE, True),
        (400, ErrorCode.INVALID_REQUEST, False),
        (401, ErrorCode.AUTH, False),
        (402, ErrorCode.QUOTA, False),
        (404, ErrorCode.NOT_FOUND, False),
        (410, ErrorCode.NOT_FOUND, False),
        (409, ErrorCode.TRANSIENT, True),
        (429, ErrorCode.RATE_LIMITED, True),
        (500, ErrorCode.TRANSIENT, True),
    ],
)
async def test_other_statuses_are_told_at_once(client, status, code, retryable):
    outcome, _, requests = await called(client, answer(status, Location="/elsewhere"))
    assert (outcome.code, outcome.retryable, requests) == (code, retryable, 1)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"<html>", b" " * (MAX_ANSWER + 1)])
async def test_an_answer_that_is_no_object_is_unreadable(client, body):
    outcome, _, requests = await called(client, answer(200, body))
    assert (outcome.code, outcome.retryable, requests) == (ErrorCode.UNREADABLE, True, 1)


async def test_a_204_is_good_only_where_no_body_is_expected(client):
    nothing, _, _ = await called(client, answer(204), empty=True)
    assert (nothing.status, nothing.content) == (204, b"")
    for answers, options in ((answer(204), {}), (answer(200), {"empty": True})):
        error, _, _ = await called(client, answers, **options)
        assert error.code is ErrorCode.UNREADABLE


async def test_a_hanging_call_ends_at_its_deadline(client):
    outcome, _, requests = await called(client, "hang", deadline=0.05, attempts=2)
    assert (outcome.code, requests) == (ErrorCode.TRANSIENT, 2)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        (" 12 ", 12.0),
        ("1.5", 1.5),
        ("-4", 0.0),
        ("1e9", 86_400.0),
        ("inf", 86_400.0),
        ("nan", None),
        ("", None),
        ("soon", None),
        (format_datetime(datetime.fromtimestamp(NOW + 90, UTC), usegmt=True), 90.0),
        (format_datetime(datetime.fromtimestamp(NOW - 90, UTC), usegmt=True), 0.0),
        ("Fri, 99 Nov 2026 00:00:00 GMT", None),
    ],
)
def test_retry_after_takes_seconds_dates_and_garbage(value, seconds):
    assert retry_after({"Retry-After": value}, NOW) == seconds


@given(st.text())
def test_retry_after_never_breaks(value):
    seconds = retry_after({"retry-after": value}, NOW)
    assert seconds is None or 0 <= seconds <= 86_400


def test_a_date_of_retry_after_is_counted_from_the_answers_own_date():
    """Whatever our own clock says."""
    headers = {"Retry-After": "Tue, 24 Nov 2026 12:10:30 GMT", "date": "Tue, 24 Nov 2026 12:10:00 GMT"}
    assert retry_after(headers, now=0.0) == retry_after(headers, now=2e9) == 30.0
    assert retry_after(headers | {"date": "yesterday"}, now=1795522200.0) == 30.0


def test_no_retry_after_is_none():
    assert retry_after({}, NOW) is None


@pytest.mark.parametrize(
    ("body", "provider_code", "message"),
    [
        ({"error": {"code": "c", "message": "m"}}, "c", "m"),
        ({"error": "m"}, None, "m"),
        ({"detail": "m", "type": "t"}, "t", "m"),
        ("m", None, "m"),
        ({"error": {"code": 5}}, "5", "the provider answered 400"),
        ([1], None, "the provider answered 400"),
        (None, None, "the provider answered 400"),
    ],
)
def test_the_usual_error_envelopes_are_read(body, provider_code, message):
    error = error_of(400, {}, body)
    assert (error.provider_code, error.message) == (provider_code, message)
