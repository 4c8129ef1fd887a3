"""What `resend` does: one delivery, or all that failed, with what came of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from pipeline.cli.base import CommandError, Failed
from pipeline.cli.client import DELIVERIES, Answer, Client
from pipeline.cli.words import json_text

RECOVER = "/api/webhooks/recover"
RECOVERIES = "/api/webhooks/recoveries"
EVERY = 0.3
Json = Mapping[str, Any]


async def resend_one(client: Client, delivery_id: str, *, wait: float, as_json: bool) -> str:
    """Send the event of a delivery once more, and wait for its first attempt; as text. Raises Failed if that was in
    vain."""
    made = await client.post(f"{DELIVERIES}/{quote(delivery_id, safe='')}/redeliver", once=True)
    deadline = time.monotonic() + wait
    while not made["attempts"] and made["state"] == "pending" and time.monotonic() < deadline:
        await asyncio.sleep(EVERY)
        made = await client.get(f"{DELIVERIES}/{made['id']}")
    if as_json:
        return json_text(made)
    if made["state"] != "delivered" and wait:
        raise Failed(result_text(made))
    return result_text(made)


def result_text(delivery: Json) -> str:
    """How a delivery fared that was sent again. Pure."""
    what = f"{delivery['id']}  {delivery['type']} to {delivery['url'] or 'an endpoint of the service'}"
    if not delivery["attempts"]:
        said = delivery["lastError"] or "nothing was sent yet: is a worker running, or is its endpoint paused?"
        return f"{what}  {delivery['state']}: {said}"
    last = delivery["attempts"][-1]
    after = f"; next try {delivery['nextAttemptAt']}" if delivery["nextAttemptAt"] else ""
    return f"{what}  {delivery['state']}: {last['detail']} ({last['milliseconds']} ms){after}"


async def resend_failed(client: Client, asked: Json, *, wait: float, as_json: bool, tell: Callable[[str], None]) -> str:
    """Send all again that failed, and watch how far it is; as text. Raises Failed for what had to be left."""
    body = {name: value for name, value in asked.items() if value is not None}
    recovery = await client.post(RECOVER, body, once=True)
    deadline, told = time.monotonic() + wait, ""
    while recovery["finishedAt"] is None and time.monotonic() < deadline:
        told = _tell_once(progress_text(recovery), told, tell)
        await asyncio.sleep(EVERY)
        recovery = await client.get(f"{RECOVERIES}/{recovery['id']}")
    if as_json:
        return json_text(recovery)
    if recovery["state"] == "failed":
        raise Failed(f"{recovery['id']} was given up; {progress_text(recovery)}")
    if recovery["skipped"]:
        raise Failed(f"{progress_text(recovery)} (their endpoints are off or gone, or what they said was deleted)")
    return progress_text(recovery)


def _tell_once(text: str, before: str, tell: Callable[[str], None]) -> str:
    if text != before:
        tell(text)
    return text


def progress_text(recovery: Answer) -> str:
    """How far it is. Pure."""
    skipped = f", {recovery['skipped']} skipped" if recovery["skipped"] else ""
    return f"{recovery['id']}  {recovery['sent']} of {recovery['total']} sent again{skipped}"


def chosen(delivery_id: str | None, *, failed: bool, since: str | None, others: Json) -> None:
    """Exactly one way to say what. Raises CommandError."""
    if failed and since is None:
        raise CommandError("--failed needs --since, such as --since 1h")
    if failed == (delivery_id is not None):
        raise CommandError("say which: an ID, or --failed --since TIME")
    if not failed and (since is not None or any(value for value in others.values())):
        raise CommandError("--since, --until, --endpoint and --type go with --failed")
