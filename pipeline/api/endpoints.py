"""Webhook endpoints: a tenant's own, with the scope admin; the operator sees and changes everybody's."""

from __future__ import annotations

import re

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from pipeline.api.auth import require, service_of
from pipeline.api.body import read_json
from pipeline.api.endpoint_parts import (
    PATH,
    bound_to,
    changed,
    check_url,
    endpoint_view,
    found,
    kept_headers,
    refuse_if_set,
    sealed_headers,
    secrets_for,
    tenant_meant,
    with_secret,
)
from pipeline.api.problems import Problem
from pipeline.api.query import decode_cursor, limit_of, once, page
from pipeline.credentials import Scope
from pipeline.db import Row, Tx
from pipeline.outbox import managing
from pipeline.outbox.managing import MAX_ENDPOINTS, Shown, TooManyEndpoints, Wanted
from pipeline.schemas.endpoints import EndpointCreate, EndpointUpdate

_CURSOR = re.compile(r"ep_[0-9A-Za-z]{1,60}")


async def many(request: Request) -> Response:
    """`GET /api/webhooks/endpoints`: newest first; the operator's all, or those of `?tenant=`."""
    caller = await require(request, Scope.ADMIN)
    service, given = service_of(request), once(request, {"limit", "after", "tenant"})
    tenant = tenant_meant(caller, given)
    limit, after = limit_of(given), given.get("after")
    place = None if after is None else decode_cursor(after, _CURSOR)
    rows = await service.db.read(lambda tx: managing.page(tx, tenant, limit=limit + 1, after=place))
    shown = [endpoint_view(service, each) for each in rows[:limit]]
    return page(request, shown, rows[limit - 1].row["id"] if len(rows) > limit else None)


async def create(request: Request) -> Response:
    """`POST /api/webhooks/endpoints`: 201 with its secret, which is shown this once. Nothing is sent to the URL."""
    caller = await require(request, Scope.ADMIN)
    service = service_of(request)
    tenant = tenant_meant(caller, once(request, {"tenant"})) or caller.tenant
    asked = await read_json(request, EndpointCreate, service.max_body_bytes)
    check_url(service, asked.url)
    made = secrets_for(service, asked.signing, asked.secret)
    wanted = Wanted(
        url=asked.url,
        events=asked.events,
        description=asked.description,
        headers=kept_headers(asked.headers, {}),
        ordered=asked.ordered,
        max_in_flight=asked.max_in_flight,
        rate_per_minute=asked.rate_per_minute,
    )

    def unit(tx: Tx) -> Shown:
        row = managing.create(tx, service.signatory, wanted, made, tenant=tenant, random=service.random)
        return found(managing.find(tx, tenant, row["id"]), row["id"])

    try:
        shown = await service.db.write(unit)
    except TooManyEndpoints:
        detail = f"the tenant {tenant!r} has {MAX_ENDPOINTS} endpoints, which is the most: delete one first"
        raise Problem(409, "too_many", detail) from None
    return JSONResponse(with_secret(service, shown, made), 201, {"Location": f"{PATH}/{shown.row['id']}"})


async def one(request: Request) -> Response:
    """`GET /api/webhooks/endpoints/{id}`."""
    caller = await require(request, Scope.ADMIN)
    service, endpoint_id = service_of(request), request.path_params["id"]
    shown = await service.db.read(lambda tx: managing.find(tx, bound_to(caller), endpoint_id))
    return JSONResponse(endpoint_view(service, found(shown, endpoint_id)))


async def update(request: Request) -> Response:
    """`PATCH /api/webhooks/endpoints/{id}`: members that are left out stay as they are."""
    await require(request, Scope.ADMIN)
    service = service_of(request)
    asked = await read_json(request, EndpointUpdate, service.max_body_bytes)
    given = asked.model_fields_set
    if "url" in given:
        check_url(service, asked.url)

    def change(tx: Tx, row: Row) -> None:
        for name in ("url", "events"):
            if name in given:
                refuse_if_set(row, name)
        values: dict[str, object] = {
            name: getattr(asked, name) for name in given & {"url", "description", "max_in_flight", "rate_per_minute"}
        }
        if "events" in given:
            values["events"] = managing.event_list(asked.events)
        if "ordered" in given:
            values["ordered"] = int(asked.ordered)
        if "headers" in given:
            values["headers"] = sealed_headers(service, row, asked.headers)
        managing.update(tx, row, values)

    return JSONResponse(endpoint_view(service, await changed(request, change)))


async def delete(request: Request) -> Response:
    """`DELETE /api/webhooks/endpoints/{id}`: 204. What was on its way there is cancelled."""
    await require(request, Scope.ADMIN)

    def remove(tx: Tx, row: Row) -> None:
        refuse_if_set(row, "url")
        managing.delete(tx, row)

    await changed(request, remove, stays=False)
    return Response(status_code=204)
