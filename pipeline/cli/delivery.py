"""Why did this webhook not arrive? One delivery, or all of a generation, told in full."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from pipeline.cli.base import CommandError
from pipeline.cli.client import DELIVERIES, Client
from pipeline.cli.words import SAID, Json, json_text

PREFIX = "dlv_"
_PHASES = (
    ("dnsMilliseconds", "name"),
    ("connectMilliseconds", "connection"),
    ("tlsMilliseconds", "TLS"),
    ("firstByteMilliseconds", "first byte"),
)


async def tell(client: Client, reference: str, *, headers: bool, as_json: bool) -> str:
    """A delivery by its id, or every one of a generation by either of its ids. Raises CommandError."""
    if reference.startswith(PREFIX):
        found = [await _read(client, reference)]
    else:
        generation = (await client.generation(reference))["id"]
        page = await client.pages(DELIVERIES, {"generation": generation}, None)
        found = [await _read(client, each["id"]) for each in reversed(page["data"])]
        if not found:
            raise CommandError(_none(generation))
    if as_json:
        return json_text(found[0] if reference.startswith(PREFIX) else found)
    return "\n\n".join(delivery_text(each, headers=headers) for each in found)


async def _read(client: Client, delivery_id: str) -> dict[str, Any]:
    return await client.get(f"{DELIVERIES}/{quote(delivery_id, safe='')}")


def _none(generation: str) -> str:
    return (
        f"{generation} has no delivery: it goes on still (`dailies show {generation}`), or nobody wanted its events"
        " when they happened (WEBHOOK_URL, the endpoints' `events`)"
    )


def delivery_text(delivery: Json, *, headers: bool = False) -> str:
    """What goes where, how it stands and why, what to do, and every attempt. Pure."""
    lines = [
        f"{delivery['id']}  {delivery['state']}",
        f"  event         {delivery['type']} ({delivery['eventId']}) of {delivery['generation']}",
        f"  to            {delivery['url'] or 'an endpoint of the service'} ({delivery['endpoint'] or 'its own url'})",
        f"  created       {delivery['createdAt']}",
        *_standing(delivery),
    ]
    for attempt in delivery["attempts"]:
        lines += ["", *_attempt(attempt, headers=headers)]
    return "\n".join(lines if delivery["attempts"] else [*lines, "", "  no attempt yet"])


def _standing(delivery: Json) -> Iterator[str]:
    if delivery["state"] == "pending":
        yield f"  next attempt  {delivery['nextAttemptAt']}; it waits for {delivery['waitingFor']}"
    if delivery["finishedAt"]:
        yield f"  ended         {delivery['finishedAt']}"
    if delivery["lastError"] and delivery["state"] != "delivered":
        yield f"  why           {delivery['lastError']}"
    advice = advice_for(delivery)
    if advice:
        yield f"  what to do    {advice}"


def advice_for(delivery: Json) -> str | None:
    """The next step, where there is one. Pure."""
    again = f"`dailies redeliver {delivery['id']}`"
    match delivery["state"], delivery["errorCode"]:
        case "delivered", _:
            return f"nothing, the receiver said 2xx; if the app missed it all the same: {again}"
        case "dead", "endpoint_disabled" | "webhook_answered" if _gone(delivery):
            return f"the endpoint is switched off; once the receiver is well, {again} opens it again"
        case "dead", _:
            return f"mend what is said above, then {again}; it keeps its webhook-id"
        case "pending", "webhook_proxy_failed":
            return "look at the proxy of EGRESS_PROXY; no attempt was spent"
        case "pending", str():
            return f"mend what is said above and wait for the next attempt, or do not wait: {again}"
        case _:
            return None


def _gone(delivery: Json) -> bool:
    attempts = delivery["attempts"]
    return delivery["errorCode"] == "endpoint_disabled" or bool(attempts and attempts[-1]["status"] == 410)


def _attempt(attempt: Json, *, headers: bool) -> Iterator[str]:
    what = attempt["detail"] or attempt["reason"]
    yield f"  attempt {attempt['attempt']} at {attempt['at'][:23].replace('T', ' ')}  {what}"
    yield f"      {attempt['milliseconds']} ms{_way(attempt)}"
    if headers:
        yield from (f"      > {each['name']}: {each['value']}" for each in attempt["requestHeaders"])
        yield from (f"      < {each['name']}: {each['value']}" for each in attempt["responseHeaders"])
    said = "".join(c if c.isprintable() else " " for c in attempt["response"] or "").strip()
    if said:
        yield f"      it said: {said[:SAID]}"


def _way(attempt: Json) -> str:
    """Where it went, over what, and where the time was spent."""
    parts = []
    if attempt["address"]:
        over = f" over a {attempt['connection']} connection" if attempt["connection"] else ""
        parts.append(f"to {attempt['address']}{over}")
    phases = [f"{name} {attempt[member]}" for member, name in _PHASES if attempt[member] is not None]
    parts += [", ".join(phases)] if phases else []
    parts += [f"{attempt['requestBytes']} bytes sent"] if attempt["requestBytes"] else []
    return "".join(f"; {part}" for part in parts)
