"""The clients of the application, one per kind of counterpart, so that none can slow down or speak for another."""

from __future__ import annotations

import ssl
from functools import cache, partial
from http.cookiejar import CookieJar
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from urllib.request import Request as UrllibRequest

import certifi
import httpx

from pipeline.config import Settings
from pipeline.outbound.dns import Lookups, Resolve
from pipeline.outbound.guard import Guard
from pipeline.outbound.transport import Transport
from pipeline.outbound.tunnel import Proxy

KEEP_ALIVE = 30.0
"""Seconds an idle connection to a provider or to storage is kept."""
WEBHOOK_KEEP_ALIVE = 2.0
"""Seconds for receivers: Node's server closes idle connections after 5 s, and a request sent just then is lost."""
CONNECT = 10.0
"""Seconds for name, TCP and TLS together."""


class Outbound:
    """Every HTTP client that we have; nothing is opened before a client's first request.

    Args:
        settings: `allowed_networks`, `allowed_ports` and `egress_proxy` for the guarded clients, and the timeouts.
        ca_file: another authority for `storage`, as AWS_CA_BUNDLE gives it.
        resolve: names to addresses; the system's resolver on own threads unless given.

    Attributes:
        submit: a new connection for every request, closed after it: a paid call never dies under a reused one.
        calls: provider polls, cancels and lookups.
        fetch: result URLs and input images, guarded like `webhooks`.
        webhooks: deliveries, guarded: https at `allowed_ports` only and through `egress_proxy` if there is one, but for
            addresses in `allowed_networks`.
        storage: presigned URLs of the operator's bucket.

    All take the limits of `httpx.Timeout`, which are per operation: bound a whole exchange by `asyncio.timeout`.
    Requests ask for no content encoding; who reads from strangers uses `stream` and `aiter_raw`, which never decode.
    """

    def __init__(self, settings: Settings, *, ca_file: Path | None = None, resolve: Resolve | None = None) -> None:
        # Strangers' names can be slow on purpose: they have their own lookup threads.
        self._lookups = (Lookups(), Lookups())
        ours, theirs = (resolve or lookups for lookups in self._lookups)
        guarded = partial(
            Transport, tls=default_tls, resolve=theirs, guard=guard_of(settings), proxy=proxy_of(settings)
        )
        provider = httpx.Timeout(settings.provider_timeout, connect=CONNECT)
        self.submit = _client(
            Transport(tls=default_tls, resolve=ours, per_host=64, keep_alive=None),
            httpx.Timeout(settings.provider_timeout, connect=CONNECT, read=settings.submit_timeout),
        )
        per_host = max(64, settings.slots_poll // 2)  # of polls under way about half wait for the database, not for it
        self.calls = _client(
            Transport(tls=default_tls, resolve=ours, per_host=per_host, keep_alive=KEEP_ALIVE), provider
        )
        self.fetch = _client(guarded(per_host=16, keep_alive=KEEP_ALIVE), provider)
        self.webhooks = _client(
            guarded(per_host=16, keep_alive=WEBHOOK_KEEP_ALIVE),
            httpx.Timeout(settings.webhook_timeout, connect=min(CONNECT, settings.webhook_timeout)),
        )
        self.storage = _client(
            Transport(tls=lambda: tls_context(ca_file), resolve=ours, per_host=32, keep_alive=KEEP_ALIVE), provider
        )

    async def aclose(self) -> None:
        """Close every client and every connection."""
        for client in (self.submit, self.calls, self.fetch, self.webhooks, self.storage):
            await client.aclose()
        for lookups in self._lookups:
            lookups.close()


def guard_of(settings: Settings) -> Guard:
    """The rule for URLs that others chose."""
    return Guard(settings.allowed_networks, settings.allowed_ports)


def proxy_of(settings: Settings) -> Proxy | None:
    """EGRESS_PROXY, if it is set."""
    return None if settings.egress_proxy is None else Proxy.parse(settings.egress_proxy.get_secret_value())


def user_agent() -> str:
    """`dailies/<version>`, as we name ourselves to everyone."""
    try:
        return f"dailies/{version('dailies')}"
    except PackageNotFoundError:
        return "dailies/0"


def tls_context(ca_file: Path | None = None) -> ssl.SSLContext:
    """Verify names and chains against the system's authorities and certifi's (slim images have none), and `ca_file`."""
    context = ssl.create_default_context(cafile=certifi.where())
    context.load_default_certs()
    if ca_file is not None:
        context.load_verify_locations(cafile=ca_file)
    context.set_alpn_protocols(["http/1.1"])
    return context


@cache
def default_tls() -> ssl.SSLContext:
    """The one context that all clients but `storage` share; reading the authorities takes tens of milliseconds."""
    return tls_context()


class _NoCookies(CookieJar):
    """A jar that takes nothing in: what one receiver sets must not be sent to the next."""

    def extract_cookies(self, response: object, request: UrllibRequest) -> None:
        """Drop them."""


def _client(transport: Transport, timeout: httpx.Timeout) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=transport,
        timeout=timeout,
        headers={"User-Agent": user_agent(), "Accept-Encoding": "identity"},
        cookies=_NoCookies(),
        trust_env=False,
        follow_redirects=False,
    )
