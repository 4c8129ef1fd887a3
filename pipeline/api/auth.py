"""Who is calling: a bearer key, compared in constant time. Until keys carry tenants, everyone is `default`."""

from __future__ import annotations

import hashlib
import hmac

from starlette.requests import Request

from pipeline.api.problems import Problem
from pipeline.api.service import Service
from pipeline.models import DEFAULT_TENANT

CHALLENGE = {"WWW-Authenticate": 'Bearer realm="dailies"'}
"""What a 401 has to carry (RFC 9110 11.6.1)."""


def service_of(request: Request) -> Service:
    """The service that this application was made with."""
    service = request.app.state.service
    assert isinstance(service, Service)
    return service


def tenant_of(request: Request) -> str:
    """The caller's tenant. Raises Problem 401 when a key is needed and this is none."""
    keys = service_of(request).api_keys
    if not keys:
        return DEFAULT_TENANT
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not given:
        raise _refusal("send the key as `Authorization: Bearer KEY` (API_KEY of the service's settings)")
    digest = hashlib.sha256(given.strip().encode("latin-1")).digest()  # latin-1 gives back the bytes that were sent
    matches = [hmac.compare_digest(digest, hashlib.sha256(key.encode()).digest()) for key in keys]
    if True not in matches:
        raise _refusal("this key is not one of the service's API_KEY")
    return DEFAULT_TENANT


def _refusal(detail: str) -> Problem:
    return Problem(401, "unauthorized", detail, headers=CHALLENGE)
