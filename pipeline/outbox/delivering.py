"""Delivering: the worker's handler for deliveries. One attempt per turn, judged and recorded."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import httpx

from pipeline import queue
from pipeline.clock import Clock
from pipeline.db import Row, Tx
from pipeline.keys import CannotOpen
from pipeline.lifecycle import (
    Cancel,
    Complete,
    DeadLetter,
    Decision,
    Done,
    Fail,
    Failed,
    Fault,
    NotYet,
    Outcome,
    Retry,
    RetryPolicy,
    Snooze,
    Step,
    Stopped,
    decide,
)
from pipeline.links import Links
from pipeline.outbound import Exchange
from pipeline.outbox import order, secrets
from pipeline.outbox.attempts import AttemptOf, insert_attempt, proxy_wait
from pipeline.outbox.ended import forget_told
from pipeline.outbox.endpoints import OWN, UNSET
from pipeline.outbox.recording import Recorder
from pipeline.outbox.signatory import Signatory
from pipeline.outbox.standing import Breaker, Standing
from pipeline.queue import Claim, LeaseLost
from pipeline.traces import Tracing
from pipeline.turn import Report, Turn
from webhooks.sender import Delivered, Gone, SendResult, build_headers, judge, send

DISABLED = "endpoint_disabled"
SEALED_AWAY = "endpoint_sealed_away"
UNSET_SECONDS = 600.0
"""How often a delivery looks whether WEBHOOK_URL is set again."""


@dataclass(frozen=True, slots=True)
class _Subject:
    """What a delivery's turn works on."""

    delivery: Row
    event: Row
    endpoint: Row | None
    waits: float = 0.0
    """Seconds for which it waits for an earlier event, at most."""
    secrets: Sequence[Row] = ()
    """The endpoint's own secrets that are live, sealed."""

    @property
    def url(self) -> str:
        return str(self.endpoint["url"] if self.endpoint else self.delivery["url"])


_EVENT = """
SELECT e.*, (SELECT traceparent FROM generation g WHERE g.id = e.generation_id) AS traceparent
FROM webhook_event e WHERE e.id = :id"""


