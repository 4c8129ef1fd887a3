"""What the routes of endpoints share: whose they are, what may not be changed, and how they are shown."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from starlette.requests import Request

from pipeline.api.auth import Caller, require, service_of
from pipeline.api.check import webhook_host
from pipeline.api.problems import Problem
from pipeline.api.query import bad
from pipeline.api.service import Service
from pipeline.credentials import Scope, check_tenant
from pipeline.db import Row, Tx
from pipeline.keys import CannotOpen
from pipeline.outbound import BadUrl, BlockedAddress
from pipeline.outbox import managing, secrets
from pipeline.outbox.endpoints import setting_of
from pipeline.outbox.managing import Shown
from pipeline.outbox.secrets import ED25519, HMAC, SIGNING, Secret
from pipeline.outbox.signatory import HIDDEN
from pipeline.schemas import iso
from webhooks.sender import Delivered, SendResult, judge

PATH = "/api/webhooks/endpoints"


def bound_to(caller: Caller) -> str | None:
    """The tenant that a caller is bound to; the operator sees all."""
    return None if caller.operator else caller.tenant


def tenant_meant(caller: Caller, given: Mapping[str, str]) -> str | None:
    """Whose endpoints are meant: the caller's own, or for the operator those of `?tenant=` or everybody's. Raises
    Problem 400, or 403 for another tenant's."""
    asked = given.get("tenant")
    if asked is None:
        return bound_to(caller)
    if not caller.operator and asked != caller.tenant:
        raise Problem(403, "forbidden", f"this key is bound to the tenant {caller.tenant!r}")
    try:
        return check_tenant(asked)
    except ValueError as error:
        raise bad("tenant", str(error)) from None


def found(shown: Shown | None, endpoint_id: str) -> Shown:
    """The endpoint that was asked for. Raises Problem 404."""
    if shown is None:
        raise Problem(404, "not_found", f"there is no endpoint {endpoint_id!r}")
    return shown


async def changed(request: Request, change: Callable[[Tx, Row], None], *, stays: bool = True) -> Shown:
    """Change the endpoint of the path in one transaction; how it stands then. Raises Problem 404."""
    caller = await require(request, Scope.ADMIN)
    service, endpoint_id = service_of(request), request.path_params["id"]

    def unit(tx: Tx) -> Shown:
        row = managing.hold(tx, bound_to(caller), endpoint_id)
        if row is None:
            raise Problem(404, "not_found", f"there is no endpoint {endpoint_id!r}")
        change(tx, row)
        if not stays:
            return Shown(row, tx.now)
        return found(managing.find(tx, bound_to(caller), endpoint_id), endpoint_id)

    shown = await service.db.write(unit)
    service.wake()
    return shown


def refuse_if_set(row: Row, member: str) -> None:
    """Raises Problem 409 for what a setting decides."""
    setting = setting_of(row, member)
    if setting is not None:
        raise set_by_settings(f"this endpoint's {member} is {setting} of the settings: change it there, and restart")


def set_by_settings(detail: str) -> Problem:
    """The problem of what can be changed in the settings alone."""
    return Problem(409, "set_by_settings", detail)


def check_url(service: Service, url: str) -> None:
    """Raises Problem 422 for a URL to which nothing would ever be sent."""
    try:
        webhook_host(url)
        service.check_url(url)
    except (BadUrl, BlockedAddress, ValueError) as error:
        errors = [{"pointer": "/url", "detail": str(error)}]
        raise Problem(422, "webhook_not_allowed", f"nothing can be sent to this URL: {error}", errors=errors) from None


def secrets_for(service: Service, signing: str, given: str | None) -> list[Secret]:
    """New secrets for a way to sign. Raises Problem 422 for a given one that has no place in it."""
    kinds = SIGNING[signing]
    if given is not None and secrets.HMAC not in kinds:
        errors = [{"pointer": "/secret", "detail": "has no place with v1a alone, whose keys are made here"}]
        raise Problem(422, "invalid_request", "1 member(s) of the body cannot be taken", errors=errors)
    return secrets.new_secrets(kinds, service.random, given=given)


