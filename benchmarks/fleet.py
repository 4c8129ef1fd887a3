"""Generations in flight, written straight into a database and into the mock's ledger: as if they had been submitted."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pipeline import queue
from pipeline.admission import provider_lane
from pipeline.db import Database, Tx
from pipeline.db.migrate import migrate
from pipeline.ids import new_id
from pipeline.lifecycle import GenerationStatus, JobKind, Stage, Step, SubmissionOutcome
from providers.mock.state import State
from providers.mock.work import Work

PROVIDER = "mock"
RUN_SECONDS = 7200.0
"""How long the provider takes for each."""
PROMPT = "a lighthouse in a storm at dusk, waves over the rocks, slow pan from left to right, film grain"
BODY = {"model": "mock-video", "duration": 5, "aspect_ratio": "16:9", "resolution": "720p", "seed": 1}

START_SECONDS = 3.0
"""What the other processes take to start: nothing is late before anybody could be there."""

Numbers = Sequence[int]


async def launch(url: str, state: Path, count: int, interval: float) -> None:
    """Fill an empty database and an empty ledger: `count` generations in flight, whose polls are due at times that are
    spread evenly over the next `interval` seconds."""
    db = Database(url)
    try:
        migrate(db.engine)
        names = [f"vid_{number:024x}" for number in range(count)]
        places = list(range(count))
        random.shuffle(places)
        began = time.monotonic()
        for first in range(0, count, 500):
            some = list(range(first, min(count, first + 500)))
            await db.write(partial(_write, numbers=some, names=names, places=places, apart=interval / count))
        ledger = State(state)
        ledger.add_all([_work(name, time.time()) for name in names])
        ledger.close()
        if db.postgres:
            await db.write(lambda tx: tx.run("ANALYZE"))  # a database that grew has been looked at long ago
        later = int((time.monotonic() - began + START_SECONDS) * 1000)
        await db.write(lambda tx: tx.run("UPDATE job SET scheduled_for = scheduled_for + :later", {"later": later}))
    finally:
        db.close()


def _write(tx: Tx, numbers: Numbers, names: Sequence[str], places: Numbers, apart: float) -> None:
    for number in numbers:
        generation, token = new_id("gen", tx.now, os.urandom), new_id("sub", tx.now, os.urandom)
        tx.insert("generation", _generation(tx, generation, token, names[number]))
        tx.insert("submission", _submission(tx, generation, token, names[number]))
        job = queue.NewJob(
            JobKind.GENERATION,
            generation,
            "bench",
            provider_lane(PROVIDER),
            Step.POLL,
            delay=places[number] * apart,
            user_id=f"user-{number % 100}",
        )
        queue.enqueue(tx, job)


def _generation(tx: Tx, generation: str, token: str, operation: str) -> dict[str, Any]:
    return {
        "id": generation,
        "tenant_id": "bench",
        "request_hash": "0" * 64,
        "prompt": PROMPT,
        "parameters": json.dumps(BODY),
        "labels": "{}",
        "provider": PROVIDER,
        "priority": 5,
        "status": GenerationStatus.PROCESSING,
        "stage": Stage.GENERATING,
        "run": 1,
        "sequence": 1,
        "operation": json.dumps({"id": operation, "data": {}, "token": token}),
        "created_at": tx.now,
        "updated_at": tx.now,
        "started_at": tx.now,
        "accepted_at": tx.now,
    }


def _submission(tx: Tx, generation: str, token: str, operation: str) -> dict[str, Any]:
    return {
        "id": token,
        "generation_id": generation,
        "tenant_id": "bench",
        "run": 1,
        "provider": PROVIDER,
        "token": token,
        "outcome": SubmissionOutcome.ACCEPTED,
        "operation_id": operation,
        "operation": "{}",
        "carries": "key",
        "billed": "unknown",
        "estimate_micros": 0,
        "intended_at": tx.now,
        "answered_at": tx.now,
    }


def _work(name: str, began: float) -> Work:
    return Work(
        id=name,
        prompt=PROMPT,
        body=BODY,
        body_hash="0" * 64,
        idempotency_key=None,
        reference=None,
        callback_url=None,
        created_at=began,
        starts_at=began,
        ends_at=began + RUN_SECONDS,
        ending="succeeded",
        cancelled_at=None,
        charged_micros=0,
        refund_at=None,
    )
