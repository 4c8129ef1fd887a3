"""Providers ring here. A callback is a doorbell: it makes the job due; the poll remains the way a result gets in."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from pipeline import ledger, queue, rings
from pipeline.api.auth import service_of
from pipeline.api.body import read_body
from pipeline.api.problems import Problem
from pipeline.db import Tx
from pipeline.ids import new_id
from pipeline.lifecycle import JobKind
from pipeline.telemetry import emit
from pipeline.workflow.unclaimed import is_news
from providers.base import Callback, ErrorCode, Provider, ProviderError

MAX_CALLBACK = 1_000_000
_ID = re.compile(r"[\x21-\x7e]{1,500}")


async def callback(request: Request) -> Response:
    """`POST /callbacks/{provider}/{token}`: 200 once the ring is kept, whether it is the first or a repeat."""
    service = service_of(request)
    name, token = request.path_params["provider"], service.callbacks.unseal(request.path_params["token"])
    provider = service.providers.get(name)
    if provider is None:
        raise Problem(404, "not_found", f"there is no provider {name!r}")
    if token is None:
        raise _never_handed_out(name)
    ring = await _ring(provider, request.headers, await read_body(request, MAX_CALLBACK), service.clock.now())
    ring_id = new_id("cbk", service.clock.now_ms(), service.random)
    if not await service.db.write(lambda tx: _keep(tx, ring_id, name, token, ring)):
        raise _never_handed_out(name)
    emit("callback.received", provider=name, operation=ring.operation_id, event_id=ring.event_id)
    service.wake()
    return JSONResponse({"status": "ok"})


def _never_handed_out(provider: str) -> Problem:
    emit("callback.refused", level=logging.WARNING, provider=provider, reason="unknown token")
    return Problem(404, "not_found", "this callback address was never handed out")


async def _ring(provider: Provider, headers: Mapping[str, str], raw: bytes, now: float) -> Callback:
    """The callback as the adapter reads it. Raises Problem 400, or 503 where it cannot be verified just now."""
    try:
        ring = await provider.read_callback(headers, raw, now)
        if not all(_ID.fullmatch(given) for given in (ring.event_id, ring.operation_id) if given is not None):
            raise ProviderError(ErrorCode.INVALID_REQUEST, "the callback's id cannot be kept")
    except ProviderError as error:
        emit("callback.refused", level=logging.WARNING, provider=provider.name, reason=error.message)
        if error.code is ErrorCode.TRANSIENT:
            raise Problem(
                503, "callback_unverified", error.message, headers={"Retry-After": "60"}, retryable=True
            ) from None
        raise Problem(400, "callback_refused", error.message) from None
    return ring


def _keep(tx: Tx, ring_id: str, provider: str, token: str, ring: Callback) -> bool:
    """Insert the ring once, remember what it names, and wake the job; of a generation that has ended only for news.
    False when the token is not ours."""
    submission = ledger.by_token(tx, token)
    if submission is None or submission["provider"] != provider:
        return False
    if rings.keep(tx, ring_id, submission, ring):
        if ring.operation_id is not None and is_news(submission, ring.operation_id):
            ledger.add_candidate(tx, token, ring.operation_id)
            queue.look_again(tx, submission["generation_id"])
        else:
            queue.wake(tx, JobKind.GENERATION, submission["generation_id"])
    return True
