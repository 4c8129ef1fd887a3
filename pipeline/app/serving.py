"""The HTTP application of a process, and what is said at its start."""

from __future__ import annotations

import os

from starlette.applications import Starlette

from pipeline import __version__, credentials
from pipeline.api import Broadcaster, KeyRing, Service, create_api
from pipeline.app.plant import Plant
from pipeline.app.working import make_policies
from pipeline.notices import notices
from pipeline.outbound import guard_of
from pipeline.outbox import (
    Tester,
)
from pipeline.roster import MOCK, make_bounds, make_extra_allowed, make_fallback
from pipeline.safety import plain
from pipeline.telemetry import emit
from webhooks.events import EventType


def make_api(plant: Plant) -> Starlette:
    """The HTTP application of a process."""
    settings = plant.settings
    return create_api(
        Service(
            db=plant.db,
            links=plant.links,
            callbacks=plant.callbacks,
            outbox=plant.outbox,
            storage=plant.storage,
            providers=plant.providers.ready,
            lacking=plant.providers.lacking,
            clock=plant.clock,
            random=os.urandom,
            tracing=plant.tracing,
            wake=plant.doorbell.ring,
            api_keys=plain(settings.api_key),
            default_provider=settings.provider or MOCK,
            fallback=make_fallback(settings),
            extra_allowed=make_extra_allowed(settings),
            durations=plant.durations,
            check_url=guard_of(settings).check_url,
            signatory=plant.signatory,
            tester=Tester(plant.signatory, plant.links, plant.outbound.webhooks, settings.webhook_timeout, plant.clock),
            webhook_hosts=frozenset(host.lower() for host in settings.webhook_hosts),
            events=frozenset(EventType),
            max_body_bytes=settings.max_body_bytes,
            max_image_bytes=settings.max_image_bytes,
            bounds=make_bounds(settings),
            purse=plant.purse,
            policies=make_policies(settings),
            keys=KeyRing(
                lambda hashes: plant.db.read(lambda tx: credentials.live(tx, hashes)),
                lambda: plant.db.read(credentials.exists),
            ),
            key_rate=settings.key_rate_per_minute,
            broadcaster=Broadcaster(plant.db, plant.links, settings.max_watchers),
            cors_origins=settings.cors_origins,
        )
    )


def announce(plant: Plant, role: str, url: str | None = None) -> None:
    """Say what has started and where it listens, and what an operator should know about it."""
    settings = plant.settings
    emit(
        "service.started",
        role=role,
        version=__version__,
        database="postgresql" if plant.db.postgres else settings.database,
        files="r2" if settings.uses_r2 else str(settings.data_dir / "files"),
        provider=settings.provider,
        url=url,
        webhook=settings.webhook_url,
    )
    anyone = not settings.api_key and not plant.db.read_now(credentials.exists)
    for notice in notices(settings, plant.providers, secrets_in=plant.secrets.made_in, anyone=anyone):
        emit("service.notice", notice=notice)
