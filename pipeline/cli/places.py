"""What the commands on endpoints do, and how endpoints read."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

from pipeline.cli.acts import sure
from pipeline.cli.client import Client
from pipeline.cli.listing import more_text, terminal_width
from pipeline.cli.tables import age, table
from pipeline.cli.words import json_text

ENDPOINTS = "/api/webhooks/endpoints"
Json = Mapping[str, Any]


def _path(endpoint_id: str, act: str = "") -> str:
    return f"{ENDPOINTS}/{quote(endpoint_id, safe='')}{act and f'/{act}'}"


async def list_endpoints(client: Client, tenant: str | None, most: int | None, *, as_json: bool) -> str:
    """Up to `most` endpoints (None: all), as text. Raises CommandError."""
    page = await client.pages(ENDPOINTS, {"tenant": tenant}, most)
    if as_json:
        return json_text(page)
    if not page["data"]:
        return "events go nowhere: `dailies endpoints create URL`, or set WEBHOOK_URL"
    return endpoints_table(page["data"], time.time(), terminal_width()) + more_text(page)


async def create_endpoint(client: Client, tenant: str | None, body: Json, *, as_json: bool) -> tuple[str, str]:
    """Make one: what goes to standard output, and what to standard error. Raises CommandError."""
    query = "" if tenant is None else f"?{urlencode({'tenant': tenant})}"
    made = await client.post(f"{ENDPOINTS}{query}", body, once=True)
    return _with_secret(made, as_json, f"{made['id']} gets {_events(made)}")


async def show_endpoint(client: Client, endpoint_id: str, *, as_json: bool) -> str:
    """One endpoint, as text. Raises CommandError."""
    found = await client.get(_path(endpoint_id))
    return json_text(found) if as_json else endpoint_text(found, time.time())


async def update_endpoint(client: Client, endpoint_id: str, body: Json, *, as_json: bool) -> str:
    """Change one; how it is then, as text. Raises CommandError."""
    changed = await client.patch(_path(endpoint_id), body)
    return json_text(changed) if as_json else endpoint_text(changed, time.time())


async def delete_endpoint(client: Client, endpoint_id: str, *, yes: bool) -> str:
    """Ask, and delete one. Raises CommandError."""
    found = await client.get(_path(endpoint_id))
    sure(f"Send nothing to {found['url']} ({found['id']}) any more?", yes)
    await client.delete(_path(endpoint_id))
    return f"{found['id']}  deleted"


async def rotate_secret(client: Client, endpoint_id: str, body: Json, *, as_json: bool) -> tuple[str, str]:
    """Make a new secret: what goes to standard output, and what to standard error. Raises CommandError."""
    made = await client.post(_path(endpoint_id, "rotate-secret"), body, once=True)
    ends = max((each["expiresAt"] for each in made["secrets"] if each["expiresAt"]), default=None)
    said = "its old secrets are gone" if ends is None else f"its old secrets sign until {ends} as well"
    return _with_secret(made, as_json, f"{made['id']}: {said}")


def _with_secret(made: Json, as_json: bool, said: str) -> tuple[str, str]:
    if as_json:
        return json_text(made), ""
    shown = made["secret"] or _public(made) or ""
    told = [said, "This is all you will see of the secret: give it to the receiver now."] if made["secret"] else [said]
    if made["secret"] and _public(made):
        told.append(f"The public key of v1a: {_public(made)}")
    return shown, "\n".join([*told, f"Try it: dailies endpoints test {made['id']}"])


def _public(endpoint: Json) -> str | None:
    current = [each for each in endpoint["secrets"] if each["publicKey"] and not each["expiresAt"]]
    return str(current[0]["publicKey"]) if current else None


async def test_endpoint(client: Client, endpoint_id: str, *, as_json: bool) -> tuple[bool, str]:
    """Send a test: whether it was taken, and how it went, as text. Raises CommandError."""
    answer = await client.post(_path(endpoint_id, "test"), once=True)
    return bool(answer["delivered"]), json_text(answer) if as_json else attempt_text(answer)


async def switch_endpoint(
    client: Client, endpoint_id: str, act: str, body: Json | None = None, *, as_json: bool
) -> str:
    """Switch one off or on; how it stands then, as text. Raises CommandError."""
    found = await client.post(_path(endpoint_id, act), body)
    return json_text(found) if as_json else f"{found['id']}  {state_text(found)}"


def attempt_text(answer: Json) -> str:
    """How a test went. Pure."""
    names = {"dns": "dns", "connect": "connect", "tls": "tls", "firstByte": "first byte"}
    phases = [f"{names[name]} {ms} ms" for name, ms in answer["phases"].items() if ms is not None]
    lines = [
        f"{'taken' if answer['delivered'] else 'not taken'}: {answer['detail'] or answer['reason']}",
        f"  event    {answer['eventId']} (webhook.test)",
        f"  address  {answer['address'] or 'none was reached'}",
        f"  time     {answer['milliseconds']} ms" + (f": {', '.join(phases)}" if phases else ""),
    ]
    said = "".join(c if c.isprintable() else " " for c in answer["response"]).strip()
    return "\n".join([*lines, f"  it said  {said[:200]}"] if said and not answer["delivered"] else lines)


def state_text(endpoint: Json) -> str:
    """Whether anything is sent there. Pure."""
    if not endpoint["enabled"]:
        return f"off since {endpoint['disabledAt']}: {endpoint['disabledReason']}"
    if endpoint["paused"]:
        return f"paused until {endpoint['paused']['until']}: {endpoint['paused']['reason']}"
    return f"on, failing since {endpoint['failingSince']}" if endpoint["failingSince"] else "on"


def _events(endpoint: Json) -> str:
    return " ".join(endpoint["events"])


def endpoints_table(endpoints: Sequence[Json], now: float, width: int | None = None) -> str:
    """A page of endpoints. `now` is Unix seconds. Pure."""
    rows = [
        (
            each["id"],
            each["tenant"],
            state_text(each).partition(" ")[0].rstrip(","),
            age(each["lastAttempt"]["at"], now) if each["lastAttempt"] else None,
            _events(each),
            each["url"] if each["enabled"] else f"{each['url']} ({each['disabledReason']})",
        )
        for each in endpoints
    ]
    return table(("ID", "TENANT", "STATE", "LAST", "EVENTS", "URL"), rows, width)


def endpoint_text(endpoint: Json, now: float) -> str:
    """One endpoint. `now` is Unix seconds. Pure."""
    last = endpoint["lastAttempt"]
    bounds = [
        f"at most {endpoint['maxInFlight']} at once" if endpoint["maxInFlight"] else None,
        f"{endpoint['ratePerMinute']} per minute" if endpoint["ratePerMinute"] else None,
        "in order per generation" if endpoint["ordered"] else None,
    ]
    facts = {
        "url": endpoint["url"] + (" (of the settings)" if endpoint["fromSettings"] else ""),
        "tenant": endpoint["tenant"],
        "events": _events(endpoint),
        "about": endpoint["description"],
        "headers": ", ".join(endpoint["headers"]) or None,
        "bounds": ", ".join(bound for bound in bounds if bound) or None,
        "signing": endpoint["signing"],
        "last": last and f"{age(last['at'], now)} ago, {last['delivery']}: {last['detail'] or last['reason']}",
        "created": endpoint["createdAt"],
    }
    lines = [f"{endpoint['id']}  {state_text(endpoint)}"]
    lines += [f"  {name:<9} {value}" for name, value in facts.items() if value is not None]
    if not endpoint["secrets"]:
        lines.append("  secret    that of WEBHOOK_SECRET")
    for each in endpoint["secrets"]:
        ends = f", until {each['expiresAt']}" if each["expiresAt"] else ""
        lines.append(f"  secret    {each['publicKey'] or each['hint']} of {each['createdAt']}{ends}")
    return "\n".join(lines)
