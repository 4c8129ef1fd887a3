"""`POST /api/generations/estimate`: what a request would cost and take; nothing is stored, nobody is asked."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from pipeline.api.auth import require, service_of
from pipeline.api.body import read_json
from pipeline.api.check import checked
from pipeline.api.create import room
from pipeline.api.intake import is_large
from pipeline.api.service import Service
from pipeline.api.spend import refusal
from pipeline.chain import Candidate
from pipeline.credentials import Scope
from pipeline.durations import Key
from pipeline.schemas import GenerationCreate

MICROS = 1_000_000


async def estimate(request: Request) -> Response:
    """200 with each provider that would be asked. What could not be asked for is refused as a real request is."""
    tenant = (await require(request, Scope.SUBMIT)).tenant
    service = service_of(request)
    async with room(request, service):
        body = await read_json(request, GenerationCreate, service.max_body_bytes)
        found = await asyncio.to_thread(checked, service, body) if is_large(body) else checked(service, body)
    prices = [(each.provider, each.estimate_micros) for each in found.chain.candidates]
    problem = await service.db.read(lambda tx: refusal(service, tx, tenant, body.user_id, prices))
    await service.durations.look([_key(each) for each in found.chain.candidates])
    return JSONResponse(
        {
            "object": "estimate",
            "candidates": [_view(service, body, each) for each in found.chain.candidates],
            "spendCap": None if problem is None else {"detail": problem.detail, **problem.members},
            "leftOut": [{"provider": name, "reason": reason} for name, reason in found.chain.left_out],
        }
    )


def _key(candidate: Candidate) -> Key:
    return Key(candidate.provider, candidate.model, candidate.request.duration)


def _view(service: Service, body: GenerationCreate, candidate: Candidate) -> dict[str, Any]:
    asked, expected = candidate.request, service.durations.expected(_key(candidate))
    filled = {"duration": asked.duration, "resolution": asked.resolution}
    return {
        "provider": candidate.provider,
        "model": candidate.model,
        "parameters": body.stored_parameters() | {name: each for name, each in filled.items() if each is not None},
        "estimatedCostMicros": candidate.estimate_micros,
        "estimatedCostUsd": usd(candidate.estimate_micros),
        "expectedSeconds": {
            "p50": expected.p50,
            "p90": expected.p90,
            "samples": expected.samples,
            "basis": expected.basis,
        },
        "warnings": [] if candidate.warning is None else [candidate.warning],
    }


def usd(micros: int) -> str:
    """An amount in USD as text, exact, with at least the cents: `0.40`, `1.005`."""
    whole, rest = divmod(micros, MICROS)
    fraction = f"{rest:06d}".rstrip("0")
    return f"{whole}.{fraction:0<2}"
