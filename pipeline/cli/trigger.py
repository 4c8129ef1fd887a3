"""An event sent on demand: signed and sent as real ones are, and its answer in words."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.cli.base import CommandError, settings_or_exit
from pipeline.cli.samples import event_body
from pipeline.cli.schema import guarded
from pipeline.config import Settings
from pipeline.ids import new_id
from pipeline.links import Links
from pipeline.outbound import Exchange, Outbound
from pipeline.safety import resolve_secrets
from webhooks.events import EventType
from webhooks.sender import Delivered, SendResult, build_headers, judge, send

TEST_PREFIX = "evt_test"
"""What the ids of triggered events begin with; no real one does."""
SHOWN = 600
"""Bytes of an answer that are printed."""


@dataclass(frozen=True, slots=True)
class Event:
    """What is sent, to where, signed with what."""

    id: str
    type: EventType
    body: bytes
    url: str
    secrets: tuple[str, ...]

    def headers(self, now: float, attempt: int) -> dict[str, str]:
        """As for an attempt at `now` (Unix seconds)."""
        return build_headers(self.secrets, event_id=self.id, timestamp=int(now), body=self.body, attempt=attempt)


def prepared(event_type: str, sets: Sequence[str], to: str | None, secrets: Sequence[str], now: float) -> Event:
    """An event for `to`, or for WEBHOOK_URL. Raises CommandError."""
    settings = settings_or_exit()
    url = to or settings.webhook_url
    if url is None:
        raise CommandError("there is nowhere to send it: set WEBHOOK_URL, or give --to URL")
    with guarded():
        own = resolve_secrets(settings)
    links = Links(settings.base_url, settings.r2_public_url, own.signing, settings.link_lifetime, lambda: now)
    body = event_body(EventType(event_type), links, now, sets)
    return Event(
        new_id(TEST_PREFIX, int(now * 1000), os.urandom),
        EventType(event_type),
        body,
        url,
        tuple(secrets) or own.webhook,
    )


async def sent(event: Event, settings: Settings, times: int) -> list[SendResult]:
    """Send it so many times, one after the other: the same id and bytes, as when an answer was lost."""
    outbound = Outbound(settings)
    results = []
    try:
        for attempt in range(1, times + 1):
            result = await send(
                outbound.webhooks,
                event.url,
                headers=event.headers(time.time(), attempt),
                body=event.body,
                timeout=settings.webhook_timeout,
                now=time.time,
                exchange=Exchange(),
            )
            results.append(result)
    finally:
        await outbound.aclose()
    return results


def request_text(event: Event, now: float) -> bytes:
    """The request as bytes, which `dailies verify` reads."""
    lines = [f"{name}: {value}\r\n" for name, value in event.headers(now, 1).items()]
    return f"POST {event.url} HTTP/1.1\r\n{''.join(lines)}\r\n".encode() + event.body


def went(results: Sequence[SendResult]) -> bool:
    """Whether every one was taken."""
    return all(judge(result) == Delivered() for result in results)


def result_text(event: Event, results: Sequence[SendResult]) -> str:
    """What became of it, for people."""
    lines = [f"{event.type} {event.id} -> {event.url}"]
    for result in results:
        reached = f" at {result.address}" if result.address else ""
        lines.append(f"  {result.detail} ({result.ms} ms{reached})")
    answer = results[-1].response[:SHOWN].decode("utf-8", "replace").strip()
    if answer:
        shown = "".join(c if c.isprintable() or c == "\n" else "?" for c in answer)
        lines += ["", *(f"  | {line}" for line in shown.splitlines())]
    return "\n".join(lines)


def result_json(event: Event, results: Sequence[SendResult]) -> dict[str, Any]:
    """What became of it, for programs."""
    tries = [
        {
            "status": result.status,
            "reason": result.reason.value,
            "delivered": judge(result) == Delivered(),
            "detail": result.detail,
            "milliseconds": result.ms,
            "address": result.address,
            "response": result.response.decode("utf-8", "replace"),
        }
        for result in results
    ]
    return {"object": "trigger", "eventId": event.id, "type": event.type.value, "url": event.url, "data": tries}
