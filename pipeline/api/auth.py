"""Who is calling, for which tenant, and what they may do.

A bearer key is one of API_KEY (the operator's, for everything and without limit) or one made by `dailies keys`, which
is bound to a tenant, has scopes and a rate, and may end. Without any key the service is reachable from this machine
only, and everyone there is its operator.

Keys are compared by their SHA-256: with those of the settings in constant time, with those that were made by looking
the hash up. How long that takes tells nothing, since nobody can choose a key by its hash.
"""

from __future__ import annotations

import hmac
from contextlib import suppress
from dataclasses import dataclass

from starlette.requests import Request

from pipeline import credentials, generations
from pipeline.api.problems import Problem
from pipeline.api.service import Service
from pipeline.credentials import ALL_SCOPES, Scope, digest, scopes_of
from pipeline.db import DatabaseError, Row
from pipeline.models import DEFAULT_TENANT
from pipeline.schemas import OUR_PREFIX

CHALLENGE = {"WWW-Authenticate": 'Bearer realm="dailies"'}
"""What a 401 has to carry (RFC 9110 11.6.1)."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls. `key_id` is None for the operator: a key of the settings, or anyone while there is no key at all."""

    tenant: str
    scopes: frozenset[Scope]
    key_id: str | None = None

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
    """The caller, who must hold the scope. Raises Problem 401 without a good key, 403 without the scope, 429 when
    the key has made too many requests."""
    caller = await caller_of(request)
    if scope not in caller.scopes and Scope.ADMIN not in caller.scopes:
        held = ", ".join(sorted(caller.scopes)) or "none"
        detail = f"this needs a key with the scope {scope.value!r}; this one has: {held}"
        raise Problem(403, "forbidden", detail)
    return caller


def concerns_all(caller: Caller, what: str) -> None:
    """Raises Problem 403 unless it is the operator. `what` begins its sentence: `pausing a lane`."""
    if not caller.operator:
        detail = f"{what} concerns every tenant, and this key is bound to the tenant {caller.tenant!r}:"
        raise Problem(403, "forbidden", f"{detail} the operator's API_KEY of the settings may do it")


async def tenant_over(request: Request, scope: Scope) -> str:
    """Whose generation the path's `{id}` may be: the caller's tenant's, or anyone's for the operator who gives our id.

    Raises Problem 401 or 403.
    """
    caller = await require(request, scope)
    reference = request.path_params["id"]
    if caller.operator and reference.startswith(OUR_PREFIX):
        row = await service_of(request).db.read(lambda tx: generations.find_any(tx, reference))
        if row is not None:
            return str(row["tenant_id"])
    return caller.tenant


async def caller_of(request: Request) -> Caller:
    """Who calls, looked up and counted once per request. Raises Problem 401 or 429."""
    known = getattr(request.state, "caller", None)
    if isinstance(known, Caller):
        return known
    caller = await _identify(request)
    request.state.caller = caller
    return caller


async def _identify(request: Request) -> Caller:
    service, key = service_of(request), _bearer(request)
    if key is None:
        if await needs_key(service):
            raise _refusal(
                "send a key as `Authorization: Bearer KEY` (API_KEY of the settings, or `dailies keys create`)"
            )
        return OPERATOR
    hashed = digest(key)
    if True in [hmac.compare_digest(hashed, own) for own in service.api_key_hashes]:
        return OPERATOR
    row = await service.keys.find(hashed)
    if row is not None and not credentials.has_ended(row, service.clock.now_ms()):
        return await _with_made_key(request, service, row)
    if row is None and not await needs_key(service):
        return OPERATOR
    raise _refusal("this key is unknown, was revoked, or has ended")


def _bearer(request: Request) -> bytes | None:
    """The key's bytes as they came, or None. Text would be guesswork: headers have no encoding."""
    given = next((value for name, value in request.scope["headers"] if name == b"authorization"), b"")
    scheme, _, key = bytes(given).partition(b" ")
    return (key.strip(b" \t") or None) if scheme.lower() == b"bearer" else None


async def _with_made_key(request: Request, service: Service, row: Row) -> Caller:
    """The holder of a key that was made; the request counts against its rate. Raises Problem 429."""
    caller = Caller(row["tenant_id"], scopes_of(row), row["id"])
    rate = service.key_rate if row["rate_per_minute"] is None else row["rate_per_minute"]
    if rate:
        limit = service.buckets.take(row["id"], rate)
        request.state.limit = limit
        if not limit.allowed:
            detail = f"this key may make {rate} requests per minute: go on in {limit.seconds} s"
            raise Problem(429, "rate_limited", detail, headers={"Retry-After": str(limit.seconds)}, retryable=True)
    if credentials.is_stale(row, service.clock.now_ms()):
        row["last_used_at"] = service.clock.now_ms()
        with suppress(DatabaseError):  # a note that can wait: no reason to refuse anybody
            await service.db.write(lambda tx: credentials.touch(tx, row["id"]))
    return caller


async def needs_key(service: Service) -> bool:
    """Whether nobody calls without a key: there is one in the settings, or one was ever made."""
    return bool(service.api_key_hashes) or await service.keys.any_exist()


def _refusal(detail: str) -> Problem:
    return Problem(401, "unauthorized", detail, headers=CHALLENGE)
