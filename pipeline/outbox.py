"""The outbox: the only writer of `webhook_*`. An event is recorded in the transaction of the change that it tells of;
each place that wants it gets a delivery, which is a job of the same queue.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx

from pipeline import queue
from pipeline.clock import Clock
from pipeline.db import Row, Tx
from pipeline.ids import new_id
from pipeline.lifecycle import (
    Cancel,
    Complete,
    DeadLetter,
    Decision,
    Done,
    Fail,
    Failed,
    Fault,
    JobKind,
    NotYet,
    Outcome,
    RetryPolicy,
    Step,
    decide,
)
from pipeline.links import Links
from pipeline.outbound import Exchange
from pipeline.queue import Claim, LeaseLost
from pipeline.schemas import generation_view
from pipeline.telemetry import emit
from pipeline.turn import Report, Turn
from webhooks.events import DEFAULT, TERMINAL, build_body
from webhooks.sender import Delivered, Gone, SendResult, build_headers, judge, send

DEFAULT_ENDPOINT = "ep_default"
PER_REQUEST = "request"
FROM_SETTINGS = "settings"
UNSET = "WEBHOOK_URL is not set"
UNSET_SECONDS = 600.0
"""How often a delivery looks whether WEBHOOK_URL is set again."""


@dataclass(frozen=True, slots=True)
class _Subject:
    """What a delivery's turn works on."""

    delivery: Row
    event: Row
    endpoint: Row | None

    @property
    def url(self) -> str:
        return str(self.endpoint["url"] if self.endpoint else self.delivery["url"])


