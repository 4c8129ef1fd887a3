"""POST /api/generations: kept before 202, and everything that is wrong with a request told at once."""

from __future__ import annotations

import asyncio
import base64
import json
import sqlite3

import httpx
import pytest

from tests.house import House

pytestmark = pytest.mark.anyio

PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)


async def post(house: House, body: object, **headers: str) -> httpx.Response:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await house.api.post("/api/generations", content=raw, headers={"Content-Type": "application/json"} | headers)


async def refused(house: House, body: object, status: int = 422, code: str = "invalid_request") -> dict[str, dict]:
    """The errors of a refusal by pointer."""
    response = await post(house, body)
    problem = response.json()
    assert (response.status_code, problem["code"]) == (status, code), response.text
    assert response.headers["content-type"] == "application/problem+json"
    return {error["pointer"]: error for error in problem.get("errors", [])}


async def test_202_means_that_another_connection_sees_it(house):
    response = await post(house, {"prompt": "  a fox  "})
    assert response.status_code == 202
    generation = response.json()
    with sqlite3.connect(house.plant.settings.data_dir / "dailies.db") as other:
        rows = other.execute(
            "SELECT g.prompt, j.status FROM generation g JOIN job j ON j.subject_id = g.id WHERE g.id = ?",
            (generation["id"],),
        ).fetchall()
    other.close()
    assert rows == [("a fox", "waiting")]
    assert response.headers["location"] == f"/api/generations/{generation['id']}"
    assert int(response.headers["retry-after"]) >= 1
    assert response.headers["x-request-id"].startswith("req_")
    assert (generation["status"], generation["stage"]) == ("queued", "waiting")
    assert generation["generationId"] == generation["jobId"] == generation["id"]


async def test_a_decent_request_id_of_the_caller_is_kept_and_another_is_not(house):
    assert (await post(house, {"prompt": "x"}, **{"X-Request-Id": "trace-1.a"})).headers["x-request-id"] == "trace-1.a"
    given = (await post(house, {"prompt": "x"}, **{"X-Request-Id": "two words"})).headers["x-request-id"]
    assert given.startswith("req_")


@pytest.mark.parametrize("value", ["8", 8.5, True, [8], 0, -1, 100_001, 10**30, 1e300])
async def test_a_duration_is_a_whole_number_and_nothing_else(house, value):
    assert set(await refused(house, {"prompt": "x", "parameters": {"duration": value}})) == {"/parameters/duration"}


async def test_a_whole_number_may_be_written_with_a_fraction_of_nothing(house, name):
    first = await post(house, {"prompt": "x", "parameters": {"duration": 8}}, **{"Idempotency-Key": (key := name())})
    again = await post(house, {"prompt": "x", "parameters": {"duration": 8.0}}, **{"Idempotency-Key": key})
    assert (first.status_code, again.status_code) == (202, 200)
    assert first.json()["parameters"] == again.json()["parameters"] == {"duration": 8}


@pytest.mark.parametrize("value", [0, 11, "5", 5.5, None, True])
async def test_priority_is_from_1_to_10(house, value):
    assert set(await refused(house, {"prompt": "x", "priority": value})) == {"/priority"}


async def test_unknown_members_are_named_with_their_escaped_place(house):
    errors = await refused(house, {"prompt": "x", "promt": 1, "a/b~c": 1, "parameters": {"aspect_ratio": "16:9"}})
    assert set(errors) == {"/promt", "/a~1b~0c", "/parameters/aspect_ratio"}
    assert "typo" in errors["/promt"]["detail"]


async def test_every_bad_member_is_told_at_once(house):
    errors = await refused(
        house,
        {
            "userId": "",
            "priority": 99,
            "generationId": "gen_1",
            "parameters": {"seed": -1, "audio": "yes", "negativePrompt": " "},
            "metadata": {"": "x", "n": 1},
            "webhook": {"url": "ftp://x.example", "events": []},
        },
    )
    assert set(errors) == {
        "/prompt",
        "/userId",
        "/priority",
        "/generationId",
        "/parameters/seed",
        "/parameters/audio",
        "/parameters/negativePrompt",
        "/metadata/",
        "/metadata/n",
        "/webhook/url",
        "/webhook/events",
    }


