"""The composition root: the only file that wires. Everything else is handed what it needs."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.applications import Starlette

from pipeline import __version__, credentials
from pipeline.admission import IN_FLIGHT
from pipeline.api import Broadcaster, KeyRing, Service, create_api
from pipeline.clock import Clock
from pipeline.config import LOOPBACK_HOSTS, Settings, SettingsError
from pipeline.db import Database, DatabaseError
from pipeline.durations import Durations
from pipeline.ids import new_id
from pipeline.keys import Box, Signer
from pipeline.lifecycle import JobKind, RetryPolicy, Step
from pipeline.links import Links
from pipeline.maintenance import Keep, Maintenance
from pipeline.models import DEFAULT_TENANT
from pipeline.notices import notices
from pipeline.outbound import Outbound, guard_of
from pipeline.outbox import (
    SEALING,
    Breaker,
    Outbox,
    Recoveries,
    Signatory,
    Tester,
    seal_anew,
    set_default_endpoint,
    set_operator_endpoint,
)
from pipeline.roster import MOCK, Providers, make_bounds, make_extra_allowed, make_fallback, make_providers
from pipeline.safety import Secrets, check_webhook_url, plain, prepare_schema, resolve_secrets
from pipeline.spending import Purse, purse_of
from pipeline.spool import Spool
from pipeline.statistics import Statistics, catalog, process_gauges
from pipeline.storage import Storage, create_storage
from pipeline.telemetry import emit
from pipeline.traces import Tracing
from pipeline.turn import Handler
from pipeline.wake import Doorbell
from pipeline.worker import Identity, Limits, Worker
from pipeline.workflow import Parts, Policies, Workflow
from providers.wire import Clients
from webhooks.events import EventType, validate_filter

LEASES_OF_GRACE = 1.5
TIME_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Plant:
    """All parts of one process, wired."""

    settings: Settings
    secrets: Secrets
    db: Database
    clock: Clock
    outbound: Outbound
    storage: Storage
    spool: Spool
    providers: Providers
    durations: Durations
    purse: Purse
    outbox: Outbox
    signatory: Signatory
    links: Links
    callbacks: Signer
    doorbell: Doorbell
    identity: Identity
    statistics: Statistics
    tracing: Tracing


@asynccontextmanager
async def open_plant(settings: Settings) -> AsyncIterator[Plant]:
    """Everything that a process needs, and its orderly end. Raises SettingsError, DatabaseError or SchemaBehind."""
    secrets = resolve_secrets(settings)
    try:
        validate_filter(settings.webhook_events)
    except ValueError as error:
        raise SettingsError(f"WEBHOOK_EVENTS: {error}") from None
    check_webhook_url(settings)
    make_fallback(settings)
    make_extra_allowed(settings)
    make_bounds(settings)
    async with AsyncExitStack() as stack:
        plant = _build(settings, secrets, stack)
        await _start(plant, stack)
        yield plant


def _build(settings: Settings, secrets: Secrets, stack: AsyncExitStack) -> Plant:
    """The parts, each with its end on the stack; nothing runs yet."""
    db = Database(settings.database)
    stack.callback(db.close)
    prepare_schema(db)
    clock = Clock()
    outbound = Outbound(settings)
    stack.push_async_callback(outbound.aclose)
    storage = create_storage(settings, outbound.storage)
    stack.push_async_callback(storage.close)
    spool = Spool(settings.data_dir / "spool", settings.spool_bytes)
    stack.callback(spool.close)
    providers = make_providers(settings, Clients(outbound.submit, outbound.calls, outbound.fetch))
    durations = Durations(db, providers.ready)
    links = make_links(settings, secrets, clock, durations)
    tracing = Tracing(os.urandom if settings.otlp_endpoint else None)
    signatory = Signatory(Box(secrets.signing, SEALING), secrets.webhook)
    identity = Identity(new_id("wrk", clock.now_ms()), socket.gethostname(), os.getpid(), __version__)
    return Plant(
        settings=settings,
        secrets=secrets,
        db=db,
        clock=clock,
        outbound=outbound,
        storage=storage,
        spool=spool,
        providers=providers,
        durations=durations,
        purse=purse_of(settings, providers.catalogues),
        outbox=make_outbox(settings, links, signatory, outbound, clock, tracing),
        signatory=signatory,
        links=links,
        callbacks=Signer(secrets.signing, "callback"),
        doorbell=Doorbell(settings.data_dir / "wake", identity.id, db.change_probe()),
        identity=identity,
        statistics=make_statistics(settings, db, spool, identity),
        tracing=tracing,
    )


async def _start(plant: Plant, stack: AsyncExitStack) -> None:
    """What runs beside the work, and what a start writes."""
    settings = plant.settings
    stack.push_async_callback(asyncio.to_thread, make_spans(settings))
    plant.doorbell.open()
    stack.callback(plant.doorbell.close)
    stack.push_async_callback(plant.statistics.close)
    stack.callback(asyncio.create_task(plant.statistics.keep()).cancel)
    await plant.db.write(
        lambda tx: set_default_endpoint(
            tx, url=settings.webhook_url, events=settings.webhook_events, tenant=DEFAULT_TENANT
        )
    )
    await plant.db.write(lambda tx: set_operator_endpoint(tx, url=settings.operator_webhook_url))
    await _seal_anew(plant)
    stack.callback(asyncio.create_task(_keep_time(plant.db, plant.clock)).cancel)
    stack.callback(asyncio.create_task(plant.durations.keep()).cancel)


async def _seal_anew(plant: Plant) -> None:
    """After a rotation of SECRET_KEY what the old one had sealed is sealed by the new one."""
    lost = await plant.db.write(lambda tx: seal_anew(tx, plant.signatory.box))
    if lost:
        notice = (
            f"{lost} secrets or headers of webhook endpoints were sealed with a SECRET_KEY that is not set any more:"
            " bring it back behind the new one, or rotate them (`dailies endpoints rotate`)"
        )
        emit("service.notice", level=logging.WARNING, notice=notice)


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


async def _keep_time(db: Database, clock: Clock) -> None:
    """Ask the database for its time now and then: a process without a worker makes no claims that would tell it."""
    while True:
        with suppress(DatabaseError):
            clock.sync(await db.read(lambda tx: tx.now))
        await asyncio.sleep(TIME_SECONDS)


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


def make_workflow(plant: Plant) -> Workflow:
    """The stages of a generation."""
    settings = plant.settings
    return Workflow(
        Parts(
            db=plant.db,
            providers=plant.providers.ready,
            durations=plant.durations,
            storage=plant.storage,
            spool=plant.spool,
            outbox=plant.outbox,
            policies=make_policies(settings),
            bounds=make_bounds(settings),
            purse=plant.purse,
            clock=plant.clock,
            uniform=random.random,
            random=os.urandom,
            callback_url=lambda provider, token: _callback_url(settings, provider, plant.callbacks.seal(token)),
            max_video_bytes=settings.max_video_bytes,
            max_image_bytes=settings.max_image_bytes,
        )
    )


def make_policies(settings: Settings) -> Policies:
    """When things are repeated and given up."""
    return Policies(
        submit_attempts=settings.max_attempts,
        store_attempts=settings.store_attempts,
        retry_base=settings.retry_base,
        retry_max=settings.retry_max,
        poll_interval=settings.poll_interval,
        poll_interval_max=settings.poll_interval_max,
        generation_timeout=settings.generation_timeout,
        queue_timeout=settings.queue_timeout,
        submit_timeout=settings.submit_timeout,
        late_answer=settings.lease * LEASES_OF_GRACE,
        on_unknown=settings.on_unknown_submit,
        max_submissions=settings.max_submissions,
        lane_pause=settings.lane_pause,
        keep_videos=settings.keep_videos,
        keep_late=settings.late_results == "keep",
    )


def _callback_url(settings: Settings, provider: str, sealed: str) -> str | None:
    """Providers can ring only where they can reach us: under PUBLIC_URL, or on this very machine."""
    nearby = urlsplit(settings.mock_url).hostname in LOOPBACK_HOSTS and provider == "mock"
    if settings.public_url is None and not nearby:
        return None
    return f"{settings.base_url}/callbacks/{provider}/{sealed}"


def make_worker(plant: Plant) -> Worker:
    """The worker of a process."""
    settings = plant.settings
    limits = Limits(
        slots={
            Step.SUBMIT: settings.slots_submit,
            Step.RESOLVE: settings.slots_submit,
            Step.POLL: settings.slots_poll,
            Step.STORE: settings.slots_store,
            Step.LATE: settings.slots_store,
            Step.DELIVER: settings.slots_deliver,
            Step.RECOVER: 1,
        },
        per_lane={Step.DELIVER: IN_FLIGHT},
        bounds=make_bounds(settings),
        purse=plant.purse,
        lease=settings.lease,
        turn_timeout=settings.turn_timeout,
        drain_timeout=settings.drain_timeout,
    )
    maintenance = make_maintenance(plant)
    handlers: dict[JobKind, Handler] = {
        JobKind.GENERATION: make_workflow(plant),
        JobKind.DELIVERY: plant.outbox,
        JobKind.RECOVERY: Recoveries(),
    }
    return Worker(
        plant.db, plant.doorbell, handlers, limits, plant.identity, plant.clock, maintain=maintenance.run_if_due
    )


def make_maintenance(plant: Plant) -> Maintenance:
    """What keeps the house clean: everything that has been kept for its time goes."""
    settings = plant.settings
    keep = Keep(
        videos=settings.keep_videos,
        inputs=settings.keep_inputs,
        generations=settings.keep_generations,
        ledger=settings.keep_ledger,
        jobs=settings.keep_jobs,
        events=settings.keep_events,
        timeline=settings.keep_timeline,
        callbacks=settings.keep_callbacks,
    )
    return Maintenance(plant.db, plant.storage, plant.spool, plant.outbox, plant.clock, keep)


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
