"""What is done with an endpoint: a new secret, a test, switched off and on."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from pipeline.api.auth import require, service_of
from pipeline.api.body import read_optional
from pipeline.api.endpoint_parts import (
    bound_to,
    changed,
    endpoint_view,
    found,
    refuse_if_set,
    sealed_away,
    secrets_for,
    set_by_settings,
    test_view,
    with_secret,
)
from pipeline.api.problems import Problem
from pipeline.credentials import Scope
from pipeline.db import Row, Tx
from pipeline.keys import CannotOpen
from pipeline.outbox import managing, secrets
from pipeline.outbox.endpoints import UNSET, setting_of
from pipeline.outbox.secrets import MAX_LIVE, Secret, TooManySecrets
from pipeline.schemas.endpoints import EndpointDisable, SecretRotate


async def rotate(request: Request) -> Response:
    """`POST /api/webhooks/endpoints/{id}/rotate-secret`: 200 with a new secret; the old ones end after the overlap."""
    await require(request, Scope.ADMIN)
    service = service_of(request)
    asked = await read_optional(request, SecretRotate, service.max_body_bytes)
    made: list[Secret] = []

    def change(tx: Tx, row: Row) -> None:
        refuse_if_set(row, "secret")
        signing = asked.signing or secrets.signing_of(secrets.live(tx, [row["id"]]))
        made[:] = secrets_for(service, signing, asked.secret)
        overlap = asked.overlap_seconds * 1000
        managing.rotate(tx, service.signatory.box, row, made, overlap_ms=overlap, random=service.random)

    try:
        shown = await changed(request, change)
    except TooManySecrets:
        detail = (
            f"{MAX_LIVE} secrets are live, which is the most: wait until one has ended, or set overlapSeconds to 0,"
            " which ends all but the new one at once"
        )
        raise Problem(409, "too_many", detail) from None
    return JSONResponse(with_secret(service, shown, made))


async def enable(request: Request) -> Response:
    """`POST /api/webhooks/endpoints/{id}/enable`: 200; whatever had switched it off or paused it is forgotten."""
    await require(request, Scope.ADMIN)
    service = service_of(request)

    def change(tx: Tx, row: Row) -> None:
        if row["disabled_reason"] == UNSET:
            raise set_by_settings(f"{setting_of(row, 'url')} is not set: there is nowhere to send to")
        managing.enable(tx, row)

    shown = await changed(request, change)
    service.wake()
    return JSONResponse(endpoint_view(service, shown))


async def disable(request: Request) -> Response:
    """`POST /api/webhooks/endpoints/{id}/disable`: 200; what is due there ends dead, and can be sent again."""
    await require(request, Scope.ADMIN)
    service = service_of(request)
    asked = await read_optional(request, EndpointDisable, service.max_body_bytes)
    shown = await changed(request, lambda tx, row: managing.disable(tx, row, asked.reason))
    return JSONResponse(endpoint_view(service, shown))


async def test(request: Request) -> Response:
    """`POST /api/webhooks/endpoints/{id}/test`: 200 with how a signed `webhook.test` fared, also if it did not
    arrive."""
    caller = await require(request, Scope.ADMIN)
    service, endpoint_id = service_of(request), request.path_params["id"]
    shown = found(await service.db.read(lambda tx: managing.find(tx, bound_to(caller), endpoint_id)), endpoint_id)
    if shown.row["disabled_reason"] == UNSET:
        raise set_by_settings(f"{setting_of(shown.row, 'url')} is not set: there is nowhere to send to")
    mark = ("test of", endpoint_id)  # no tenant is called so
    if mark in service.under_way:
        detail = "a test of this endpoint is under way; ask again"
        raise Problem(409, "request_in_progress", detail, headers={"Retry-After": "1"}, retryable=True)
    service.under_way.add(mark)
    try:
        event_id, result = await service.tester.test(shown)
    except CannotOpen as error:
        raise sealed_away(error) from None
    finally:
        service.under_way.discard(mark)
    return JSONResponse(test_view(endpoint_id, event_id, result))