async def test_what_only_the_settings_forbid_is_told_at_once_too(house):
    body = {
        "prompt": "x" * 4001,
        "parameters": {
            "duration": 61,
            "aspectRatio": "2:1",
            "resolution": "8k",
            "image": {"data": base64.b64encode(b"GIF89a").decode(), "mimeType": "image/png"},
        },
        "webhook": {"url": "https://evil.example/", "events": ["generation.compleated"]},
    }
    errors = await refused(house, body)
    assert set(errors) == {
        "/prompt",
        "/parameters/duration",
        "/parameters/aspectRatio",
        "/parameters/resolution",
        "/parameters/image/data",
        "/webhook/url",
        "/webhook/events",
    }
    assert "16:9" in errors["/parameters/aspectRatio"]["allowed"]
    assert errors["/parameters/duration"]["allowed"][-1] == 60
    assert "generation.completed" in errors["/webhook/events"]["allowed"]


async def test_a_model_that_was_shut_down_is_refused_with_its_successor(house):
    errors = await refused(house, {"prompt": "x", "model": "mock-0"}, code="unsupported_parameters")
    assert errors["/model"]["allowed"] == ["mock-1"]
    assert "2026-10-01" in errors["/model"]["detail"]


async def test_a_provider_without_its_key_is_refused_naming_the_setting(house):
    errors = await refused(house, {"prompt": "x", "provider": "fal"}, code="provider_not_configured")
    assert "FAL_API_KEY" in errors["/provider"]["detail"]


async def test_an_unknown_provider_is_answered_with_those_that_exist(house):
    errors = await refused(house, {"prompt": "x", "provider": "veo"}, code="unknown_provider")
    assert errors["/provider"]["allowed"] == ["mock"]


@pytest.mark.parametrize("prompt", ["", "   ", "\n\t", "x" * 20_001, None, 7, ["x"], "a\0b"])
async def test_prompts_that_are_no_prompts(house, prompt):
    assert set(await refused(house, {"prompt": prompt})) == {"/prompt"}


@pytest.mark.parametrize(
    "prompt", ["🦊❄️ 👩‍👩‍👧", "狐狸", "e\u0301", "\u202e\ufeff!", "'; DROP TABLE job; --", "\x7f\x01"]
)
async def test_any_other_text_comes_back_as_it_was(house, prompt):
    response = await post(house, {"prompt": prompt})
    assert response.status_code == 202
    assert (await house.get(response.json()["id"]))["prompt"] == prompt


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"userId": "a\0"}, "/userId"),
        ({"metadata": {"k": "\0"}}, "/metadata/k"),
        ({"metadata": {"k\0": "v"}}, "/metadata/k\0"),
        ({"parameters": {"negativePrompt": "\0x"}}, "/parameters/negativePrompt"),
        ({"parameters": {"image": {"url": "https://x.example/\0"}}}, "/parameters/image/url"),
        ({"generationId": "a\0b"}, "/generationId"),
    ],
)
async def test_nul_is_refused_wherever_it_would_be_stored(house, body, pointer):
    assert set(await refused(house, {"prompt": "x"} | body)) == {pointer}


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b'{"prompt":"\xff"}',
        b'{"prompt":"\\ud800"}',
        b'{"prompt":"\\udc00\\ud800"}',
        b'{"prompt":"x",}',
        b"{'prompt':'x'}",
        b'{"prompt":"x"} {"prompt":"y"}',
        b"[" * 10_000 + b"]" * 10_000,
        b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
        b'{"prompt":"a","prompt":"b"}',
        b'{"prompt":"a","parameters":{"seed":1,"seed":2}}',
        b'{"prompt":"a","metadata":{"k":"1","k":"2"}}',
    ],
)
async def test_what_is_not_json_or_not_clear_json_is_400(house, raw):
    await refused(house, raw, 400, "invalid_json")


