"""Pictures inside JSON, the options of providers, and the mock over TLS."""

import ssl

import httpx
import pytest
import trustme

from providers.base import Media, ProviderError
from providers.mock.serve import MockServer
from providers.mock.server import create_mock
from providers.options import address, only
from providers.wire.pictures import picture_url


def test_a_picture_is_its_url_or_a_data_uri():
    assert picture_url(Media(url="https://a.test/x.png")) == "https://a.test/x.png"
    assert picture_url(Media(data=b"png", mime_type="image/webp")) == "data:image/webp;base64,cG5n"
    assert picture_url(Media(data=b"png")).startswith("data:image/png;")
    with pytest.raises(ProviderError, match="URL or bytes"):
        picture_url(Media())


def test_options_that_are_unknown_or_no_address_are_refused():
    only("fal", {"url": "x"}, "url", "api_key")
    with pytest.raises(ValueError, match="fal does not know uri"):
        only("fal", {"uri": "x"}, "url")
    assert address("fal", {}, "url", "https://a.test/") == "https://a.test"
    for wrong in ("a.test", "ftp://a.test", "https://a b", "https://a\n"):
        with pytest.raises(ValueError, match="http or https"):
            address("fal", {"url": wrong}, "url", "https://a.test")


@pytest.mark.anyio
async def test_the_mock_is_served_over_tls_too(tmp_path):
    authority = trustme.CA()
    pem = tmp_path / "mock.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(pem))
    context = ssl.create_default_context()
    authority.configure_trust(context)
    async with MockServer(create_mock(), certificate=pem) as server, httpx.AsyncClient(verify=context) as client:
        assert server.url.startswith("https://")
        assert (await client.get(f"{server.url}/healthz")).status_code == 200
