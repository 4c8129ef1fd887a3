"""Recording: an event in the transaction of the change, and a delivery for each place that wants it."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

from pipeline.db import Row, Tx
from pipeline.ids import new_id
from pipeline.lifecycle import RetryPolicy
from pipeline.links import Links
from pipeline.outbox.addressing import address
from pipeline.outbox.endpoints import places
from pipeline.schemas import generation_view
from webhooks.events import TERMINAL, build_body

_PHASES = (
    ("wait_ms", "created_at", "started_at"),
    ("submit_ms", "started_at", "accepted_at"),
    ("generating_ms", "accepted_at", "generated_at"),
    ("storing_ms", "generated_at", "finished_at"),
    ("total_ms", "created_at", "finished_at"),
)
"""What a generation's times measure; a phase that was not gone through has none."""


def ended_fields(tx: Tx, generation: Row) -> dict[str, object]:
    """What `generation.ended` carries. Only a first run is measured: the others keep times of the runs before."""
    times = {"finished_at": tx.now} | {name: at for name, at in generation.items() if at is not None}
    measured = [
        (name, times[end] - times[start])
        for name, start, end in _PHASES
        if start in times and end in times and (name != "storing_ms" or generation["status"] == "completed")
    ]
    return {
        "generation": generation["id"],
        "provider": generation["provider"],
        "status": generation["status"],
        "code": generation["error_code"] if generation["status"] == "failed" else None,
        "run": generation["run"],
        **({name: max(0, ms) for name, ms in measured} if generation["run"] == 1 else {}),
    }


class Recorder:
    """Records events.

    Args:
        links: how generations are shown in bodies.
        policy: when a delivery is first tried.
    """

    def __init__(self, *, links: Links, policy: RetryPolicy, random: Callable[[int], bytes] = os.urandom) -> None:
        self._links = links
        self._policy = policy
        self._random = random

    @property
    def first(self) -> float:
        """Seconds after which a delivery is first tried."""
        return self._policy.schedule[0] if self._policy.schedule else 0.0

    def wanted(self, tx: Tx, generation: Row, event_type: str) -> bool:
        """Whether an event is to be recorded: a terminal one always, another if somebody asked for its type."""
        return event_type in TERMINAL or bool(places(tx, generation, event_type))

    def record(self, tx: Tx, generation: Row, event_type: str) -> str | None:
        """Write an event of a generation and its deliveries, in the caller's transaction.

        `generation` is the row as it is after the change, its `sequence` already raised. Returns the event's id, or
        None: a second terminal event of a run is refused by the table.
        """
        wanted = places(tx, generation, event_type)
        body = build_body(
            type=event_type,
            occurred_at=tx.now / 1000,
            generation=generation_view(generation, self._links),
            run=generation["run"],
            sequence=generation["sequence"],
        )
        event_id = new_id("evt", tx.now, self._random)
        inserted = tx.insert(
            "webhook_event",
            {
                "id": event_id,
                "tenant_id": generation["tenant_id"],
                "generation_id": generation["id"],
                "run": generation["run"],
                "sequence": generation["sequence"],
                "type": event_type,
                "terminal": int(event_type in TERMINAL),
                "body": body.decode(),
                "created_at": tx.now,
            },
            on_conflict="DO NOTHING",
            returning="id",
        )
        if inserted is None:
            return None
        if event_type in TERMINAL:
            tx.emit("generation.ended", level=logging.INFO, **ended_fields(tx, generation))
        for place in wanted:
            address(
                tx,
                tenant=generation["tenant_id"],
                event_id=event_id,
                place=place,
                delay=self.first,
                random=self._random,
            )
        return event_id
