"""A test of an endpoint: one `webhook.test`, signed and sent as real events are, at once and without a delivery."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import httpx

from pipeline.clock import Clock
from pipeline.ids import new_id
from pipeline.links import Links
from pipeline.outbound import Exchange
from pipeline.outbox.managing import Shown
from pipeline.outbox.sample import sample_event
from pipeline.outbox.signatory import Signatory
from webhooks.sender import SendResult, build_headers, send


@dataclass(frozen=True, slots=True)
class Tester:
    """Sends tests.

    Args:
        client: guarded, as for deliveries.
        timeout: seconds for one attempt as a whole.
    """

    signatory: Signatory
    links: Links
    client: httpx.AsyncClient
    timeout: float
    clock: Clock
    random: Callable[[int], bytes] = os.urandom

    async def test(self, endpoint: Shown) -> tuple[str, SendResult]:
        """Send one; the event's id, and how it ended. Nothing follows from it. Raises CannotOpen."""
        event_id, now = new_id("evt", self.clock.now_ms(), self.random), self.clock.now()
        body = sample_event(self.links, now)
        secrets = self.signatory.secrets(endpoint.row, endpoint.secrets)
        signed = build_headers(secrets, event_id=event_id, timestamp=int(now), body=body, attempt=1)
        result = await send(
            self.client,
            endpoint.row["url"],
            headers={**self.signatory.headers(endpoint.row), **signed},
            body=body,
            timeout=self.timeout,
            now=self.clock.now,
            exchange=Exchange(),
        )
        return event_id, result
