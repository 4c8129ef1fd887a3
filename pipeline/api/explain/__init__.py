"""`GET /api/generations/{id}/explain`: in words, why it waits or what it is doing now, and what to do.

::

    facts     what is known, read in one transaction
    waiting   why it is not started, its place, and when its turn should come
    running   what it does, or what its next turn waits for
    ended     what became of it, and how its webhooks fare
    unclear   its paid call of unknown outcome: for `GET /api/held`, too
    told      what an explanation is
"""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from pipeline import generations
from pipeline.api.auth import Caller, caller_of, service_of, tenant_over
from pipeline.api.deliveries import is_foreign
from pipeline.api.explain.ended import tell_ended
from pipeline.api.explain.facts import Facts, gather
from pipeline.api.explain.running import tell_running
from pipeline.api.explain.told import Told
from pipeline.api.explain.unclear import explained
from pipeline.api.explain.waiting import tell_waiting
from pipeline.api.problems import Problem
from pipeline.api.query import once
from pipeline.api.read import not_deleted
from pipeline.api.redrive import first_candidate
from pipeline.api.service import Service
from pipeline.credentials import Scope
from pipeline.db import Row, Tx
from pipeline.durations import key_of
from pipeline.lifecycle import TERMINAL
from pipeline.outbox.reads import discreet
from pipeline.schemas import iso

__all__ = ["explain"]

EMPTY: dict[str, Any] = dict.fromkeys(
    ("position", "positionExact", "retryAt", "expectedStart", "waiting", "nextTurnAt", "attempts", "held", "redrive")
)
LOST = Told(
    "unknown",
    "Nothing carries it on: it has no job in the queue.",
    "This should never be: run `dailies doctor`, and report it with the generation's timeline (`dailies show`).",
)


async def explain(request: Request) -> Response:
    """200 with one sentence, the facts behind it as fields, and what to do. For who may read the generation."""
    tenant = await tenant_over(request, Scope.READ)
    caller, service, reference = await caller_of(request), service_of(request), request.path_params["id"]
    once(request, ())

    def read(tx: Tx) -> Facts:
        row = generations.find(tx, tenant, reference)
        if row is None:
            raise Problem(404, "not_found", f"there is no generation {reference!r}")
        return gather(tx, not_deleted(row), service)

    facts = await service.db.read(read)
    await service.durations.look([key_of(facts.row)])
    return JSONResponse(_view(service, caller, facts), headers={"Cache-Control": "private, no-store"})


def _view(service: Service, caller: Caller, facts: Facts) -> dict[str, Any]:
    row = facts.row
    shown = [discreet(each) if is_foreign(caller, each) else each for each in facts.deliveries]
    told = _told(service, caller, facts, shown)
    holder = facts.holder
    return {
        "object": "explanation",
        "id": row["id"],
        "generationId": row["client_id"] or row["id"],
        "at": iso(facts.now),
        "status": row["status"],
        "stage": row["stage"],
        "state": told.state,
        "summary": told.summary,
        "whatToDo": told.to_do,
        "provider": row["provider"],
        "userId": row["user_id"],
        **EMPTY,
        **told.facts,
        "worker": f"{holder['host']}:{holder['pid']}" if holder is not None and caller.operator else None,
        "workersAlive": facts.workers.alive if caller.operator else None,
        "workerLastSeenAt": iso(facts.workers.seen_at) if caller.operator else None,
        "lastTrouble": facts.trouble,
        "deliveries": [_delivery_view(each) for each in shown],
    }


def _told(service: Service, caller: Caller, facts: Facts, deliveries: list[Row]) -> Told:
    held = _held(service, facts)
    if facts.row["status"] in TERMINAL:
        first = first_candidate(service)(facts.row)
        return tell_ended(facts, deliveries, None if first is None else int(first["estimate_micros"]), held)
    if facts.standing is not None:
        seconds = service.durations.expected(key_of(facts.row)).p50
        return tell_waiting(facts, facts.standing, seconds, operator=caller.operator)
    if facts.job is None or facts.job["finished_at"] is not None:
        return LOST
    return tell_running(facts, facts.job, service.links.eta(facts.row), held)


def _held(service: Service, facts: Facts) -> dict[str, Any] | None:
    """Its paid call of unknown outcome, explained as `GET /api/held` does."""
    row = facts.unclear
    if row is None:
        return None
    provider = service.providers.get(row["provider"])
    recovery = None if provider is None else provider.capabilities.recovery
    return explained(row, recovery, service.policies, facts.tried, facts.now)


def _delivery_view(row: Row) -> dict[str, Any]:
    return {
        "id": row["id"],
        "type": row["type"],
        "endpoint": row["endpoint_id"],
        "state": row["state"],
        "nextAttemptAt": iso(row["next_at"]),
        "lastError": row["last_error"],
    }
