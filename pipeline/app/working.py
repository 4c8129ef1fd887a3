"""The worker of a process: the stages of a generation, what keeps the house clean, how much is taken on."""

from __future__ import annotations

import os
import random
from urllib.parse import urlsplit

from pipeline.admission import IN_FLIGHT
from pipeline.app.plant import Plant
from pipeline.config import LOOPBACK_HOSTS, Settings
from pipeline.lifecycle import JobKind, Step
from pipeline.maintenance import Keep, Maintenance
from pipeline.outbox import (
    Recoveries,
)
from pipeline.roster import make_bounds
from pipeline.turn import Handler
from pipeline.worker import Limits, Worker
from pipeline.workflow import Parts, Policies, Workflow

LEASES_OF_GRACE = 1.5


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
        batch=settings.max_batch_size,
        fill=settings.max_batch_timeout,
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
