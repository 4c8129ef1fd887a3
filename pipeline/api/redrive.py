"""`POST /api/generations/{id}/redrive`: a failed generation goes on where it failed, once its price is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from pipeline import chain, generations
from pipeline.api.auth import service_of, tenant_over
from pipeline.api.body import read_optional
from pipeline.api.problems import Problem
from pipeline.api.read import gone
from pipeline.api.service import Service
from pipeline.api.spend import spend_cap
from pipeline.credentials import Scope
from pipeline.db import Row, Tx
from pipeline.generations import Deleted, From, NoMoney, NotRedrivable, Plan, RepayNeeded
from pipeline.schemas import generation_view
from pipeline.schemas.operations import Redrive

RETRY_AFTER = "1"


async def redrive(request: Request) -> Response:
    """202 with the generation in its new run; with `dryRun` 200, and nothing is changed."""
    tenant = await tenant_over(request, Scope.SUBMIT)
    service, reference = service_of(request), request.path_params["id"]
    asked = await read_optional(request, Redrive, service.max_body_bytes)
    row, planned = await _redriven(service, tenant, reference, asked)
    request.state.generation = row["id"]
    body = generation_view(row, service.links) | {"redrive": plan_view(planned)}
    if asked.dry_run:
        return JSONResponse(body)
    service.wake()
    return JSONResponse(body, 202, {"Location": service.links.location(row), "Retry-After": RETRY_AFTER})


async def _redriven(service: Service, tenant: str, reference: str, asked: Redrive) -> tuple[Row, Plan]:
    """What was done, or would be. Raises Problem 402, 404, 409 or 410."""

    def unit(tx: Tx) -> tuple[Row, Plan] | None:
        return generations.redrive(
            tx,
            tenant,
            reference,
            service.outbox,
            first=first_candidate(service),
            purse=service.purse,
            wanted=None if asked.start == "auto" else From(asked.start),
            allow_repay=asked.allow_repay,
            dry_run=asked.dry_run,
        )

    try:
        done = await service.db.write(unit)
    except Deleted as deleted:
        raise gone(deleted.row) from None
    except NotRedrivable as reason:
        raise Problem(409, "not_redrivable", str(reason)) from None
    except NoMoney as short:
        raise spend_cap(short.shortage, service.clock.now_ms()) from None
    except RepayNeeded as needed:
        raise _repay_needed(needed.plan) from None
    if done is None:
        raise Problem(404, "not_found", f"there is no generation {reference!r}")
    return done


def _repay_needed(planned: Plan) -> Problem:
    paid, price = _dollars(planned.paid_micros or 0), _dollars(planned.estimate_micros)
    detail = (
        f"earlier submissions cost, or may have cost, {paid}, and a new one costs about {price}:"
        ' send "allowRepay": true to pay again'
    )
    return Problem(409, "repay_needed", detail, members={"redrive": plan_view(planned)})


def _dollars(micros: int) -> str:
    return f"{micros / 1_000_000:.2f} USD"


def plan_view(planned: Plan) -> dict[str, Any]:
    """What a redrive does. Money in micro-USD; `possiblyPaidMicros` is null where surely nothing was paid."""
    return {
        "from": planned.start,
        "estimatedCostMicros": planned.estimate_micros,
        "possiblyPaidMicros": planned.paid_micros,
        "needsAllowRepay": planned.repays,
    }


def first_candidate(service: Service) -> Callable[[Row], Row | None]:
    """The columns with which a generation begins anew: those of the first provider of its chain that is configured
    here, with its price of today; None where there is none."""

    def first(row: Row) -> Row | None:
        for index, named in enumerate(chain.chain_of(row)):
            provider = service.providers.get(named.provider)
            if provider is not None:
                return chain.take(row, index, provider.capabilities.catalogue)
        return None

    return first
