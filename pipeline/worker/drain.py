"""The end of a worker: what repeats free of charge is handed back at once, a paid call is awaited."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial

from pipeline import queue
from pipeline.db import Database, DatabaseError, Tx
from pipeline.lifecycle import Step
from pipeline.queue import Claim
from pipeline.telemetry import emit
from pipeline.turn import Turn
from pipeline.wake import Doorbell
from pipeline.worker.presence import Presence
from pipeline.worker.runner import Runner

HAND_BACK_SECONDS = 0.5
RING_SECONDS = 0.15
"""What was rung last is on its way to other machines by then: see `pipeline.db.bell`."""


async def drain(db: Database, doorbell: Doorbell, runner: Runner, presence: Presence, patience: float) -> None:
    """Stores stop at once, since they repeat free of charge; polls and deliveries get a moment; a paid call gets
    `patience` seconds. The others are told, since they know nothing of what is handed back.
    """
    runner.stopping = True
    turns = [turn for turn in runner.running.values() if turn.task is not None]
    emit("service.stopping", turns=len(turns))
    for turn in turns:
        if turn.claim.step is Step.STORE:
            runner.interrupt(turn)
    await _await_turns(turns, HAND_BACK_SECONDS)
    unpaid = [turn for turn in turns if not turn.paying]
    for turn in unpaid:
        runner.interrupt(turn)
    await _await_turns(unpaid, HAND_BACK_SECONDS)
    await _hand_back(db, [turn.claim for turn in unpaid])
    doorbell.ring()
    paying = [turn for turn in turns if turn not in unpaid]
    await _await_turns(paying, patience)
    for turn in paying:
        if turn.task is not None:
            turn.task.cancel()
    await _await_turns(paying, HAND_BACK_SECONDS * 4)
    await _try_write(db, presence.sign_out)
    if turns:
        await asyncio.sleep(RING_SECONDS)
    emit("service.stopped", handed_back=len(unpaid))


async def _await_turns(turns: list[Turn], seconds: float) -> None:
    tasks = [turn.task for turn in turns if turn.task is not None and not turn.task.done()]
    if tasks:
        await asyncio.wait(tasks, timeout=seconds)


async def _hand_back(db: Database, claims: list[Claim]) -> None:
    """Under the key of its job, so that a record which is on its way goes first."""
    await asyncio.gather(*(_try_write(db, partial(queue.release, claim=claim), key=claim.id) for claim in claims))


async def _try_write(db: Database, unit: Callable[[Tx], object], *, key: int = 0) -> None:
    """What a stop would like to write; where it cannot, the end of the leases says the same."""
    try:
        async with asyncio.timeout(HAND_BACK_SECONDS):
            await db.write(unit, key=key)
    except (DatabaseError, TimeoutError) as error:
        emit("worker.failed", level=logging.WARNING, error=f"stopping: {error!r}")
