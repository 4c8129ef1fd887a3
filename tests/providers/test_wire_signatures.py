"""Keys and secrets that verify callbacks: how seldom they are fetched, and what passes for a signature."""

import asyncio
import base64
import json

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from providers.base import ErrorCode, ProviderError
from providers.registry import create_provider
from providers.wire import Clients, KeySet
from providers.wire.kept import MAX_AGE
from providers.wire.signatures import header, require_fresh, standard_secret, verify_ed25519, verify_rs256

pytestmark = pytest.mark.anyio
NOW = 1_700_000_000.0
DOWN = b"HTTP/1.1 500 No\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class Published:
    """A server on loopback that answers with `document`, counts, and lets nobody through while `gate` is closed."""

    def __init__(self, document):
        self.document, self.asked = document, 0
        self.gate, self.came = asyncio.Event(), asyncio.Event()
        self.gate.set()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_):
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        self.asked += 1
        self.came.set()
        await self.gate.wait()
        body = json.dumps(self.document).encode()
        head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
        writer.write(DOWN if self.document is None else head + body)
        await writer.drain()
        writer.close()


@pytest.fixture
async def client():
    async with httpx.AsyncClient(timeout=5) as client:
        yield client


def okp(key):
    x = base64.urlsafe_b64encode(key.public_key().public_bytes_raw()).rstrip(b"=").decode()
    return {"kty": "OKP", "crv": "Ed25519", "x": x}


OLD, NEW = (Ed25519PrivateKey.from_private_bytes(byte * 32) for byte in (b"o", b"n"))


def signed(key):
    return key.sign(b"m").hex()


async def refused(keys, signature, now):
    with pytest.raises(ProviderError) as caught:
        await verify_ed25519(keys, signature, b"m", now)
    return caught.value.code


async def test_keys_are_fetched_once_a_day_while_they_fit(client):
    async with Published({"keys": [okp(OLD)]}) as theirs:
        keys = KeySet(client, theirs.url)
        for seconds in (0, 61, 3600, MAX_AGE - 1):
            await verify_ed25519(keys, signed(OLD), b"m", NOW + seconds)
        assert theirs.asked == 1
        await verify_ed25519(keys, signed(OLD), b"m", NOW + MAX_AGE)
        assert theirs.asked == 2


async def test_forged_callbacks_have_the_keys_fetched_once_a_minute(client):
    async with Published({"keys": [okp(OLD)]}) as theirs:
        keys = KeySet(client, theirs.url)
        codes = {await refused(keys, "00" * 64, NOW + seconds) for seconds in range(120)}
        assert (codes, theirs.asked) == ({ErrorCode.AUTH}, 2)


async def test_a_new_key_is_found_by_a_callback_that_the_old_ones_do_not_fit(client):
    async with Published({"keys": [okp(OLD)]}) as theirs:
        keys = KeySet(client, theirs.url)
        await verify_ed25519(keys, signed(OLD), b"m", NOW)
        theirs.document = {"keys": [okp(NEW)]}
        await verify_ed25519(keys, signed(NEW), b"m", NOW + 60)


async def test_known_keys_verify_while_the_others_cannot_be_had(client):
    async with Published({"keys": [okp(OLD)]}) as theirs:
        keys = KeySet(client, theirs.url)
        await verify_ed25519(keys, signed(OLD), b"m", NOW)
        theirs.document = None
        assert await refused(keys, signed(NEW), NOW + 100) is ErrorCode.TRANSIENT
        for seconds in range(100, 160):
            await verify_ed25519(keys, signed(OLD), b"m", NOW + seconds)
            assert await refused(keys, signed(NEW), NOW + seconds) is ErrorCode.TRANSIENT
        assert theirs.asked == 2


async def test_a_fetch_that_failed_is_remembered_for_ten_seconds(client):
    async with Published(None) as theirs:
        keys = KeySet(client, theirs.url)
        for seconds in range(10):
            assert await refused(keys, signed(OLD), NOW + seconds) is ErrorCode.TRANSIENT
        assert theirs.asked == 1
        theirs.document = {"keys": [okp(OLD)]}
        await verify_ed25519(keys, signed(OLD), b"m", NOW + 10)


async def test_nobody_with_a_known_key_waits_for_a_fetch(client):
    async with Published({"keys": [okp(OLD)]}) as theirs:
        keys = KeySet(client, theirs.url)
        await verify_ed25519(keys, signed(OLD), b"m", NOW)
        theirs.came.clear()
        theirs.gate.clear()
        later = NOW + 2 * MAX_AGE
        first = asyncio.create_task(keys.current(later))
        await asyncio.wait_for(theirs.came.wait(), 5)
        await asyncio.wait_for(verify_ed25519(keys, signed(OLD), b"m", later), 5)
        assert not first.done()
        first.cancel()
        forged = asyncio.create_task(refused(keys, signed(NEW), later))
        theirs.gate.set()
        assert await asyncio.wait_for(forged, 5) is ErrorCode.AUTH
        assert theirs.asked == 2


async def test_many_first_callbacks_share_one_fetch(client):
    async with Published({"keys": [okp(OLD)]}) as theirs:
        keys = KeySet(client, theirs.url)
        await asyncio.gather(*[verify_ed25519(keys, signed(OLD), b"m", NOW) for _ in range(20)])
        assert theirs.asked == 1


@pytest.mark.parametrize("document", [{}, {"keys": 5}, {"keys": {}}])
async def test_a_document_without_keys_is_a_matter_of_time(client, document):
    async with Published(document) as theirs:
        assert await refused(KeySet(client, theirs.url), signed(OLD), NOW) is ErrorCode.TRANSIENT


