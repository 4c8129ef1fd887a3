"""Dead letters: `GET /api/queue/dead`, one by one or grouped by error, and `POST /api/queue/dead/redrive`."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from pipeline import queue
from pipeline.admission import provider_lane
from pipeline.api.auth import Caller, require, service_of
from pipeline.api.body import read_json
from pipeline.api.problems import Problem
from pipeline.api.query import bad, decode_cursor, encode_cursor, limit_of, once, one_of, page
from pipeline.api.redrive import first_candidate
from pipeline.api.service import Service
from pipeline.credentials import Scope
from pipeline.db import Row, Tx
from pipeline.generations.dead import Redriven, Terms, redrive_dead
from pipeline.lifecycle import JobKind
from pipeline.queue import DeadFilter, Place
from pipeline.schemas import iso
from pipeline.schemas.operations import DeadRedrive

NAMES = frozenset({"limit", "after", "group", "kind", "errorCode", "lane", "provider", "endpoint"})
KINDS = (JobKind.GENERATION, JobKind.DELIVERY)
MAX_GROUPS = 1_000
BATCH = 50
"""Dead letters that one commit sets going again: few, so that no claim waits long."""
MAX_BATCHES = 200
_CURSOR = re.compile(r"\d{1,15}:\d{1,18}", re.ASCII)


async def dead(request: Request) -> Response:
    """A page, those that died last first; with `group=error` one line per kind, lane and error."""
    caller = await require(request, Scope.ADMIN)
    service, given = service_of(request), once(request, NAMES)
    narrowed, limit, after = _filter(given, caller), limit_of(given), given.get("after")
    if one_of(given, "group", ("error",)):
        groups = await service.db.read(lambda tx: queue.dead_groups(tx, narrowed, limit=MAX_GROUPS))
        return page(request, [_group_view(row) for row in groups], None)
    place = None if after is None else _place(decode_cursor(after, _CURSOR))
    rows = await service.db.read(lambda tx: queue.dead(tx, narrowed, limit=limit + 1, after=place))
    more = len(rows) > limit
    return page(request, [_view(row) for row in rows[:limit]], _name(rows[limit - 1]) if more else None)


def _bound(caller: Caller) -> str | None:
    """The tenant that a caller is bound to; the operator sees all."""
    return None if caller.operator else caller.tenant


def _filter(given: dict[str, str], caller: Caller) -> DeadFilter:
    kind = one_of(given, "kind", KINDS)
    lanes = [given[name] for name in ("lane",) if name in given]
    lanes += [provider_lane(given[name]) for name in ("provider",) if name in given]
    lanes += [f"endpoint:{given[name]}" for name in ("endpoint",) if name in given]
    if len(lanes) > 1:
        raise bad("lane", "is given beside provider or endpoint: one of the three is enough")
    return DeadFilter(
        tenant=_bound(caller),
        kind=JobKind(kind) if kind else None,
        lane=lanes[0] if lanes else None,
        error_code=given.get("errorCode"),
    )


def _name(row: Row) -> str:
    return f"{row['finished_at']}:{row['job_id']}"


def _place(name: str) -> Place:
    at, job = name.split(":")
    return int(at), int(job)


def _view(row: Row) -> dict[str, Any]:
    return {
        "id": row["subject_id"],
        "object": "dead",
        "kind": row["kind"],
        "generation": row["generation_id"],
        "type": row["event_type"],
        "lane": row["lane"],
        "step": row["step"],
        "attempts": row["attempts"],
        "error": {"code": row["error_code"], "message": row["message"]},
        "diedAt": iso(row["finished_at"]),
    }


def _group_view(row: Row) -> dict[str, Any]:
    return {
        "object": "dead_group",
        "kind": row["kind"],
        "lane": row["lane"],
        "errorCode": row["error_code"],
        "count": row["jobs"],
        "oldest": iso(row["oldest"]),
        "newest": iso(row["newest"]),
        "sample": row["message"],
    }


async def redrive(request: Request) -> Response:
    """200 with what went on and what was refused, in batches of one commit each; `nextCursor` while there are more."""
    caller = await require(request, Scope.ADMIN)
    service = service_of(request)
    asked = await read_json(request, DeadRedrive, service.max_body_bytes)
    narrowed = DeadFilter(
        tenant=_bound(caller),
        kind=JobKind(asked.kind) if asked.kind else None,
        lane=asked.lane,
        error_code=asked.error_code,
        subjects=asked.ids,
    )
    done, place = await _in_batches(service, narrowed, asked)
    if not asked.dry_run:
        service.wake()
    refused = Counter(done.refused)
    if asked.ids is not None and place is None:
        refused["not_dead"] += len(set(asked.ids)) - done.count - sum(refused.values())
    return JSONResponse(
        {
            "object": "dead_redrive",
            "dryRun": asked.dry_run,
            "redriven": {kind: done.redriven[kind] for kind in KINDS},
            "estimatedCostMicros": done.estimate_micros,
            "refused": {reason: count for reason, count in sorted(refused.items()) if count},
            "nextCursor": None if place is None else encode_cursor(f"{place[0]}:{place[1]}"),
        }
    )


async def _in_batches(service: Service, narrowed: DeadFilter, asked: DeadRedrive) -> tuple[Redriven, Place | None]:
    """Batch after batch, and the place to go on from if there were too many for one request. Raises Problem 422."""
    total = Redriven()
    terms = Terms(first_candidate(service), asked.allow_repay, asked.dry_run, narrowed.tenant, service.purse)
    place = None if asked.after is None else _given_place(asked.after)
    for _ in range(MAX_BATCHES):

        def unit(tx: Tx, after: Place | None = place) -> tuple[Redriven, Place | None]:
            return redrive_dead(tx, narrowed, service.outbox, terms, limit=BATCH, after=after)

        done, place = await service.db.write(unit)
        total = total.plus(done)
        if place is None:
            break
    return total, place


def _given_place(text: str) -> Place:
    try:
        return _place(decode_cursor(text, _CURSOR))
    except Problem:
        errors = [{"pointer": "/after", "detail": "is no cursor of ours: take nextCursor of the answer before"}]
        raise Problem(422, "invalid_request", "1 member(s) of the body cannot be taken", errors=errors) from None
