"""Tokens of a service account: what is sent for one, how long it is kept, and what goes wrong."""

import asyncio
import json
from urllib.parse import parse_qs

import jwt
import pytest

from providers.base import ErrorCode, ProviderError
from providers.google_token import AUDIENCE, GRANT, SCOPE, ServiceAccount
from tests.providers.google_accounts import account, key, key_file
from tests.providers.test_wire import Script, answer

pytestmark = pytest.mark.anyio
NOW = 1_700_000_000.0


class Clock:
    now = NOW

    def __call__(self):
        return self.now


def granted(token="ya29.a", **body):
    return answer(200, {"access_token": token, "expires_in": 3599, "token_type": "Bearer"} | body)


async def test_what_is_sent_is_signed_by_the_account(client, tmp_path):
    async with Script(granted()) as google:
        made = ServiceAccount(client, key_file(tmp_path, f"{google.url}/token"), clock=Clock())
        assert await made.token() == "ya29.a"
    head, body = google.requests[0]
    assert "content-type: application/x-www-form-urlencoded" in head.lower()
    form = parse_qs(body.decode())
    (assertion,) = form["assertion"]
    options = {"verify_exp": False, "verify_iat": False}
    claims = jwt.decode(assertion, key().public_key(), ["RS256"], audience=AUDIENCE, options=options)
    assert form["grant_type"] == [GRANT]
    assert jwt.get_unverified_header(assertion) == {"alg": "RS256", "kid": "k1", "typ": "JWT"}
    assert claims == {
        "iss": "dailies@my-project.iam.gserviceaccount.com",
        "scope": SCOPE,
        "aud": AUDIENCE,
        "iat": int(NOW),
        "exp": int(NOW) + 3600,
    }


async def test_a_token_is_kept_until_five_minutes_before_its_end(client, tmp_path):
    async with Script(granted("ya29.a"), granted("ya29.b")) as google:
        clock = Clock()
        made = ServiceAccount(client, key_file(tmp_path, google.url), clock=clock)
        assert await made.token() == "ya29.a"
        clock.now = NOW + 3298
        assert await made.token() == "ya29.a"
        clock.now = NOW + 3299
        assert await made.token() == "ya29.b"
    assert len(google.requests) == 2


async def test_many_ask_and_one_token_is_fetched(client, tmp_path):
    async with Script(granted()) as google:
        made = ServiceAccount(client, key_file(tmp_path, google.url))
        assert set(await asyncio.gather(*(made.token() for _ in range(20)))) == {"ya29.a"}
    assert len(google.requests) == 1


async def test_a_refused_token_is_forgotten_but_not_its_successor(client, tmp_path):
    async with Script(granted("ya29.a"), granted("ya29.b")) as google:
        made = ServiceAccount(client, key_file(tmp_path, google.url))
        made.forget(await made.token())
        assert await made.token() == "ya29.b"
        made.forget("ya29.a")
        assert await made.token() == "ya29.b"
    assert len(google.requests) == 2


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (answer(400, {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}), ErrorCode.AUTH),
        (answer(401, {"error": "invalid_client"}), ErrorCode.AUTH),
        (answer(403, {"error": {"x": 1}}), ErrorCode.TRANSIENT),
        (answer(429, b"slow"), ErrorCode.TRANSIENT),
        (answer(500, b""), ErrorCode.TRANSIENT),
        (answer(302, b"", Location="http://127.0.0.1:1/"), ErrorCode.TRANSIENT),
        (answer(200, b"<html>"), ErrorCode.TRANSIENT),
        (answer(200, {}), ErrorCode.TRANSIENT),
        (granted("bad\r\ntoken"), ErrorCode.TRANSIENT),
        (granted("t\u00f6ken"), ErrorCode.TRANSIENT),
        (granted(5), ErrorCode.TRANSIENT),
        (None, ErrorCode.TRANSIENT),
    ],
)
async def test_an_account_that_is_refused_and_a_google_that_is_away(client, tmp_path, said, code):
    async with Script(said) as google:
        with pytest.raises(ProviderError) as caught:
            await ServiceAccount(client, key_file(tmp_path, google.url)).token()
    assert (caught.value.code, caught.value.retryable) == (code, code is ErrorCode.TRANSIENT)
    if code is ErrorCode.AUTH:
        assert "invalid_" in caught.value.message


@pytest.mark.parametrize("lasts", ["soon", None, -5, 0])
async def test_a_token_of_unknown_life_is_used_once(client, tmp_path, lasts):
    async with Script(granted(expires_in=lasts)) as google:
        made = ServiceAccount(client, key_file(tmp_path, google.url))
        assert [await made.token(), await made.token()] == ["ya29.a", "ya29.a"]
    assert len(google.requests) == 2


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "[]",
        "{}",
        "[" * 100_000,
        b"\xff",
        json.dumps(account("http://127.0.0.1:1", private_key="-----BEGIN PRIVATE KEY-----\nx")),
        json.dumps(account("http://127.0.0.1:1", client_email=5)),
        json.dumps(account("")),
    ],
)
async def test_a_file_that_is_no_key_file_is_told_without_its_place(client, tmp_path, text):
    path = tmp_path / "key.json"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ProviderError) as caught:
        await ServiceAccount(client, path).token()
    assert caught.value.code is ErrorCode.AUTH
    assert str(tmp_path) not in caught.value.message


async def test_a_token_address_that_is_none_is_told(client, tmp_path):
    with pytest.raises(ProviderError):
        await ServiceAccount(client, key_file(tmp_path, "gopher://x")).token()