@pytest.mark.parametrize("raw", [b"[]", b"null", b"1", b'"x"', b"NaN"])
async def test_json_that_is_no_object_is_422(house, raw):
    assert set(await refused(house, raw)) == {""}


async def test_thousands_of_mistakes_make_a_short_answer(house):
    response = await post(house, {"prompt": "x"} | {f"{'m' * 500}{n}": 1 for n in range(500)})
    assert response.status_code == 422
    assert len(response.json()["errors"]) == 50
    assert len(response.content) < 30_000
    assert response.json()["detail"].startswith("500 member(s)")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", ""])
async def test_only_json_is_read(house, kind):
    response = await post(house, {"prompt": "x"}, **{"Content-Type": kind})
    assert (response.status_code, response.json()["code"]) == (415, "unsupported_media_type")


async def test_no_content_type_is_refused_since_pages_may_send_that_anywhere(house):
    answer = await raw_exchange(
        house, b"POST /api/generations HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"
    )
    assert b" 415 " in answer.splitlines()[0]


async def test_a_charset_beside_the_type_is_fine(house):
    response = await post(house, {"prompt": "x"}, **{"Content-Type": "Application/JSON; charset=utf-8"})
    assert response.status_code == 202


async def test_a_body_over_the_limit_is_413_in_chunks_too(house):
    big = {"prompt": "x" * 300_001}
    assert (await post(house, big)).status_code == 413

    async def chunks():
        for _ in range(40):
            yield b" " * 10_000

    response = await house.api.post("/api/generations", content=chunks(), headers={"Content-Type": "application/json"})
    assert (response.status_code, response.json()["code"]) == (413, "body_too_large")


async def raw_exchange(house: House, request: bytes) -> bytes:
    """What the API answers to these bytes until it closes, or until the first answer is whole."""
    reader, writer = await asyncio.open_connection("127.0.0.1", house.plant.settings.port)
    writer.write(request)
    async with asyncio.timeout(10):
        answer = await reader.read(65_536)
    writer.close()
    return answer


HEAD = b"POST /api/generations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


async def test_an_announced_giant_is_refused_before_it_is_sent(house):
    answer = await raw_exchange(house, HEAD + b"Content-Length: 99999999999\r\n\r\n")
    assert b" 413 " in answer.splitlines()[0]


async def test_a_content_length_below_the_body_cuts_it(house):
    answer = await raw_exchange(house, HEAD + b'Content-Length: 5\r\n\r\n{"prompt":"x"}')
    assert b" 400 " in answer.splitlines()[0]


async def test_a_caller_who_hangs_up_in_mid_body_breaks_nothing(house):
    _, writer = await asyncio.open_connection("127.0.0.1", house.plant.settings.port)
    writer.write(HEAD + b'Content-Length: 500\r\n\r\n{"prompt"')
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    assert (await post(house, {"prompt": "x"})).status_code == 202


async def test_metadata_has_bounds(house):
    fits = {"k" * 63 + str(n): "v" * 500 for n in range(10)} | {str(n): "" for n in range(6)}
    generation = (await post(house, {"prompt": "x", "metadata": fits})).json()
    assert generation["metadata"] == fits
    assert set(await refused(house, {"prompt": "x", "metadata": fits | {"one": "more"}})) == {"/metadata"}
    assert set(await refused(house, {"prompt": "x", "metadata": {"k": "v" * 501}})) == {"/metadata/k"}
    assert set(await refused(house, {"prompt": "x", "metadata": {"k" * 65: "v"}})) == {f"/metadata/{'k' * 65}"}
    assert set(await refused(house, {"prompt": "x", "metadata": {"k": {"deep": "v"}}})) == {"/metadata/k"}


