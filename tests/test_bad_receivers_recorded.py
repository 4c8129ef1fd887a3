"""Every bad receiver at once in a whole house: what is written down of each attempt, and when the next one comes."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from pipeline.db import Row, Tx
from pipeline.outbound.clients import default_tls
from pipeline.outbox.addressing import address
from pipeline.outbox.endpoints import FROM_SETTINGS, PER_REQUEST
from tests.house import House, eventually, open_house
from tests.webhooks.failure_list import DEADLINE, ROWS
from tests.webhooks.failure_list import Row as Receiver
from tests.webhooks.receivers import SECRET, SPARE, certificates, sink
from webhooks.sender import Delivered, Gone, Retry
from webhooks.sink import Seen

pytestmark = pytest.mark.anyio

LATER = 600.0
"""Seconds until the second attempt; a fifth of it either way is left to chance."""


@pytest.fixture
def _trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The sinks' authority is one of this machine's."""
    (tmp_path / "ca.pem").write_bytes(certificates().authority)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    default_tls.cache_clear()
    yield
    default_tls.cache_clear()


@asynccontextmanager
async def house_of(folder: Path, schedule: str) -> AsyncIterator[tuple[House, str]]:
    """A house that signs with SECRET, and the id of an event in it."""
    values: dict[str, Any] = {"webhook_timeout": DEADLINE, "webhook_schedule": schedule, "webhook_secret": SECRET}
    async with open_house(folder, **values) as house:
        await house.submit("a red fox")
        (received,) = await house.webhooks(1)
        yield house, received.headers["webhook-id"]


async def send_to(house: House, event: str, urls: list[str]) -> list[str]:
    """Deliveries of the event to these places, as of a request that named them; their ids."""

    def unit(tx: Tx) -> list[str | None]:
        places: list[Row] = [{"id": PER_REQUEST, "url": url, "secret_ref": FROM_SETTINGS} for url in urls]
        tenant = tx.value("SELECT tenant_id FROM webhook_event WHERE id = :id", {"id": event})
        return [
            address(tx, tenant=tenant, event_id=event, place=place, delay=0.0, random=os.urandom, redelivery=number)
            for number, place in enumerate(places, 1)
        ]

    made = await house.plant.db.write(unit)
    house.service.wake()
    assert None not in made
    return [str(each) for each in made]


async def delivery(house: House, delivery_id: str) -> dict[str, Any]:
    body: dict[str, Any] = (await house.api.get(f"/api/webhooks/deliveries/{delivery_id}")).json()
    return body


async def attempted(house: House, delivery_id: str, count: int = 1) -> dict[str, Any]:
    return await eventually(lambda: delivery(house, delivery_id), lambda d: d["attemptCount"] >= count, 30.0)


def unlike(row: Receiver, found: dict[str, Any]) -> list[str]:
    """Where a record differs from what its row says."""
    (tried,) = found["attempts"]
    said = []
    if (tried["status"], tried["reason"]) != (row.status, row.reason) or row.words not in tried["detail"]:
        said.append(f"{tried['status']} {tried['reason']}: {tried['detail']}")
    if tried["milliseconds"] > (DEADLINE + SPARE) * 1000:
        said.append(f"took {tried['milliseconds']} ms")
    if len(tried["response"].encode()) > 3 * 4096:  # each byte that is no UTF-8 is shown as one character of three
        said.append("kept more than 4 KiB")
    if not tried["requestHeaders"]:
        said.append("what was sent is not there")
    return said + next_one(row, found, tried)


def next_one(row: Receiver, found: dict[str, Any], tried: dict[str, Any]) -> list[str]:
    states = {Delivered: "delivered", Gone: "dead", Retry: "pending"}
    said = [] if found["state"] == states[type(row.verdict)] else [f"is {found['state']}"]
    if not isinstance(row.verdict, Retry):
        return [*said, *(["comes again"] if found["nextAttemptAt"] else [])]
    wait = (datetime.fromisoformat(found["nextAttemptAt"]) - datetime.fromisoformat(tried["at"])).total_seconds()
    asked = row.verdict.retry_after or 0.0
    least = max(LATER * 0.8, asked - 2)
    most = max(LATER * 1.2, asked * 1.3) + 2
    return said if least <= wait <= most else [*said, f"comes again after {wait} s"]


@pytest.mark.usefixtures("_trusted")
async def test_what_each_did_is_written_down_and_when_it_is_tried_again(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        house, event = await stack.enter_async_context(house_of(tmp_path / "house", f"0,{LATER:g}"))
        sinks = [await stack.enter_async_context(sink(row.behaviour)) for row in ROWS]
        urls = [f"{row.scheme}://127.0.0.1:{each.port}/hook" for row, each in zip(ROWS, sinks, strict=True)]
        ids = await send_to(house, event, urls)
        found = [await attempted(house, each) for each in ids]
    wrong = {
        f"{row.number} {row.behaviour} {row.scheme}": said
        for row, each in zip(ROWS, found, strict=True)
        if (said := unlike(row, each))
    }
    assert wrong == {}


async def test_37_and_42_a_lost_answer_brings_the_same_id_and_the_same_bytes(tmp_path: Path) -> None:
    seen: list[Seen] = []
    chance = [0.0, 1.0]
    async with (
        house_of(tmp_path, "0,0.05,0.05") as (house, event),
        sink("reset:0.5", seen, uniform=lambda: chance[bool(seen)]) as receiver,
    ):
        (made,) = await send_to(house, event, [f"http://127.0.0.1:{receiver.port}/hook"])
        found = await eventually(lambda: delivery(house, made), lambda d: d["state"] == "delivered", 10.0)
    first, second = seen
    assert (first.behaviours, second.behaviours) == (("reset",), ())
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == event
    assert first.body == second.body
    assert [each.headers["webhook-attempt"] for each in seen] == ["1", "2"]
    assert [each["reason"] for each in found["attempts"]] == ["reset", "answered"]
