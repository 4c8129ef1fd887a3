"""What `pause`, `resume` and the commands on users do, and how pauses and users read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

from pipeline.cli.client import Client
from pipeline.cli.listing import more_text, terminal_width
from pipeline.cli.tables import table
from pipeline.cli.words import json_text
from pipeline.money import usd

USERS = "/api/users"
Json = Mapping[str, Any]
Names = Mapping[str, str | None]
"""`lane` and `tenant`, as they were given."""


async def pause_lane(client: Client, named: Names, body: Json, *, as_json: bool) -> str:
    """Close a lane, a user or everything; how it stands, as text. Raises CommandError."""
    return lane_text(await client.post("/api/queue/pause", _given({**named, **body})), as_json)


async def resume_lane(client: Client, named: Names, *, as_json: bool) -> str:
    """Open a lane, a user or everything; how it stands, as text. Raises CommandError."""
    return lane_text(await client.post("/api/queue/resume", _given(named)), as_json)


def _given(members: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


def lane_text(lane: Json, as_json: bool) -> str:
    """How a lane stands. Pure."""
    if as_json:
        return json_text(lane)
    name = "the whole service" if lane["name"] == "*" else lane["name"]
    of = f" of {lane['tenant']}" if lane.get("tenant") else ""
    return f"{name}{of} is {pause_text(lane) or 'open'}"


def pause_text(state: Json) -> str:
    """`paused until ...: why`, of a lane, a user or the service; nothing while it is open. Pure."""
    if not state["paused"]:
        return ""
    until = "it is resumed" if state["pausedUntil"] is None else state["pausedUntil"]
    return f"paused until {until}: {state['pausedReason']}"


async def list_users(client: Client, tenant: str | None, most: int | None, *, as_json: bool) -> str:
    """Up to `most` users (None: all), as text. Raises CommandError."""
    page = await client.pages(USERS, {"tenant": tenant}, most)
    if as_json:
        return json_text(page)
    if not page["data"]:
        return "nobody waits or has anything in flight, and nothing is set for anybody"
    return users_table(page["data"], terminal_width()) + more_text(page)


async def show_user(client: Client, user: str, tenant: str | None, *, as_json: bool) -> str:
    """One user, as text. Raises CommandError."""
    return _user_text(await client.get(_path(user, tenant)), as_json)


async def set_user(client: Client, user: str, tenant: str | None, asked: Json, *, as_json: bool) -> str:
    """Change what is named of a user's share and leave the rest; how he stands, as text. Raises CommandError."""
    now = await client.get(_path(user, tenant))
    body = {"weight": now["weight"], "maxInFlight": now["maxInFlight"], **asked}
    return _user_text(await client.put(_path(user, tenant), body), as_json)


async def reset_user(client: Client, user: str, tenant: str | None, *, as_json: bool) -> str:
    """Forget what is set for a user; how he stands, as text. Raises CommandError."""
    await client.delete(_path(user, tenant))
    return await show_user(client, user, tenant, as_json=as_json)


def _path(user: str, tenant: str | None) -> str:
    return f"{USERS}/{quote(user, safe='')}" + ("" if tenant is None else f"?{urlencode({'tenant': tenant})}")


def _user_text(user: Json, as_json: bool) -> str:
    return json_text(user) if as_json else users_table([user], terminal_width())


def users_table(users: Sequence[Json], width: int | None = None) -> str:
    """A page of users. Pure."""
    rows = [
        (
            "(no userId)" if each["user"] is None else each["user"],
            each["tenant"],
            each["waiting"],
            each["inFlight"],
            each["maxInFlight"],
            f"{each['weight']:g}",
            usd(each["spentTodayMicros"]),
            pause_text(each),
        )
        for each in users
    ]
    return table(("USER", "TENANT", "WAITING", "IN FLIGHT", "AT MOST", "WEIGHT", "TODAY", "STATE"), rows, width)
