"""Parts that need more than their settings."""

from __future__ import annotations

import random
from collections.abc import Callable

from pipeline.clock import Clock
from pipeline.config import Settings, SettingsError
from pipeline.db import Database
from pipeline.durations import Durations
from pipeline.lifecycle import RetryPolicy
from pipeline.links import Links
from pipeline.outbound import Outbound
from pipeline.outbox import (
    Breaker,
    Outbox,
    Signatory,
)
from pipeline.safety import Secrets
from pipeline.spool import Spool
from pipeline.statistics import Statistics, catalog, process_gauges
from pipeline.traces import Tracing
from pipeline.wake import Doorbell
from pipeline.worker import Identity


def make_doorbell(settings: Settings, db: Database, identity: Identity) -> Doorbell:
    """How this process wakes others, and is woken: on its host, and over the database."""
    bell = db.bell(identity.id, settings.database_listen_url)
    return Doorbell(settings.data_dir / "wake", identity.id, db.change_probe(), bell)


def make_links(settings: Settings, secrets: Secrets, clock: Clock, durations: Durations) -> Links:
    """How generations are shown."""
    return Links(
        settings.base_url,
        settings.files_url,
        secrets.signing,
        settings.link_lifetime,
        clock.now,
        expected=durations.of,
    )


def make_outbox(
    settings: Settings, links: Links, signatory: Signatory, outbound: Outbound, clock: Clock, tracing: Tracing
) -> Outbox:
    """Where events are recorded and sent from."""
    return Outbox(
        links=links,
        signatory=signatory,
        client=outbound.webhooks,
        policy=RetryPolicy(len(settings.webhook_schedule), schedule=settings.webhook_schedule),
        timeout=settings.webhook_timeout,
        clock=clock,
        uniform=random.random,
        tracing=tracing,
        breaker=Breaker(pause=settings.webhook_pause, disable_after=settings.webhook_disable_after),
    )


def make_spans(settings: Settings) -> Callable[[], None]:
    """Begin to make spans, where that is asked for; the function returned ends it. Raises SettingsError."""
    if settings.otlp_endpoint is None:
        return lambda: None
    try:
        from pipeline.otel import to_collector  # noqa: PLC0415 - an extra that need not be installed
    except ImportError as error:
        packages = "opentelemetry-sdk opentelemetry-exporter-otlp-proto-http"
        raise SettingsError(f"OTLP_ENDPOINT needs the extra `otel`: pip install {packages} ({error})") from None
    return to_collector(settings.otlp_endpoint).close


def make_statistics(settings: Settings, db: Database, spool: Spool, identity: Identity) -> Statistics:
    """What counts the events of this process, and writes the figures down."""
    return Statistics(
        db,
        f"{identity.host}:{identity.pid}",
        gauges=lambda: process_gauges(spool.used(), settings.spool_bytes, settings.data_dir),
        sources={catalog.COMMITS.name: lambda: float(db.commits)},
    )
