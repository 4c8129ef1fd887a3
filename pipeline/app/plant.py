"""Plant: all parts of one process, opened in order and closed in the reverse."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass

from pipeline import __version__
from pipeline.app.parts import make_doorbell, make_links, make_outbox, make_spans, make_statistics
from pipeline.clock import Clock
from pipeline.config import Settings, SettingsError
from pipeline.db import Database, DatabaseError
from pipeline.durations import Durations
from pipeline.ids import new_id
from pipeline.keys import Box, Signer
from pipeline.links import Links
from pipeline.models import DEFAULT_TENANT
from pipeline.outbound import Outbound
from pipeline.outbox import (
    SEALING,
    Outbox,
    Signatory,
    seal_anew,
    set_default_endpoint,
    set_operator_endpoint,
)
from pipeline.roster import Providers, make_bounds, make_extra_allowed, make_fallback, make_providers
from pipeline.safety import Secrets, check_webhook_url, prepare_schema, resolve_secrets
from pipeline.spending import Purse, purse_of
from pipeline.spool import Spool
from pipeline.statistics import Statistics
from pipeline.storage import Storage, create_storage
from pipeline.telemetry import emit
from pipeline.traces import Tracing
from pipeline.wake import Doorbell
from pipeline.worker import Identity
from providers.wire import Clients
from webhooks.events import validate_filter

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
    db = _open_database(settings, stack)
    clock = Clock()
    clock.sync(db.read_now(lambda tx: tx.now))  # ids, links and signatures never show the host's own time
    outbound = Outbound(settings)
    stack.push_async_callback(outbound.aclose)
    storage = create_storage(settings, outbound.storage)
    stack.push_async_callback(storage.close)
    spool = Spool(settings.data_dir / "spool", settings.spool_bytes)
    stack.callback(spool.close)
    providers = make_providers(settings, Clients(outbound.submit, outbound.calls, outbound.fetch, clock.now))
    durations = Durations(db, providers.ready)
    links = make_links(settings, secrets, clock, durations)
    tracing = Tracing(os.urandom if settings.otlp_endpoint else None)
    signatory = Signatory(Box(secrets.signing, SEALING), secrets.webhook)
    identity = Identity(new_id("wrk", clock.now_ms()), socket.gethostname(), os.getpid(), __version__)
    doorbell = make_doorbell(settings, db, identity)
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
        doorbell=doorbell,
        identity=identity,
        statistics=make_statistics(settings, db, spool, identity),
        tracing=tracing,
    )


def _open_database(settings: Settings, stack: AsyncExitStack) -> Database:
    db = Database(settings.database)
    stack.callback(db.close)
    prepare_schema(db)
    return db


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


async def _keep_time(db: Database, clock: Clock) -> None:
    """Ask the database for its time now and then: a process without a worker makes no claims that would tell it."""
    while True:
        with suppress(DatabaseError):
            clock.sync(await db.read(lambda tx: tx.now))
        await asyncio.sleep(TIME_SECONDS)