@pytest.mark.parametrize("client_id", ["", "gen_x", "a b", "a/b", "a?b", "ü", "x" * 129, "a\n"])
async def test_ids_of_the_app_that_cannot_be_used(house, client_id):
    assert set(await refused(house, {"prompt": "x", "generationId": client_id})) == {"/generationId"}


@pytest.mark.parametrize("client_id", ["order-7.a_b:c@d+e", "x" * 128])
async def test_ids_of_the_app_that_can(house, client_id):
    generation = (await post(house, {"prompt": "x", "generationId": client_id})).json()
    assert generation["generationId"] == client_id
    assert generation["jobId"].startswith("gen_")


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example.com/x",
        "http://HOOKS.example.COM:8443/x?y=z",
        "http://[::1]:3000/",
        "http://[::1]/",
    ],
)
async def test_webhooks_go_to_allowed_hosts(house, url):
    assert (await post(house, {"prompt": "x", "webhook": {"url": url}})).status_code == 202


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/",
        "https://hooks.example.com.evil.example/",
        "https://hooks.example.com./",
        "https://sub.hooks.example.com/",
        "http://127.0.0.1/",
        "http://[::ffff:127.0.0.1]/",
        "http://0x7f.1/",
        "https://evil.example/hooks.example.com",
        "https://evil.example#hooks.example.com",
        "https://evil.example?@hooks.example.com",
    ],
)
async def test_webhooks_go_nowhere_else(house, url):
    errors = await refused(house, {"prompt": "x", "webhook": {"url": url}}, code="webhook_not_allowed")
    assert errors["/webhook/url"]["allowed"] == ["::1", "hooks.example.com"]


@pytest.mark.parametrize(
    "url",
    [
        "https://user:secret@hooks.example.com/",
        "https://@hooks.example.com/",
        "https://hooks.example.com@evil.example/",
        "https://evil.example\\@hooks.example.com/",
        "https://hooks.example.com\\.evil.example/",
        "https://hooks.example.com:99999/",
        "https://hooks.example.com:x/",
        "http://[::1/",
        "http://[zz]/",
        "https:///x",
        "https://höoks.example.com/",
        "https://hooks.example.com/ü",
        "https://hooks.example.com/a b",
        "https://hooks.example.com/\n",
        "javascript:alert(1)",
        "//hooks.example.com/",
        "https://" + "x" * 2048,
    ],
)
async def test_webhook_urls_that_could_be_read_in_two_ways_are_refused(house, url):
    assert set(await refused(house, {"prompt": "x", "webhook": {"url": url}})) == {"/webhook/url"}


@pytest.mark.parametrize(
    ("image", "pointer"),
    [
        ({}, "/parameters/image"),
        ({"url": "https://x.example/a.png", "data": "aGk="}, "/parameters/image"),
        ({"data": "aGk="}, "/parameters/image"),
        ({"data": "aGk=", "mimeType": "image/gif"}, "/parameters/image"),
        ({"data": "%%%", "mimeType": "image/png"}, "/parameters/image/data"),
        ({"data": "aGk=", "mimeType": "image/png"}, "/parameters/image/data"),
        ({"data": base64.b64encode(PNG).decode(), "mimeType": "image/jpeg"}, "/parameters/image/data"),
        ({"data": base64.b64encode(PNG + bytes(100_000)).decode(), "mimeType": "image/png"}, "/parameters/image/data"),
    ],
)
async def test_pictures_that_are_no_pictures(house, image, pointer):
    assert set(await refused(house, {"prompt": "x", "parameters": {"image": image}})) == {pointer}


async def test_a_picture_is_kept_before_the_commit_and_named_in_the_row(house):
    image = {"data": base64.b64encode(PNG).decode(), "mimeType": "image/png"}
    generation = (await post(house, {"prompt": "x", "parameters": {"image": image}})).json()
    assert generation["parameters"] == {"image": {"mimeType": "image/png"}}
    assert await house.plant.storage.read(f"inputs/default/{generation['id']}", 1000) == PNG
