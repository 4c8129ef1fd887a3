"""What can be paused and by whom, under one set of names; and how a pause is shown, everywhere the same.

`*` or `everything` is the whole service, `provider:NAME` (or NAME) the road to a provider, `endpoint:ID` (or ID) that
to a receiver, `user:ID` one user of a tenant. Roads and the service are the operator's; a tenant's admin may pause its
own users.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline import admission
from pipeline.admission import EVERYTHING, provider_lane
from pipeline.admission.lanes import user_lane
from pipeline.admission.shares import USERS, is_user, whose
from pipeline.api.auth import Caller, concerns_all
from pipeline.api.problems import Problem
from pipeline.api.service import Service
from pipeline.credentials import check_tenant
from pipeline.db import Row, Tx
from pipeline.outbox import managing
from pipeline.queue import FAR_FUTURE
from pipeline.schemas import iso

ALL = frozenset({EVERYTHING, "everything"})
ENDPOINT = "endpoint:"


@dataclass(frozen=True, slots=True)
class Named:
    """What somebody wants to pause or resume; `user` is a user's (tenant, name) where it is one."""

    lane: str | None
    user: tuple[str, str] | None = None


def named(caller: Caller, lane: str | None, tenant: str | None, what: str) -> Named:
    """What a request names. `what` begins the sentence of the 403. Raises Problem 403 or 422."""
    if lane is not None and is_user(lane):
        return Named(lane, _user(caller, lane.removeprefix(USERS), tenant))
    concerns_all(caller, what)
    if tenant is not None:
        raise _bad("/tenant", f"goes with {USERS}ID, and with nothing else")
    return Named(None if lane in ALL else lane)


def _user(caller: Caller, user: str, tenant: str | None) -> tuple[str, str]:
    if not user:
        raise _bad("/lane", f"names no user: it is {USERS}ID")
    if tenant is None or tenant == caller.tenant:
        return caller.tenant, user
    if not caller.operator:
        raise Problem(403, "forbidden", f"this key is bound to the tenant {caller.tenant!r}")
    try:
        return check_tenant(tenant), user
    except ValueError as error:
        raise _bad("/tenant", str(error)) from None


def lane_of(tx: Tx, service: Service, meant: Named) -> str:
    """The name of its row. Raises Problem 422 for a road that leads nowhere."""
    if meant.user is not None:
        return user_lane(*meant.user)
    if meant.lane is None:
        return EVERYTHING
    known = {provider_lane(name) for name in service.providers}
    known |= {row["name"] for row in admission.lanes(tx) if not is_user(row["name"])} - {EVERYTHING}
    for name in (meant.lane, provider_lane(meant.lane), ENDPOINT + meant.lane):
        if name in known or (name.startswith(ENDPOINT) and managing.find(tx, None, name.removeprefix(ENDPOINT))):
            return name
    raise _bad("/lane", "is not a lane of this service", [EVERYTHING, *sorted(known), f"{USERS}ID"])


def _bad(pointer: str, detail: str, allowed: list[str] | None = None) -> Problem:
    error: dict[str, Any] = {"pointer": pointer, "detail": detail}
    if allowed is not None:
        error["allowed"] = allowed
    return Problem(422, "invalid_request", "1 member(s) of the body cannot be taken", errors=[error])


def pause_view(row: Row | None, now: int) -> dict[str, Any]:
    """Whether a lane's row is closed just now, until when (null: until it is resumed), and why."""
    until = 0 if row is None else row["paused_until"] or 0
    if row is None or until <= now:
        return {"paused": False, "pausedUntil": None, "pausedReason": None}
    return {
        "paused": True,
        "pausedUntil": iso(until) if until < FAR_FUTURE else None,
        "pausedReason": row["paused_reason"],
    }


def lane_view(row: Row, now: int) -> dict[str, Any]:
    """A lane after it was paused or resumed: a user by his own name, with his tenant."""
    tenant, user = whose(row["name"]) if is_user(row["name"]) else (None, None)
    name = row["name"] if user is None else f"{USERS}{user}"
    return {"object": "lane", "name": name, "tenant": tenant, **pause_view(row, now)}
