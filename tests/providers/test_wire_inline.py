"""Files inside JSON answers: numbered, passed over by polls, decoded as they arrive by downloads."""

import asyncio
import base64
import itertools
import json
import random
import tracemalloc

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.base import ErrorCode, ProviderError
from providers.wire import MAX_ANSWER, Call, call_json, inline_index, open_inline
from providers.wire.sieve import Base64, Sieve
from tests.providers.test_wire import Script, answer

pytestmark = pytest.mark.anyio
MEMBERS = frozenset({"data", "bytesBase64Encoded"})
VIDEO = b"\x00\x00\x00\x18ftypmp42" + random.Random(7).randbytes(3_000_000)
BASE64 = base64.b64encode(VIDEO).decode()


@pytest.fixture
async def client():
    async with httpx.AsyncClient(timeout=5) as client:
        yield client


def pieces(text, cuts):
    at = [0, *sorted(cuts), len(text)]
    return [text[start:stop] for start, stop in itertools.pairwise(at)]


def sieved(text, cuts=()):
    taken = {}
    sieve = Sieve(MEMBERS, lambda number, part: taken.update({number: taken.get(number, b"") + part}))
    kept = b"".join(sieve.feed(piece) for piece in pieces(text, cuts))
    return json.loads(kept), [taken.get(number, b"") for number in range(len(taken))]


DOCUMENT = {
    "data": "first",
    "steps": [{"data": {"data": 'se"co\\nd'}, "type": "data"}, {"x": ["data", "y"], "data": 5, "z": "\\"}],
    'quoted"data': "stays",
    "bytesBase64Encoded": "\u00e9\U0001f98a",
    "tail": "data",
}


@given(st.lists(st.integers(0, 400), max_size=30), st.sampled_from([None, 2]))
def test_wherever_the_pieces_are_cut_the_same_strings_are_left_out(cuts, indent):
    text = json.dumps(DOCUMENT, indent=indent).encode()
    kept, taken = sieved(text, [cut for cut in cuts if cut <= len(text)])
    assert [json.loads(b'"' + part + b'"') for part in taken] == ["first", 'se"co\\nd', "\u00e9\U0001f98a"]
    expected = json.loads(json.dumps(DOCUMENT))
    expected |= {"data": "inline:0", "bytesBase64Encoded": "inline:2"}
    expected["steps"][0]["data"]["data"] = "inline:1"
    assert kept == expected


def test_every_single_cut_is_harmless():
    text = json.dumps(DOCUMENT).encode()
    whole = sieved(text)
    assert all(sieved(text, [cut]) == whole for cut in range(len(text)))
    assert sieved(text, range(len(text))) == whole


values = st.recursive(
    st.text() | st.integers() | st.none(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["data", "a", "", '"', "data\\"]), inner),
)


@given(values)
def test_all_else_stays_as_it_was(value):
    def marked(value, number):
        if isinstance(value, list):
            return [marked(each, number) for each in value]
        if isinstance(value, dict):
            return {
                name: f"inline:{next(number)}" if name == "data" and isinstance(each, str) else marked(each, number)
                for name, each in value.items()
            }
        return value

    text = json.dumps(value).encode()
    assert sieved(text)[0] == marked(value, iter(range(10_000)))


@pytest.mark.parametrize(
    "value", [None, 5, "", "inline:", "inline:-1", "inline:x", "inline:\u0663", "inline:9999999999"]
)
def test_what_is_no_mark_is_none(value):
    assert inline_index(value) is None


def decoded(text, cuts=()):
    decoder = Base64()
    return b"".join(map(decoder.feed, pieces(text, cuts))) + decoder.end()


@given(st.binary(max_size=60), st.lists(st.integers(0, 80), max_size=10), st.booleans(), st.booleans())
def test_base64_is_decoded_wherever_it_is_cut(data, cuts, url_safe, padded):
    text = (base64.urlsafe_b64encode if url_safe else base64.b64encode)(data)
    text = text if padded else text.rstrip(b"=")
    assert decoded(text, [cut for cut in cuts if cut <= len(text)]) == data


def test_escapes_and_line_breaks_are_read_wherever_they_are_cut():
    text = rb"\/\u002F+\u002b\nAA\r\nA\u003d"
    for cut in range(len(text)):
        assert decoded(text, [cut]) == base64.b64decode(b"//++AAA=")
    assert decoded(text, range(len(text))) == base64.b64decode(b"//++AAA=")


@pytest.mark.parametrize(
    "text", [b"A", b"AAAAA", b"AA==AAAA", b"A=AA", b"!!!!", b"AA\\u00e9A", b"AAAA\\u00", b"=", b"A*=="]
)
def test_what_is_no_base64_is_told(text):
    for cut in range(len(text) + 1):
        with pytest.raises(ValueError):  # noqa: PT011 - any of them
            decoded(text, [cut])


