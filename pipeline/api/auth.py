"""Who is calling, for which tenant, and what they may do.

A bearer key is one of API_KEY (the operator's, for everything) or one made by `dailies keys`, which is bound to a
tenant, has scopes, and may end. Without any key the service is reachable from this machine only, and everyone there is
its operator.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass

from starlette.requests import Request

from pipeline import credentials
from pipeline.api.problems import Problem
from pipeline.api.service import Service
from pipeline.credentials import ALL_SCOPES, Scope, digest
from pipeline.db import Row
from pipeline.models import DEFAULT_TENANT

CHALLENGE = {"WWW-Authenticate": 'Bearer realm="dailies"'}
"""What a 401 has to carry (RFC 9110 11.6.1)."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls. `key_id` is None for the operator's keys of the settings; `rate` is requests per minute, if
    bounded."""

    tenant: str
    scopes: frozenset[Scope]
    key_id: str | None = None
    rate: int | None = None

    @property
    def operator(self) -> bool:
        """Whether this caller sees the service as a whole instead of one tenant's part."""
        return self.key_id is None


OPERATOR = Caller(DEFAULT_TENANT, ALL_SCOPES)


def service_of(request: Request) -> Service:
    """The service that this application was made with."""
    service = request.app.state.service
    assert isinstance(service, Service)
    return service


async def require(request: Request, scope: Scope) -> Caller:
    """The caller, who must hold the scope. Raises Problem 401 without a good key, 403 without the scope."""
    caller = await caller_of(request)
    if scope not in caller.scopes and Scope.ADMIN not in caller.scopes:
        held = ", ".join(sorted(caller.scopes))
        raise Problem(403, "forbidden", f"this needs a key with the scope {scope!r}; this one has: {held}")
    return caller


async def caller_of(request: Request) -> Caller:
    """Who calls, looked up once per request. Raises Problem 401."""
    known = getattr(request.state, "caller", None)
    if isinstance(known, Caller):
        return known
    caller = await _identify(request)
    request.state.caller = caller
    return caller


async def _identify(request: Request) -> Caller:
    service = service_of(request)
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and given.strip():
        return await _by_key(service, given.strip().encode("latin-1").decode("utf-8", "surrogateescape"))
    if service.api_keys or await keys_exist(service):
        raise _refusal("send a key as `Authorization: Bearer KEY` (API_KEY of the settings, or `dailies keys create`)")
    return OPERATOR


async def _by_key(service: Service, key: str) -> Caller:
    hashed = digest(key)
    if True in [hmac.compare_digest(hashed, digest(own)) for own in service.api_keys]:
        return OPERATOR
    row = await _look_up(service, hashed)
    if row is None:
        if not service.api_keys and not await keys_exist(service):
            return OPERATOR
        raise _refusal("this key is unknown, was revoked, or has ended")
    scopes = frozenset(Scope(scope) for scope in row["scopes"].split())
    return Caller(row["tenant_id"], scopes, row["id"], row["rate_per_minute"])


async def _look_up(service: Service, hashed: str) -> Row | None:
    fresh, row = service.keys.row(hashed)
    if fresh:
        return row
    row = await service.db.read(lambda tx: credentials.find(tx, hashed))
    service.keys.remember(hashed, row)
    if row is not None and credentials.is_stale(row, service.clock.now_ms()):
        key_id = row["id"]
        await service.db.write(lambda tx: credentials.touch(tx, key_id))
    return row


async def keys_exist(service: Service) -> bool:
    """Whether keys were made, as known a moment ago."""
    known = service.keys.any()
    if known is None:
        known = await service.db.read(credentials.exists)
        service.keys.remember_any(known)
    return known


def _refusal(detail: str) -> Problem:
    return Problem(401, "unauthorized", detail, headers=CHALLENGE)
