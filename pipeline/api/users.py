"""`/api/users`: whom tenants name in their requests, how they fare, and what each may have. A tenant's own; the
operator sees and sets everybody's."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from starlette.convertors import StringConvertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pipeline.admission.shares import Share, Whose, set_share, share, shares
from pipeline.api.auth import require, service_of
from pipeline.api.body import read_json
from pipeline.api.endpoint_parts import tenant_meant
from pipeline.api.pauses import pause_view
from pipeline.api.problems import Problem
from pipeline.api.query import bad, decode_cursor, limit_of, once, page
from pipeline.api.service import Service
from pipeline.credentials import Scope
from pipeline.db import Tx
from pipeline.schemas.users import UserShare
from pipeline.spending import Money

PATH = "/api/users"
MAX_USER = 128
_CURSOR = re.compile(r"[a-z0-9_-]{1,63}/(?:[0-9a-f]{2}){0,512}", re.ASCII)


async def many(request: Request) -> Response:
    """`GET /api/users`: by tenant and name; for whom something is set, who waits, or who has something in flight."""
    caller = await require(request, Scope.ADMIN)
    service, given = service_of(request), once(request, {"limit", "after", "tenant"})
    tenant, limit, after = tenant_meant(caller, given), limit_of(given), given.get("after")
    place = None if after is None else _place(decode_cursor(after, _CURSOR))

    def read(tx: Tx) -> tuple[list[dict[str, Any]], Whose | None]:
        found = shares(tx, tenant, limit=limit + 1, after=place)
        more = len(found) > limit
        return _views(tx, service, found[:limit]), found[limit - 1].whose if more else None

    views, last = await service.db.read(read)
    return page(request, views, None if last is None else _name(last))


async def one(request: Request) -> Response:
    """`GET /api/users/{user}`: how it stands, whether he was ever named or not."""
    of = await _whose(request)
    return await _shown(service_of(request), of)


async def put(request: Request) -> Response:
    """`PUT /api/users/{user}`: what is left out is as if it had never been set. A pause stays as it is."""
    of = await _whose(request)
    service = service_of(request)
    asked = await read_json(request, UserShare, service.max_body_bytes)
    await _set(service, of, asked)
    return await _shown(service, of)


async def delete(request: Request) -> Response:
    """`DELETE /api/users/{user}`: 204; he has his share like everybody else. A pause stays as it is."""
    of = await _whose(request)
    await _set(service_of(request), of, UserShare())
    return Response(status_code=204)


async def _act(request: Request) -> Response:
    """One route for all methods, so that a 405 names them all."""
    return await {"PUT": put, "DELETE": delete}.get(request.method, one)(request)


class _Anything(StringConvertor):
    """As `path`, whose dot is no line break."""

    regex = r"[\s\S]+"


register_url_convertor("anything", _Anything())


def route() -> Route:
    """The route of one user, whose name may have any character, `/` too; it is told like any other parameter."""
    made = Route(f"{PATH}/{{user:anything}}", _act, methods=["GET", "PUT", "DELETE"])
    made.path = f"{PATH}/{{user}}"
    return made


async def _set(service: Service, of: Whose, asked: UserShare) -> None:
    await service.db.write(lambda tx: set_share(tx, of, weight=asked.weight, max_in_flight=asked.max_in_flight))
    service.wake()


async def _whose(request: Request) -> Whose:
    """The tenant and the user that a request names. Raises Problem 400, 401, 403, 404 or 429."""
    caller = await require(request, Scope.ADMIN)
    tenant = tenant_meant(caller, once(request, {"tenant"})) or caller.tenant
    user = request.path_params["user"]
    if not user:
        raise Problem(404, "not_found", "there is no user without a name")
    if len(user) > MAX_USER:
        raise bad("user", f"is the name of a user, of at most {MAX_USER} characters")
    return tenant, user


async def _shown(service: Service, of: Whose) -> Response:
    (view,) = await service.db.read(lambda tx: _views(tx, service, [share(tx, of)]))
    return JSONResponse(view)


def _views(tx: Tx, service: Service, found: Sequence[Share]) -> list[dict[str, Any]]:
    money = Money(tx, service.purse)
    return [_view(each, money.of_user(each.whose[0], each.whose[1] or None), tx.now) for each in found]


def _view(found: Share, spent: int, now: int) -> dict[str, Any]:
    row = found.lane
    weight = None if row is None else row["weight"]
    return {
        "object": "user",
        "user": found.whose[1] or None,
        "tenant": found.whose[0],
        "weight": 1.0 if weight is None else weight,
        "maxInFlight": None if row is None else row["max_in_flight"],
        **pause_view(row, now),
        "waiting": found.waiting,
        "inFlight": found.in_flight,
        "spentTodayMicros": spent,
    }


def _name(of: Whose) -> str:
    """A place in the list in the letters of a cursor."""
    return f"{of[0]}/{of[1].encode().hex()}"


def _place(name: str) -> Whose:
    tenant, _, user = name.partition("/")
    return tenant, bytes.fromhex(user).decode("utf-8", "replace")
