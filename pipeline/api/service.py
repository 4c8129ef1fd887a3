"""What the routes work with: handed in by the composition root."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.admission import Bounds
from pipeline.api.broadcast import Broadcaster
from pipeline.api.keyring import KeyRing
from pipeline.api.ratelimit import Buckets
from pipeline.api.streams import Streams
from pipeline.api.waiters import Waiters
from pipeline.clock import Clock
from pipeline.credentials import digest
from pipeline.db import Database
from pipeline.durations import Durations
from pipeline.keys import Signer
from pipeline.links import Links
from pipeline.outbox import Outbox
from pipeline.outbox.signatory import Signatory
from pipeline.outbox.testing import Tester
from pipeline.spending import Purse
from pipeline.storage import Storage
from pipeline.traces import Tracing
from pipeline.workflow import Policies
from providers.base import Provider

LARGE_AT_ONCE = 3


@dataclass(slots=True)
class Service:
    """The parts of the API.

    Args:
        callbacks: opens the addresses that providers were given to ring at.
        api_keys: the operator's keys; with none here and none made, everyone who can connect is the operator.
        keys: the keys that were made, as this process remembers them.
        key_rate: requests per minute of a made key that has no rate of its own; 0 is no limit.
        cors_origins: origins whose pages may call; `*` is every one.
        broadcaster: tells those who watch.
        lacking: providers that cannot be asked, and the settings that would change that.
        bounds: how much of each provider may be under way.
        purse: how much may be spent.
        policies: when generations are given up, and what follows from a call that nobody can tell the outcome of.
        durations: how long providers take.
        default_provider: asked when a request names none.
        fallback: (provider, model) of those that are asked next, where a request names neither provider nor model.
        extra_allowed: by provider, names that `extra` may have although they may change what is paid.
        webhook_hosts: hosts that a request may name in `webhook.url`.
        check_url: refuses a URL to which no webhook could be sent; raises BadUrl or BlockedAddress.
        signatory: opens and seals the secrets of endpoints.
        tester: sends tests to endpoints.
        wake: tells the workers that there is work.
        large_bodies: a place for each large request at once, since each is held in memory several times.
        tracing: the place of a request in its caller's trace.
        under_way: (tenant, key) of the requests that are being answered by this process.
    """

    db: Database
    links: Links
    callbacks: Signer
    outbox: Outbox
    storage: Storage
    providers: Mapping[str, Provider]
    lacking: Mapping[str, Sequence[str]]
    durations: Durations
    clock: Clock
    random: Callable[[int], bytes]
    wake: Callable[[], None]
    api_keys: Sequence[str]
    default_provider: str
    webhook_hosts: frozenset[str]
    check_url: Callable[[str], None]
    signatory: Signatory
    tester: Tester
    events: frozenset[str]
    max_body_bytes: int
    max_image_bytes: int
    bounds: Bounds
    purse: Purse
    policies: Policies
    keys: KeyRing
    key_rate: int
    broadcaster: Broadcaster
    fallback: Sequence[tuple[str, str | None]] = ()
    extra_allowed: Mapping[str, frozenset[str]] = field(default_factory=dict)
    cors_origins: Sequence[str] = ()
    tracing: Tracing = field(default_factory=Tracing)
    buckets: Buckets = field(default_factory=Buckets)
    large_bodies: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(LARGE_AT_ONCE))
    under_way: set[tuple[str, str]] = field(default_factory=set)
    waiters: Waiters = field(init=False)
    streams: Streams = field(init=False)
    api_key_hashes: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.waiters = Waiters(self.db)
        self.streams = Streams(self.db)
        self.api_key_hashes = tuple(digest(key.encode("utf-8", "surrogateescape")) for key in self.api_keys)