async def fetched(client, url, index=1, **options):
    async with open_inline(client, Call("GET", url, {"x-key": "k"}), MEMBERS, index, **options) as file:
        assert file.length is None
        return b"".join([chunk async for chunk in file.chunks()])


async def test_a_poll_passes_over_a_file_and_a_download_takes_it_out(client):
    body = {"steps": [{"image": {"data": "aW1hZ2U="}}, {"data": BASE64, "type": "video"}], "status": "completed"}
    async with Script(answer(200, body)) as server:
        polled = (await call_json(client, Call("GET", server.url), inline=MEMBERS)).document()
        assert polled["steps"] == [{"image": {"data": "inline:0"}}, {"data": "inline:1", "type": "video"}]
        assert polled["status"] == "completed"
        assert await fetched(client, server.url) == VIDEO
        assert await fetched(client, server.url, 0) == b"image"
        assert "x-key: k" in server.requests[-1][0].lower()


async def trickle(reader, writer):
    """21 MB of base64 in a JSON document, never held."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 21000012\r\n\r\n{"data": "')
    for _ in range(210):
        writer.write(b"AAAA" * 25_000)
        await writer.drain()
    writer.write(b'"}')
    writer.close()


async def test_large_files_cost_little_memory(client):
    async with await asyncio.start_server(trickle, "127.0.0.1", 0) as server:
        call = Call("GET", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        tracemalloc.start()
        polled = await call_json(client, call, inline=MEMBERS)
        async with open_inline(client, call, MEMBERS, 0) as file:
            size = sum([len(chunk) async for chunk in file.chunks()])
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert (polled.document(), size) == ({"data": "inline:0"}, 21_000_000 // 4 * 3)
    assert peak < 4_000_000


async def test_what_else_the_answer_holds_stays_bounded(client):
    async with Script(answer(200, {"data": "x", "noise": "n" * MAX_ANSWER})) as server:
        with pytest.raises(ProviderError) as caught:
            await call_json(client, Call("GET", server.url), inline=MEMBERS)
    assert caught.value.code is ErrorCode.UNREADABLE


async def test_a_packed_answer_is_sieved_too(client):
    import gzip

    packed = gzip.compress(json.dumps({"data": "AAAA"}).encode())
    async with Script(answer(200, packed, Content_Encoding="gzip")) as server:
        assert (await call_json(client, Call("GET", server.url), inline=MEMBERS)).document() == {"data": "inline:0"}
        with pytest.raises(ProviderError) as caught:
            await fetched(client, server.url, 0)
    assert caught.value.code is ErrorCode.TRANSIENT


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (answer(200, {"status": "completed"}), ErrorCode.NOT_FOUND),
        (answer(200, b"<html>"), ErrorCode.NOT_FOUND),
        (answer(200, b'{"data": "AAAA", "data": "AA'), ErrorCode.TRANSIENT),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n" + b'{"data": "AAAA", "data": "AA', ErrorCode.TRANSIENT),
        (answer(200, {"a": [{"data": ""}, {"data": "no base64!"}]}), ErrorCode.UNREADABLE),
        (answer(200, {"a": [{"data": ""}, {"data": "AAAAA"}]}), ErrorCode.UNREADABLE),
        (answer(302, b"", Location="http://127.0.0.1:1/"), ErrorCode.UNREADABLE),
        (answer(401, {"error": "no"}), ErrorCode.AUTH),
        (answer(429, b"", Retry_After="7"), ErrorCode.RATE_LIMITED),
        (None, ErrorCode.TRANSIENT),
    ],
)
async def test_a_file_that_is_not_there_or_is_cut_is_told(client, sent, code):
    async with Script(sent) as server:
        with pytest.raises(ProviderError) as caught:
            await fetched(client, server.url)
    assert caught.value.code is code
    assert caught.value.retry_after == (7 if code is ErrorCode.RATE_LIMITED else None)


async def test_reading_ends_with_the_string(client):
    ended = asyncio.Event()

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{"data": "AAAA", "more": "')
        await writer.drain()
        await reader.read()
        writer.close()
        ended.set()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        assert await asyncio.wait_for(fetched(client, url, 0), 5) == b"\0\0\0"
        await asyncio.wait_for(ended.wait(), 5)


async def test_a_form_travels_as_a_form(client):
    async with Script(answer(200, {})) as server:
        await call_json(client, Call("POST", server.url, urlencoded={"a": "b c", "d": "&"}))
        head, body = server.requests[0]
    assert "content-type: application/x-www-form-urlencoded" in head.lower()
    assert body == b"a=b+c&d=%26"