RSA = rsa.generate_private_key(65537, 2048)
JWK = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(RSA.public_key())) | {"kid": "a"}
FOREIGN = [
    5,
    {},
    {"kid": "a"},
    {"kid": "a", "kty": "RSA"},
    {"kid": "a", "kty": "RSA", "n": 5, "e": "AQAB"},
    {"kid": "a", "kty": "RSA", "n": "AQAB", "e": "AQAB"},
    {"kid": "a", "kty": "OKP"},
    {"kid": "a", "kty": "OKP", "crv": "Ed25519", "x": 5},
    {"kid": "a", "kty": "OKP", "crv": "Ed25519", "x": "AA"},
    {"kid": "a", "kty": "OKP", "crv": "X25519", "x": okp(OLD)["x"]},
    {"kid": "a", "kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
    {"kid": "a", "kty": "oct", "k": "AAAA", "alg": "HS256"},
    {**JWK, "alg": 5},
]


@pytest.mark.parametrize("foreign", FOREIGN, ids=range(len(FOREIGN)))
async def test_keys_of_other_kinds_are_passed_over(client, foreign):
    async with Published({"keys": [foreign, okp(OLD), JWK]}) as theirs:
        keys = KeySet(client, theirs.url)
        await verify_ed25519(keys, signed(OLD), b"m", NOW)
        token = jwt.encode({"iat": int(NOW)}, RSA, "RS256", headers={"kid": "a"})
        assert await verify_rs256(keys, token, NOW) == {"iat": int(NOW)}
        assert theirs.asked == 1


async def issued(client, claims, now=NOW):
    token = jwt.encode(claims, RSA, "RS256", headers={"kid": "a"})
    async with Published({"keys": [JWK]}) as theirs:
        return await verify_rs256(KeySet(client, theirs.url), token, now)


@pytest.mark.parametrize("iat", [int(NOW), NOW + 0.25, NOW - 299.5])
async def test_a_token_says_when_it_was_made(client, iat):
    assert (await issued(client, {"iat": iat}))["iat"] == iat


@pytest.mark.parametrize("claims", [{}, *({"iat": iat} for iat in (None, "x", "1700000000", True, [1], {}, 10**400))])
async def test_a_token_that_does_not_is_refused(client, claims):
    with pytest.raises(ProviderError) as caught:
        await issued(client, claims)
    assert caught.value.code is ErrorCode.AUTH


@pytest.mark.parametrize(
    "token", ["", "a.b.c", "é.é.é", "\udc80", base64.b64encode(b"[" * 40_000).decode() + ".e30.AA"]
)
async def test_what_is_no_token_is_told_apart(client, token):
    async with Published({"keys": [JWK]}) as theirs:
        with pytest.raises(ProviderError) as caught:
            await verify_rs256(KeySet(client, theirs.url), token, NOW)
    assert (caught.value.code, theirs.asked) == (ErrorCode.INVALID_REQUEST, 0)


@pytest.mark.parametrize(
    ("timestamp", "code"),
    [
        ("", ErrorCode.INVALID_REQUEST),
        ("soon", ErrorCode.INVALID_REQUEST),
        ("9" * 400, ErrorCode.AUTH),
        ("9" * 5000, ErrorCode.AUTH),
        ("-" + "9" * 400, ErrorCode.AUTH),
        ("nan", ErrorCode.AUTH),
        ("inf", ErrorCode.AUTH),
        (str(int(NOW) - 301), ErrorCode.AUTH),
    ],
)
def test_a_time_that_is_none_or_long_ago_is_refused(timestamp, code):
    with pytest.raises(ProviderError) as caught:
        require_fresh(timestamp, NOW)
    assert caught.value.code is code


@pytest.mark.parametrize(
    "secret", ["", "whsec_", "whsec_" + base64.b64encode(b"k" * 15).decode(), "whsec_é", "whsec_?"]
)
def test_a_secret_that_could_be_guessed_is_refused(secret):
    with pytest.raises(ValueError, match="whsec_ and base64"):
        standard_secret(secret)
    assert standard_secret("whsec_" + base64.b64encode(b"k" * 16).decode() + "\n") == b"k" * 16


def test_a_header_that_is_no_text_is_refused():
    with pytest.raises(ProviderError) as caught:
        header({"X-Sign": "a\udc80"}, "x-sign")
    assert caught.value.code is ErrorCode.INVALID_REQUEST


async def test_replicate_s_secret_is_fetched_as_seldom(client):
    headers = {"webhook-id": "a", "webhook-timestamp": str(int(NOW)), "webhook-signature": "v1,x"}
    async with Published({"key": "whsec_" + base64.b64encode(b"s" * 24).decode()}) as theirs:
        options = {"api_key": "k", "url": theirs.url}
        provider = create_provider("replicate", Clients(client, client, client), options)
        for code, asked in ((ErrorCode.AUTH, 1), (ErrorCode.AUTH, 1)):
            for answer in await asyncio.gather(
                *[provider.read_callback(headers, b"{}", NOW) for _ in range(5)], return_exceptions=True
            ):
                assert (answer.code, theirs.asked) == (code, asked)


async def test_a_secret_of_replicate_s_that_cannot_be_had_is_asked_for_once(client):
    headers = {"webhook-id": "a", "webhook-timestamp": str(int(NOW)), "webhook-signature": "v1,x"}
    async with Published(None) as theirs:
        options = {"api_key": "k", "url": theirs.url}
        provider = create_provider("replicate", Clients(client, client, client), options)
        calls = [provider.read_callback(headers, b"{}", NOW) for _ in range(5)]
        codes = {error.code for error in await asyncio.gather(*calls, return_exceptions=True)}
        assert (codes, theirs.asked) == ({ErrorCode.TRANSIENT}, 1)