def kept_headers(asked: Mapping[str, str], kept: Mapping[str, str]) -> dict[str, str]:
    """The headers with HIDDEN replaced by what is kept under that name. Raises Problem 422 where nothing is."""
    known = {name.lower(): value for name, value in kept.items()}
    lost = [name for name, value in asked.items() if value == HIDDEN and name.lower() not in known]
    if lost:
        said = f"{HIDDEN} stands for a value that is kept, and none is under this name"
        errors = [{"pointer": f"/headers/{name}", "detail": said} for name in lost]
        raise Problem(422, "invalid_request", f"{len(lost)} member(s) of the body cannot be taken", errors=errors)
    return {name: known[name.lower()] if value == HIDDEN else value for name, value in asked.items()}


def sealed_headers(service: Service, row: Row, asked: Mapping[str, str]) -> str | None:
    """The headers as they are to be kept. Raises Problem 409 or 422."""
    try:
        kept = service.signatory.headers(row) if HIDDEN in asked.values() else {}
    except CannotOpen as error:
        raise sealed_away(error) from None
    return service.signatory.sealed(row["id"], kept_headers(asked, kept))


def sealed_away(error: CannotOpen) -> Problem:
    """The problem of an endpoint whose secrets were sealed by a SECRET_KEY that is gone."""
    detail = f"what is kept of this endpoint cannot be opened: {error}. Rotate its secret and set its headers anew"
    return Problem(409, "sealed_away", detail)


# --- how they are shown ----------------------------------------------------------------------------------------------


def endpoint_view(service: Service, shown: Shown) -> dict[str, Any]:
    """An endpoint with everything but its secrets."""
    row = shown.row
    return {
        "id": row["id"],
        "object": "endpoint",
        "tenant": row["tenant_id"],
        "url": row["url"],
        "events": json.loads(row["events"]),
        "description": row["description"],
        "headers": service.signatory.shown_headers(row),
        "ordered": bool(row["ordered"]),
        "maxInFlight": row["max_in_flight"],
        "ratePerMinute": row["rate_per_minute"],
        "fromSettings": setting_of(row, "url") is not None,
        "signing": secrets.signing_of(shown.secrets),
        "secrets": [_secret_view(each) for each in shown.secrets],
        "enabled": row["disabled_at"] is None,
        "disabledAt": iso(row["disabled_at"]),
        "disabledReason": row["disabled_reason"],
        "failingSince": iso(row["failing_since"]),
        "paused": _pause_view(shown),
        "lastAttempt": _last_view(shown.last),
        "createdAt": iso(row["created_at"]),
        "updatedAt": iso(row["updated_at"]),
    }


def with_secret(service: Service, shown: Shown, made: Sequence[Secret]) -> dict[str, Any]:
    """The same, with the secret that was just made: the only time that it is shown."""
    text = next((each.text for each in made if each.kind == HMAC), None)
    return endpoint_view(service, shown) | {"secret": text}


def _secret_view(row: Row) -> dict[str, Any]:
    public = row["kind"] == ED25519
    return {
        "kind": row["kind"],
        "hint": None if public else f"{row['hint']}...",
        "publicKey": row["hint"] if public else None,
        "createdAt": iso(row["created_at"]),
        "expiresAt": iso(row["expires_at"]),
    }


def _pause_view(shown: Shown) -> dict[str, Any] | None:
    lane = shown.lane
    if lane is None or lane["paused_until"] is None or lane["paused_until"] <= shown.now:
        return None
    return {"until": iso(lane["paused_until"]), "reason": lane["paused_reason"]}


def _last_view(row: Row | None) -> dict[str, Any] | None:
    if row is None:
        return None
    return {
        "at": iso(row["at"]),
        "delivery": row["delivery_id"],
        "status": row["status"],
        "reason": row["reason"],
        "detail": row["detail"],
    }


def test_view(endpoint_id: str, event_id: str, result: SendResult) -> dict[str, Any]:
    """How a test went."""
    wire = result.wire
    return {
        "object": "endpointTest",
        "endpoint": endpoint_id,
        "eventId": event_id,
        "delivered": judge(result) == Delivered(),
        "status": result.status,
        "reason": result.reason,
        "detail": result.detail,
        "milliseconds": result.ms,
        "phases": {
            "dns": wire.dns_ms,
            "connect": wire.connect_ms,
            "tls": wire.tls_ms,
            "firstByte": wire.first_byte_ms,
        },
        "address": result.address,
        "response": result.response.decode("utf-8", "replace"),
    }