class Outbox:
    """Records events and delivers them.

    Args:
        links: how generations are shown in bodies.
        secrets: the live signing secrets of WEBHOOK_SECRET, all of which sign.
        client: guarded, for addresses that somebody else chose.
        policy: when a failed delivery is tried again.
        timeout: seconds for one attempt as a whole.
        uniform: a random number in 0..1, for jitter.
    """

    def __init__(
        self,
        *,
        links: Links,
        secrets: Sequence[str],
        client: httpx.AsyncClient,
        policy: RetryPolicy,
        timeout: float,
        clock: Clock,
        uniform: Callable[[], float],
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._links = links
        self._secrets = list(secrets)
        self._client = client
        self._policy = policy
        self._timeout = timeout
        self._clock = clock
        self._uniform = uniform
        self._random = random

    # --- recording ---------------------------------------------------------------------------------------------------

    def wanted(self, tx: Tx, generation: Row, event_type: str) -> bool:
        """Whether an event is to be recorded: a terminal one always, another if somebody asked for its type."""
        return event_type in TERMINAL or bool(self._places(tx, generation, event_type))

    def record(self, tx: Tx, generation: Row, event_type: str) -> str | None:
        """Write an event of a generation and its deliveries, in the caller's transaction.

        `generation` is the row as it is after the change, its `sequence` already raised. Returns the event's id, or
        None: a second terminal event of a run is refused by the table.
        """
        places = self._places(tx, generation, event_type)
        body = build_body(
            type=event_type,
            occurred_at=tx.now / 1000,
            generation=generation_view(generation, self._links),
            run=generation["run"],
            sequence=generation["sequence"],
        )
        event_id = new_id("evt", tx.now, self._random)
        inserted = tx.insert(
            "webhook_event",
            {
                "id": event_id,
                "tenant_id": generation["tenant_id"],
                "generation_id": generation["id"],
                "run": generation["run"],
                "sequence": generation["sequence"],
                "type": event_type,
                "terminal": int(event_type in TERMINAL),
                "body": body.decode(),
                "created_at": tx.now,
            },
            on_conflict="DO NOTHING",
            returning="id",
        )
        if inserted is None:
            return None
        for place in places:
            self._address(tx, generation["tenant_id"], event_id, place)
        return event_id

    @staticmethod
    def _places(tx: Tx, generation: Row, event_type: str) -> list[Row]:
        """The endpoints of the tenant that want this type, and the request's own URL.

        One that answered 410 still gets its deliveries: they end dead at once, listed, and can be sent again.
        """
        endpoints = tx.all(
            "SELECT * FROM webhook_endpoint WHERE tenant_id = :tenant"
            " AND (disabled_at IS NULL OR disabled_reason <> :unset)",
            {"tenant": generation["tenant_id"], "unset": UNSET},
        )
        wanted = [row for row in endpoints if event_type in json.loads(row["events"])]
        if generation["webhook_url"]:
            own = json.loads(generation["webhook_events"]) if generation["webhook_events"] else DEFAULT
            if event_type in own:
                wanted.append({"id": PER_REQUEST, "url": generation["webhook_url"], "secret_ref": FROM_SETTINGS})
        return wanted

    def _address(self, tx: Tx, tenant: str, event_id: str, place: Row) -> None:
        delivery_id = new_id("dlv", tx.now, self._random)
        first = self._policy.schedule[0] if self._policy.schedule else 0.0
        tx.insert(
            "webhook_delivery",
            {
                "id": delivery_id,
                "tenant_id": tenant,
                "event_id": event_id,
                "endpoint_id": place["id"],
                "url": place["url"] if place["id"] == PER_REQUEST else None,
                "secret_ref": place["secret_ref"],
                "redelivery": 0,
                "state": "pending",
                "attempts": 0,
                "created_at": tx.now,
                "next_at": tx.now + int(first * 1000),
            },
        )
        job = queue.NewJob(JobKind.DELIVERY, delivery_id, tenant, _lane(place), Step.DELIVER, delay=first)
        queue.enqueue(tx, job)

    # --- delivering: a handler of the worker --------------------------------------------------------------------------

    def load(self, tx: Tx, claims: Sequence[Claim]) -> Mapping[int, _Subject]:
        """The delivery, its event and its endpoint, by job id."""
        subjects = {}
        for claim in claims:
            delivery = tx.one("SELECT * FROM webhook_delivery WHERE id = :id", {"id": claim.subject_id})
            event = delivery and tx.one("SELECT * FROM webhook_event WHERE id = :id", {"id": delivery["event_id"]})
            if delivery and event:
                endpoint = tx.one("SELECT * FROM webhook_endpoint WHERE id = :id", {"id": delivery["endpoint_id"]})
                subjects[claim.id] = _Subject(delivery, event, endpoint)
        return subjects

    async def run(self, turn: Turn) -> Report:
        """One attempt: sign afresh, send the frozen bytes, judge the answer."""
        subject: _Subject = turn.subject
        if subject.endpoint is not None and subject.endpoint["disabled_at"] is not None:
            if subject.endpoint["disabled_reason"] == UNSET:
                return Report(NotYet(UNSET_SECONDS))
            fault = Fault("endpoint_disabled", subject.endpoint["disabled_reason"] or "the endpoint is switched off")
            return Report(Failed(fault))
        body = subject.event["body"].encode()
        headers = build_headers(
            self._secrets,
            event_id=subject.event["id"],
            timestamp=int(self._clock.now()),
            body=body,
            attempt=subject.delivery["attempts"] + 1,
        )
        result = await send(
            self._client,
            subject.url,
            headers=headers,
            body=body,
            timeout=self._timeout,
            now=self._clock.now,
            exchange=Exchange(),
        )
        return Report(
            _outcome(result),
            patch={"result": result},
            fields={
                "generation": subject.event["generation_id"],
                "webhook": subject.event["type"],
                "http_status": result.status,
                "reason": result.reason,
                "send_ms": result.ms,
            },
        )

    def record_turn(self, tx: Tx, turn: Turn, report: Report) -> Decision | None:
        """Write the attempt and what follows from it. None if the lease was lost."""
        try:
            locked = queue.lock(tx, turn.claim)
        except LeaseLost:
            return None
        decision = decide(
            report.outcome,
            step=Step.DELIVER,
            attempts=turn.claim.attempts,
            policy=self._policy,
            cancel_requested=bool(locked["cancel_requested"]),
            jitter=self._uniform(),
        )
        if isinstance(decision, Fail):
            decision = DeadLetter(decision.fault)
        queue.acknowledge(tx, turn.claim, decision, wake_seq=locked["wake_seq"])
        self._write_attempt(tx, turn, report.patch.get("result"), decision)
        return decision

    def _write_attempt(self, tx: Tx, turn: Turn, result: object, decision: Decision) -> None:
        subject: _Subject = turn.subject
        number = subject.delivery["attempts"] + 1
        values: dict[str, object] = {"state": _STATE.get(type(decision), "pending"), "next_at": None}
        if isinstance(result, SendResult):
            values |= {"attempts": number, "last_error": None if judge(result) == Delivered() else result.detail}
            self._insert_attempt(tx, subject, number, result)
            if judge(result) == Gone():
                self._disable(tx, subject, result)
        elif isinstance(decision, DeadLetter):
            values["last_error"] = decision.fault.message
        if values["state"] == "pending":
            values["next_at"] = tx.value("SELECT scheduled_for FROM job WHERE id = :id", {"id": turn.claim.id})
        else:
            values["finished_at"] = tx.now
        tx.update("webhook_delivery", values, "id = :id", {"id": subject.delivery["id"]})

    def _insert_attempt(self, tx: Tx, subject: _Subject, number: int, result: SendResult) -> None:
        tx.insert(
            "webhook_attempt",
            {
                "id": new_id("att", tx.now, self._random),
                "tenant_id": subject.delivery["tenant_id"],
                "delivery_id": subject.delivery["id"],
                "attempt": number,
                "url": subject.url,
                "address": result.address,
                "status": result.status,
                "reason": result.reason,
                "detail": result.detail,
                "response": result.response.decode("utf-8", "replace").replace("\x00", "�"),
                "ms": result.ms,
                "at": tx.now,
            },
        )

    @staticmethod
    def _disable(tx: Tx, subject: _Subject, result: SendResult) -> None:
        if subject.endpoint is None:
            return
        changed = tx.run(
            "UPDATE webhook_endpoint SET disabled_at = :now, disabled_reason = :reason"
            " WHERE id = :id AND disabled_at IS NULL",
            {"now": tx.now, "reason": result.detail, "id": subject.endpoint["id"]},
        )
        if changed:
            emit("webhook.disabled", level=30, endpoint=subject.endpoint["id"], detail=result.detail)


_STATE: dict[type, str] = {Complete: "delivered", DeadLetter: "dead", Cancel: "cancelled"}


def _outcome(result: SendResult) -> Outcome:
    verdict = judge(result)
    if isinstance(verdict, Delivered):
        return Done()
    fault = Fault(f"webhook_{result.reason}", result.detail)
    if isinstance(verdict, Gone):
        return Failed(fault)
    return Failed(fault, retryable=True, retry_after=verdict.retry_after)


def _lane(place: Row) -> str:
    """Deliveries share a lane with what goes to the same place, so that a slow receiver keeps only itself waiting."""
    if place["id"] == PER_REQUEST:
        return f"endpoint:{urlsplit(place['url']).netloc.rpartition('@')[2].lower()}"
    return f"endpoint:{place['id']}"


def set_default_endpoint(tx: Tx, *, url: str | None, events: Sequence[str], tenant: str) -> None:
    """Make WEBHOOK_URL the tenant's default endpoint, or switch that off when it is unset.

    Called at every start, which therefore opens an endpoint that a 410 had switched off.
    """
    if url is None:
        tx.run(
            "UPDATE webhook_endpoint SET disabled_at = :now, disabled_reason = :unset WHERE id = :id",
            {"now": tx.now, "unset": UNSET, "id": DEFAULT_ENDPOINT},
        )
        return
    tx.run(
        "INSERT INTO webhook_endpoint (id, tenant_id, url, events, secret_ref, created_at)"
        " VALUES (:id, :tenant, :url, :events, :secret_ref, :now)"
        " ON CONFLICT (id) DO UPDATE SET events = excluded.events, url = excluded.url,"
        " disabled_at = NULL, disabled_reason = NULL",
        {
            "id": DEFAULT_ENDPOINT,
            "tenant": tenant,
            "url": url,
            "events": json.dumps(list(events)),
            "secret_ref": FROM_SETTINGS,
            "now": tx.now,
        },
    )


def deliveries(tx: Tx, generation_id: str) -> list[Row]:
    """The deliveries of a generation's events, oldest first, with their type."""
    return tx.all(
        "SELECT d.*, e.type FROM webhook_delivery d JOIN webhook_event e ON e.id = d.event_id"
        " WHERE e.generation_id = :id ORDER BY d.id",
        {"id": generation_id},
    )


def attempts(tx: Tx, delivery_id: str) -> list[Row]:
    """Every attempt of a delivery, oldest first."""
    return tx.all("SELECT * FROM webhook_attempt WHERE delivery_id = :id ORDER BY id", {"id": delivery_id})


def prune(tx: Tx, *, before: int, limit: int) -> int:
    """Delete deliveries that ended well before a time, with their attempts. Events stay with their generation."""
    old = tx.all(
        "SELECT id FROM webhook_delivery WHERE finished_at IS NOT NULL AND finished_at < :before"
        " AND state <> 'dead' ORDER BY finished_at LIMIT :limit",
        {"before": before, "limit": limit},
    )
    for row in old:
        tx.run("DELETE FROM webhook_attempt WHERE delivery_id = :id", row)
        tx.run("DELETE FROM webhook_delivery WHERE id = :id", row)
    return len(old)
