"""Held generations: `GET /api/held` explains each, `POST /api/generations/{id}/resolve` takes a person's word."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from pipeline import credentials
from pipeline.api.auth import require, service_of, tenant_over
from pipeline.api.body import read_json
from pipeline.api.explain.unclear import explained
from pipeline.api.problems import Problem
from pipeline.api.query import decode_cursor, limit_of, once, page
from pipeline.api.service import Service
from pipeline.credentials import Scope
from pipeline.db import Row, Tx
from pipeline.generations.resolving import (
    As,
    NotHeld,
    OperationTaken,
    StillUnderWay,
    Verdict,
    forgotten_call,
    held_call,
    resolve,
    resolve_forgotten,
)
from pipeline.generations.unclear import attempts, unclear
from pipeline.schemas import generation_view, iso
from pipeline.schemas.held import Resolve
from providers.base import ErrorCode, Operation, ProviderError

NAMES = frozenset({"limit", "after"})
POLL_SECONDS = 60.0
OPERATOR = "the operator"
PROMPT_LENGTH = 80
GONE = "gone"
"""The status of a generation that was pruned; its call is still in the ledger."""
WRONG = frozenset({ErrorCode.NOT_FOUND, ErrorCode.INVALID_REQUEST})
_CURSOR = re.compile(r"\d{1,15}:gen_[0-9A-Za-z]{1,60}", re.ASCII)


async def held(request: Request) -> Response:
    """A page, the oldest first: the tenant's own, or all for the operator."""
    caller = await require(request, Scope.ADMIN)
    service, given = service_of(request), once(request, NAMES)
    limit, after = limit_of(given), given.get("after")
    place = None if after is None else _place(decode_cursor(after, _CURSOR))
    tenant = None if caller.operator else caller.tenant

    def unit(tx: Tx) -> tuple[list[Row], dict[str, list[Row]], int]:
        lost = tx.now - int(service.policies.own_answer * 1000)
        rows = unclear(tx, tenant, limit=limit + 1, after=place, lost_before=lost)
        return rows, attempts(tx, [row["generation_id"] for row in rows]), tx.now

    rows, tried, now = await service.db.read(unit)
    data = [
        _view(service, row, tried.get(row["generation_id"], []), now) | _of_token(caller.operator)
        for row in rows[:limit]
    ]
    return page(request, data, _name(rows[limit - 1]) if len(rows) > limit else None)


def _name(row: Row) -> str:
    return f"{row['intended_at']}:{row['generation_id']}"


def _place(name: str) -> tuple[int, str]:
    at, _, generation_id = name.partition(":")
    return int(at), generation_id


WHERE = "Some providers show our token with the work: it is in `token` of the table `submission`, by `generation_id`."


def _of_token(operator: bool) -> dict[str, str | None]:
    """Where the token stands, for who may see it: tenants must not, since who knows it can ring for the work."""
    return {"whereTokenIs": WHERE if operator else None}


def _view(service: Service, row: Row, tried: list[Row], now: int) -> dict[str, Any]:
    provider = service.providers.get(row["provider"])
    recovery = None if provider is None else provider.capabilities.recovery
    return {
        "id": row["generation_id"],
        "object": "held",
        "generationId": row["client_id"] or row["generation_id"],
        "tenant": row["tenant_id"],
        "userId": row["user_id"],
        "status": row["status"] or GONE,
        "stage": row["stage"],
        "provider": row["provider"],
        "model": row["model"],
        "promptBegins": (row["prompt"] or "")[:PROMPT_LENGTH] or None,
        "since": iso(row["intended_at"]),
        "atStakeMicros": row["estimate_micros"],
        "candidateOperation": row["candidate_operation_id"],
        **explained(row, recovery, service.policies, tried, now),
    }


async def decide(request: Request) -> Response:
    """200 with the generation as it is then; 204 where only the ledger still knows it."""
    tenant = await tenant_over(request, Scope.ADMIN)
    service, reference = service_of(request), request.path_params["id"]
    asked = await read_json(request, Resolve, service.max_body_bytes)
    try:
        found = await service.db.read(lambda tx: held_call(tx, tenant, reference))
        call = found[1] if found else await service.db.read(lambda tx: forgotten_call(tx, tenant, reference))
        if call is None:
            raise Problem(404, "not_found", f"there is no generation {reference!r}")
        if asked.operation is not None:
            await _confirm(service, call, asked.operation)
        verdict = Verdict(As(asked.said), await _who(request), service.policies.own_answer, asked.operation)
        if not found and await service.db.write(lambda tx: resolve_forgotten(tx, tenant, reference, verdict)):
            return Response(status_code=204)
        row = await service.db.write(lambda tx: resolve(tx, tenant, reference, verdict, service.outbox))
    except (NotHeld, StillUnderWay, OperationTaken) as refused:
        raise _refusal(refused) from None
    if row is None:
        raise Problem(404, "not_found", f"there is no generation {reference!r}")
    request.state.generation = row["id"]
    service.wake()
    return JSONResponse(generation_view(row, service.links))


def _refusal(refused: NotHeld | StillUnderWay | OperationTaken) -> Problem:
    """Why nothing was decided, as a problem."""
    match refused:
        case StillUnderWay(seconds=seconds):
            detail = f"the call may still be answered, or is being looked into just now: ask again in {seconds} s"
            headers = {"Retry-After": str(seconds)}
            return Problem(409, "still_under_way", detail, headers=headers, retryable=True)
        case OperationTaken(generation_id=other):
            return Problem(409, "operation_taken", f"{refused}: it is not this call's", existing_id=other)
    return Problem(409, "not_held", str(refused))


async def _who(request: Request) -> str:
    """Who decides, as the timeline says it."""
    key_id = (await require(request, Scope.ADMIN)).key_id
    if key_id is None:
        return OPERATOR
    name = await service_of(request).db.read(lambda tx: credentials.name_of(tx, key_id))
    return f"the key {name!r} ({key_id})"


async def _confirm(service: Service, submission: Row, name: str) -> None:
    """The provider shows the operation to our own key. Raises Problem 422 or 503."""
    provider = service.providers.get(submission["provider"])
    if provider is None:
        needed = ", ".join(service.lacking.get(submission["provider"], ())) or "another configuration"
        detail = f"the provider {submission['provider']!r} cannot be asked here: it needs {needed}"
        raise Problem(422, "provider_not_configured", detail)
    try:
        async with asyncio.timeout(POLL_SECONDS):
            await provider.poll(Operation(name, {"model": submission["model"]}))
    except ProviderError as error:
        if error.code in WRONG:
            detail = f"{provider.name} does not know the operation {name!r}: {error.message}"
            raise Problem(422, "operation_unknown", detail) from None
        raise _unreachable(f"{provider.name} could not be asked for it: {error.message}") from None
    except Exception as error:  # whatever an adapter trips over in a stranger's words
        raise _unreachable(f"{provider.name} could not be asked for it: {type(error).__name__}") from None


def _unreachable(detail: str) -> Problem:
    return Problem(503, "provider_unreachable", detail, headers={"Retry-After": "5"}, retryable=True)