class Outbox(Recorder):
    """Records events and delivers them.

    Args:
        links: how generations are shown in bodies.
        signatory: signs.
        client: guarded, for addresses that somebody else chose.
        policy: when a failed delivery is tried again.
        timeout: seconds for one attempt as a whole.
        uniform: a random number in 0..1, for jitter.
        breaker: when an endpoint is left alone, and when it is switched off.
        tracing: the place of an attempt in the trace of its generation.
    """

    def __init__(
        self,
        *,
        links: Links,
        signatory: Signatory,
        client: httpx.AsyncClient,
        policy: RetryPolicy,
        timeout: float,
        clock: Clock,
        uniform: Callable[[], float],
        random: Callable[[int], bytes] = os.urandom,
        tracing: Tracing | None = None,
        breaker: Breaker | None = None,
    ) -> None:
        super().__init__(links=links, policy=policy, random=random)
        self._signatory = signatory
        self._client = client
        self._timeout = timeout
        self._clock = clock
        self._uniform = uniform
        self._tracing = tracing or Tracing()
        self._standing = Standing(breaker or Breaker(), random)

    def load(self, tx: Tx, claims: Sequence[Claim]) -> Mapping[int, _Subject]:
        """The delivery, its event and its endpoint, by job id."""
        subjects = {}
        for claim in claims:
            delivery = tx.one("SELECT * FROM webhook_delivery WHERE id = :id", {"id": claim.subject_id})
            event = delivery and tx.one(_EVENT, {"id": delivery["event_id"]})
            if delivery and event:
                endpoint = tx.one("SELECT * FROM webhook_endpoint WHERE id = :id", {"id": delivery["endpoint_id"]})
                ordered = endpoint is not None and endpoint["ordered"]
                waits = order.wait(tx, delivery, event, first=self.first) if ordered else 0.0
                own = secrets.live(tx, [endpoint["id"]]) if endpoint and endpoint["secret_ref"] == OWN else ()
                subjects[claim.id] = _Subject(delivery, event, endpoint, waits, own)
        return subjects

    async def run(self, turn: Turn) -> Report:
        """One attempt: sign afresh, send the frozen bytes, judge the answer."""
        subject: _Subject = turn.subject
        unsent = _unsent(subject)
        if unsent is not None:
            return Report(unsent)
        body = subject.event["body"].encode()
        try:
            headers = self._headers(subject, body)
        except CannotOpen as error:
            said = f"the endpoint's secret or headers cannot be opened: {error}. Bring back the SECRET_KEY that was set"
            return Report(Failed(Fault(SEALED_AWAY, f"{said}, or rotate its secret"), retryable=True))
        parent = subject.event["traceparent"]
        trace = self._tracing.child(parent)
        if trace is not None:
            headers["traceparent"] = trace
        result = await send(
            self._client,
            subject.url,
            headers=headers,
            body=body,
            timeout=self._timeout,
            now=self._clock.now,
            exchange=Exchange(),
        )
        age_ms = max(0, self._clock.now_ms() - subject.delivery["created_at"])
        wait = proxy_wait(result, age=age_ms / 1000, policy=self._policy)
        return Report(
            _outcome(result) if wait is None else NotYet(wait),
            patch={"result": result},
            fields={
                "generation": subject.event["generation_id"],
                "webhook": subject.event["type"],
                "http_status": result.status,
                "reason": result.reason,
                "send_ms": result.ms,
                "trace": trace,
                "parent": parent,
                "age_ms": age_ms,
            },
        )

    def _headers(self, subject: _Subject, body: bytes) -> dict[str, str]:
        """Every header, freshly signed; the endpoint's own cannot take the place of ours. Raises CannotOpen."""
        signed = build_headers(
            self._signatory.secrets(subject.endpoint, subject.secrets),
            event_id=subject.event["id"],
            timestamp=int(self._clock.now()),
            body=body,
            attempt=subject.delivery["attempts"] + 1,
        )
        return {**self._signatory.headers(subject.endpoint), **signed}

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
        values: dict[str, object] = {"state": _STATE.get(type(decision), "pending"), "next_at": None}
        if isinstance(result, SendResult):
            values |= self._charge(tx, turn, result, decision)
        elif isinstance(decision, DeadLetter | Retry):
            values |= {"last_error": decision.fault.message, "error_code": decision.fault.code}
        if values["state"] == "pending":
            values["next_at"] = tx.value("SELECT scheduled_for FROM job WHERE id = :id", {"id": turn.claim.id})
        else:
            values["finished_at"] = tx.now
        tx.update("webhook_delivery", values, "id = :id", {"id": subject.delivery["id"]})
        if values["state"] != "pending":
            self._end(tx, subject, decision)

    def _charge(self, tx: Tx, turn: Turn, result: SendResult, decision: Decision) -> dict[str, object]:
        """Write an attempt and what it says of the endpoint; one that our own proxy stopped is none."""
        subject: _Subject = turn.subject
        well = judge(result) == Delivered()
        told: dict[str, object] = {"last_error": None, "error_code": None}
        if not well:
            told = {"last_error": result.detail, "error_code": _code(result)}
        if isinstance(decision, Snooze):
            tx.emit("webhook.unproxied", level=logging.WARNING, delivery=subject.delivery["id"], detail=result.detail)
            return told
        number, lane = subject.delivery["attempts"] + 1, turn.claim.lane
        insert_attempt(tx, AttemptOf(subject.delivery, lane, number, subject.url), result, self._random)
        self._judge_endpoint(tx, turn, result)
        return told | {"attempts": number}

    def _end(self, tx: Tx, subject: _Subject, decision: Decision) -> None:
        """What follows from the end of a delivery for others."""
        forget_told(tx, subject.event["generation_id"], subject.event["id"])
        if subject.endpoint is not None and subject.endpoint["ordered"]:
            order.ended(tx, subject.delivery, subject.event, first=self.first)
        if isinstance(decision, DeadLetter) and decision.fault.code != DISABLED:
            self._standing.dead(tx, subject.delivery, subject.event, decision.fault.message)

    def _judge_endpoint(self, tx: Tx, turn: Turn, result: SendResult) -> None:
        """What follows from an attempt for all that goes to the same place."""
        lane, endpoint = turn.claim.lane, turn.subject.endpoint
        match judge(result):
            case Delivered():
                self._standing.delivered(tx, lane, endpoint)
            case Gone():
                self._standing.disable(tx, lane, endpoint, result.detail)
            case _:
                self._standing.failed(tx, lane, endpoint, result)


def _unsent(subject: _Subject) -> Outcome | None:
    """Why nothing is sent now, if that is so."""
    endpoint = subject.endpoint
    if endpoint is not None and endpoint["deleted_at"] is not None:
        return Stopped()
    if endpoint is not None and endpoint["disabled_at"] is not None:
        if endpoint["disabled_reason"] == UNSET:
            return NotYet(UNSET_SECONDS)
        return Failed(Fault(DISABLED, endpoint["disabled_reason"] or "the endpoint is switched off"))
    return NotYet(subject.waits) if subject.waits else None


_STATE: dict[type, str] = {Complete: "delivered", DeadLetter: "dead", Cancel: "cancelled"}


def _code(result: SendResult) -> str:
    return f"webhook_{result.reason}"


def _outcome(result: SendResult) -> Outcome:
    verdict = judge(result)
    if isinstance(verdict, Delivered):
        return Done()
    fault = Fault(_code(result), result.detail)
    if isinstance(verdict, Gone):
        return Failed(fault)
    return Failed(fault, retryable=True, retry_after=verdict.retry_after)
