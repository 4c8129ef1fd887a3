"""Downloads over the wire: whose key goes where, which redirects are followed, what every failure is called."""

import gzip

import httpx
import pytest

from providers.base import ErrorCode, ProviderError
from providers.wire import Call, call_json, download
from tests.providers.test_wire import NOW, Script, answer

pytestmark = pytest.mark.anyio


@pytest.fixture
async def client():
    async with httpx.AsyncClient(timeout=5) as client:
        yield client


async def fetched(client, url, **options):
    async with download(client, url, clock=lambda: NOW, **options) as body:
        return body.length, body.content_type, b"".join([chunk async for chunk in body.chunks()])


async def test_a_download_gives_length_type_and_raw_bytes(client):
    async with Script(answer(200, b"\0" * 70_000, Content_Type="video/mp4")) as server:
        assert await fetched(client, server.url) == (70_000, "video/mp4", b"\0" * 70_000)


async def test_credentials_go_to_their_own_origin_and_never_past_a_redirect(client):
    async with Script(answer(200, b"v")) as other, Script(answer(302, Location=other.url + "/cdn")) as own:
        keys = {own.url + "/v1": {"authorization": "Bearer secret"}}
        await fetched(client, own.url + "/file", headers_for_origin=keys)
        await fetched(client, other.url + "/file", headers_for_origin=keys)
    assert "secret" in own.requests[0][0]
    assert [head.split()[1] for head, _ in other.requests] == ["/cdn", "/file"]
    assert all("secret" not in head for head, _ in other.requests)


@pytest.mark.parametrize("origin", ["https://127.0.0.1:{port}", "http://localhost:{port}", "http://127.0.0.1"])
async def test_another_scheme_host_or_port_is_another_origin(client, origin):
    async with Script(answer(200, b"v")) as server:
        keys = {origin.format(port=server.port): {"authorization": "Bearer secret"}}
        await fetched(client, server.url, headers_for_origin=keys)
    assert "secret" not in server.requests[0][0]


async def test_a_relative_redirect_is_followed_and_a_loop_is_not(client):
    async with Script(answer(307, Location="/b"), answer(200, b"v")) as server:
        assert (await fetched(client, server.url + "/a"))[2] == b"v"
    async with Script(answer(302, Location="/a")) as server:
        with pytest.raises(ProviderError, match="more than 3 redirects") as caught:
            await fetched(client, server.url + "/a")
    assert (caught.value.code, len(server.requests)) == (ErrorCode.TRANSIENT, 4)


async def test_a_redirect_never_leaves_https():
    def redirect(request):
        return httpx.Response(302, headers={"location": "http://provider.test/x"})

    async with httpx.AsyncClient(transport=httpx.MockTransport(redirect)) as client:
        with pytest.raises(ProviderError, match="leaves https"):
            await fetched(client, "https://provider.test/x")


STRANGE = [
    *("https://xn--zz/y", "https://xn--a/", "https://[::1", "https://[zz]/", "http://127.0.0.1:99999/", "http://h:-1/"),
    *("https://.../", "https://a..b/", "http://\u3002/", "http://%zz/", "http://" + "a" * 300 + "/", "http:///x", "x"),
    *("http://127.0.0.1:1/\n", "http://u:p@/", "ftp://127.0.0.1/", "https://ex\u2024com/", "http://\ud800/", ""),
]


@pytest.mark.parametrize("url", STRANGE)
async def test_whatever_an_address_looks_like_it_is_one_kind_of_error(client, url):
    with pytest.raises(ProviderError):
        await fetched(client, url, headers_for_origin={"https://a.test": {"authorization": "Bearer k"}})
    with pytest.raises(ProviderError):
        await call_json(client, Call("GET", url), attempts=1)
    async with Script(answer(302, Location="https://xn--zz/y")) as server:
        with pytest.raises(ProviderError):
            await fetched(client, server.url)


async def test_a_header_that_cannot_be_written_is_our_own_mistake(client):
    with pytest.raises(ProviderError) as caught:
        await call_json(client, Call("GET", "http://127.0.0.1:1/", {"authorization": "Bearer \u20ac"}))
    assert caught.value.code is ErrorCode.INVALID_REQUEST


@pytest.mark.parametrize(
    ("status", "hides_missing", "code"),
    [
        (401, False, ErrorCode.AUTH),
        (401, True, ErrorCode.AUTH),
        (403, False, ErrorCode.AUTH),
        (403, True, ErrorCode.NOT_FOUND),
        (404, False, ErrorCode.NOT_FOUND),
    ],
)
async def test_a_refused_key_is_no_expired_link(client, status, hides_missing, code):
    async with Script(answer(status)) as server, Script(answer(302, Location=server.url)) as own:
        keys = {server.url: {"authorization": "Bearer k"}}
        with pytest.raises(ProviderError) as caught:
            await fetched(client, server.url, headers_for_origin=keys, hides_missing=hides_missing)
        assert caught.value.code is code
        with pytest.raises(ProviderError) as caught:
            await fetched(client, own.url, headers_for_origin={own.url: {"authorization": "Bearer k"}})
        assert caught.value.code is (ErrorCode.TRANSIENT if status == 401 else ErrorCode.NOT_FOUND)


@pytest.mark.parametrize("status", [403, 404, 410])
async def test_an_expired_link_says_poll_again(client, status):
    async with Script(answer(status)) as server:
        with pytest.raises(ProviderError) as caught:
            await fetched(client, server.url)
    assert caught.value.code is ErrorCode.NOT_FOUND


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (answer(500), ErrorCode.TRANSIENT),
        (answer(204), ErrorCode.TRANSIENT),
        (answer(302), ErrorCode.TRANSIENT),
        (answer(302, Location="http://[broken"), ErrorCode.TRANSIENT),
        (answer(429, Retry_After="3"), ErrorCode.RATE_LIMITED),
        (answer(200, b"half", Content_Length="8"), ErrorCode.TRANSIENT),
        (answer(200, gzip.compress(b"v"), Content_Encoding="gzip"), ErrorCode.TRANSIENT),
        (None, ErrorCode.TRANSIENT),
    ],
)
async def test_a_download_that_fails_may_be_tried_again(client, said, code):
    async with Script(said) as server:
        with pytest.raises(ProviderError) as caught:
            await fetched(client, server.url)
    assert (caught.value.code, caught.value.retryable) == (code, True)
