"""The submit protocol: intend, commit, one POST, classify, write the answer. Nothing here is ever sent a second
time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pipeline import admission, chain, ledger, queue, timeline
from pipeline.admission import Closed
from pipeline.db import Row, Tx
from pipeline.ids import new_id
from pipeline.lifecycle import (
    Busy,
    Done,
    Failed,
    Fault,
    GenerationStatus,
    NotYet,
    Stage,
    Step,
    Stopped,
    SubmissionOutcome,
    Unknown,
    move,
)
from pipeline.schemas import video_request
from pipeline.storage import ObjectMissing, StorageError
from pipeline.turn import Report, Turn
from pipeline.workflow.arriving import accept, adopted
from pipeline.workflow.fallback import or_elsewhere, shut
from pipeline.workflow.parts import Parts, Subject, fault_of, pace_for, subject_of
from pipeline.workflow.strays import STRAY_WAIT, Found, look_into
from providers import base
from providers.base import Accepted, ErrorCode, Operation, ProviderError, Rejected, SubmitContext, SubmitResult
from providers.checks import list_price, settled
from webhooks.events import EventType

PROCESS_ENDED = ProviderError(ErrorCode.TRANSIENT, "our process ended between the intent to pay and its answer")
STOPPED_WAITING = ProviderError(ErrorCode.TRANSIENT, "our process was stopped while it waited for the answer")
NEVER_SENT = ProviderError(ErrorCode.TRANSIENT, "the lease ended before anything was sent", billed=False)
OUR_END = "process_ended"
"""The code of both: the provider is not to blame."""
MIN_PAUSE = 1.0
"""Seconds that a provider's lane is closed at least for its 429."""
PAUSING = frozenset({ErrorCode.AUTH, ErrorCode.QUOTA})
REQUESTS_FAULT = frozenset({ErrorCode.INVALID_REQUEST, ErrorCode.MODERATION, ErrorCode.NOT_FOUND})
"""A provider that refuses so would have taken another request: it works."""

Fact = Callable[[Tx], object]


async def submit(parts: Parts, turn: Turn) -> Report:
    """One turn of the submit step. What was taken of earlier calls is looked into before anything is paid: the ledger
    goes on with it, if there is such (see `meanwhile.overtaken`)."""
    found = await look_into(parts, turn)
    report = _instead(parts, turn, found) or await _submit(parts, turn)
    report.facts = [*found.facts, *report.facts]
    return report


def _instead(parts: Parts, turn: Turn, found: Found) -> Report | None:
    """What is to be done before, or instead of, a new call; None if one may be made."""
    subject = subject_of(turn)
    if subject.open_submission is not None:
        return _found(parts, subject.generation, subject.open_submission)
    if subject.generation["cancel_requested_at"] is not None:
        return Report(Stopped())
    if found.facts:
        return Report(NotYet(0.0))
    waited = (parts.clock.now_ms() - _waiting_since(subject)) / 1000
    if waited > parts.policies.queue_timeout:
        message = f"no provider took it within {parts.policies.queue_timeout:g} s (QUEUE_TIMEOUT)"
        return Report(Failed(Fault("deadline_exceeded", message, retryable=True), exhausted=True))
    if found.waiting:
        return Report(NotYet(STRAY_WAIT))
    if subject.closed is not None:
        return shut(parts, subject.generation, subject.closed)
    if subject.submissions >= parts.policies.max_submissions:
        message = f"{subject.submissions} submissions were made, which is MAX_SUBMISSIONS"
        return Report(Failed(Fault("max_submissions", message), exhausted=True))
    return None


def _waiting_since(subject: Subject) -> int:
    """When it began to wait for its next call, in milliseconds: when it was asked for, when the call before, which was
    more than a plain refusal, was done with, or when a pause by hand ended. `admission.funding` counts the same. Pure.
    """
    asked = subject.generation["redriven_at"] or subject.generation["created_at"]
    done = [row["closed_at"] for row in subject.history if row["closed_at"] is not None and ledger.took_time(row)]
    return int(max([asked, subject.paused_until, *done]))


async def _submit(parts: Parts, turn: Turn) -> Report:
    """Intend, pay once, and say what came of it."""
    subject = subject_of(turn)
    provider = parts.providers[subject.generation["provider"]]
    try:
        request = video_request(subject.generation, *await input_images(parts, subject.generation))
    except StorageError as error:
        return Report(Failed(Fault(error.code, f"the input image cannot be read: {error}"), retryable=True))
    token = new_id("sub", parts.clock.now_ms(), parts.random)
    catalogue = provider.capabilities.catalogue
    request, amount = settled(request, catalogue), list_price(request, catalogue)
    turn.paying = True
    intended = await parts.db.write(lambda tx: _intend(parts, turn, tx, token, amount), key=turn.claim.id)
    if isinstance(intended, Stopped | NotYet):
        return Report(intended)
    if isinstance(intended, Closed):
        return _not_now(parts, subject.generation, intended, amount)
    subject.generation = intended
    if not turn.lease.valid():
        return Report(
            NotYet(0.0),
            facts=[lambda tx: ledger.reject(tx, token, NEVER_SENT)],
            notes=[("submit.rejected", {"code": NEVER_SENT.code, "reason": NEVER_SENT.message})],
        )
    result = await pay_once(parts, provider, request, token)
    return answered(parts, turn, token, result)


def _not_now(parts: Parts, generation: Row, closed: Closed, amount: int) -> Report:
    """Nothing may be sent. Admission is to set the price of today aside, should it have changed since the request."""
    report = shut(parts, generation, closed)
    if amount != generation["estimate_micros"]:
        report.patch = {**report.patch, "estimate_micros": amount}
    return report


def _found(parts: Parts, generation: Row, submission: Row) -> Report:
    """A submission is open already: an earlier turn wrote it and did not live to see what came of it."""
    token = submission["token"]
    match SubmissionOutcome(submission["outcome"]):
        case SubmissionOutcome.ACCEPTED:
            return Report(Done(Step.POLL), patch=adopted(generation, submission, parts.clock.now_ms()))
        case SubmissionOutcome.INTENDED:
            return Report(
                Unknown(fault_of(PROCESS_ENDED, code=OUR_END)),
                facts=[lambda tx: ledger.mark_unknown(tx, token, PROCESS_ENDED, answered=False, code=OUR_END)],
                notes=[("submit.unknown", {"reason": PROCESS_ENDED.message})],
            )
    return Report(Unknown(Fault("submit_unknown", submission["error_message"] or PROCESS_ENDED.message)))


async def input_images(parts: Parts, generation: Row) -> tuple[bytes | None, bytes | None]:
    """The pictures that came with the request as bytes, the first and the last, from storage. Raises StorageError."""
    first = await _input_image(parts, generation["input_key"], generation["input_type"])
    return first, await _input_image(parts, generation["last_input_key"], generation["last_input_type"])


async def _input_image(parts: Parts, key: str | None, kind: str | None) -> bytes | None:
    if key is None:
        if kind is not None:
            raise ObjectMissing("a picture of the request was kept for KEEP_INPUTS and is gone")
        return None
    return await parts.storage.read(key, parts.max_image_bytes)


def _intend(parts: Parts, turn: Turn, tx: Tx, token: str, amount: int) -> Row | Closed | Stopped | NotYet:
    """T1: under the fence, one commit says that we are about to pay `amount` micro-USD. Returns the row as it is now,
    why nothing may be sent just now, or what goes before: a cancel, or news that came since the claim. Raises
    LeaseLost.
    """
    claim, generation = turn.claim, dict(subject_of(turn).generation)
    locked = queue.lock(tx, claim)
    if locked["cancel_requested"]:
        return Stopped()
    if locked["wake_seq"] != claim.wake_seq:
        return NotYet(0.0)
    strict = claim.attempts > 0 or chain.has_fallback(generation)
    closed = admission.gate(tx, claim.lane, parts.bounds, strict=strict)
    closed = closed or admission.cover(tx, parts.purse, generation, amount)
    if closed is not None:
        return closed
    recovery = parts.providers[generation["provider"]].capabilities.recovery
    rings = parts.callback_url(generation["provider"], token) is not None
    if not ledger.intend(tx, generation, token=token, estimate_micros=amount, recovery=recovery, rings=rings):
        raise queue.LeaseLost(f"generation {generation['id']} has an open submission already")
    first = generation["status"] == GenerationStatus.QUEUED
    told = first and parts.outbox.wanted(tx, generation, EventType.PROCESSING)
    generation |= {
        "status": move(GenerationStatus(generation["status"]), GenerationStatus.PROCESSING),
        "stage": Stage.SUBMITTING,
        "started_at": generation["started_at"] or tx.now,
        "updated_at": tx.now,
        "sequence": generation["sequence"] + int(told),
        "reserved_micros": 0,
    }
    columns = ("status", "stage", "started_at", "updated_at", "sequence", "reserved_micros")
    tx.update("generation", {name: generation[name] for name in columns}, "id = :id", {"id": generation["id"]})
    timeline.note_turn(tx, claim, generation, "submit.intended", provider=generation["provider"], submission=token)
    if told:
        parts.outbox.record(tx, generation, EventType.PROCESSING)
    return generation


async def pay_once(parts: Parts, provider: base.Provider, request: base.VideoRequest, token: str) -> SubmitResult:
    """The one POST. Neither a lost lease nor a stop makes us forget that it may have been sent."""
    context = SubmitContext(token, parts.callback_url(provider.name, token))
    try:
        async with asyncio.timeout(parts.policies.submit_timeout):
            return await provider.submit(request, context)
    except TimeoutError:
        message = f"no answer within {parts.policies.submit_timeout:g} s (SUBMIT_TIMEOUT)"
        return base.Unknown(ProviderError(ErrorCode.TRANSIENT, message))
    except asyncio.CancelledError:
        return base.Unknown(STOPPED_WAITING)


def answered(parts: Parts, turn: Turn, token: str, result: SubmitResult) -> Report:
    """What a submit's answer means for the ledger, the lane and the generation."""
    lane = turn.claim.lane
    match result:
        case Accepted(operation):
            return _accepted(parts, turn, token, operation)
        case Rejected(error):
            return _rejected(parts, turn, token, error)
        case base.Unknown(error):
            pause, code = parts.policies.lane_pause, OUR_END if error is STOPPED_WAITING else None
            return Report(
                Unknown(fault_of(error, code=code)),
                facts=[
                    lambda tx: ledger.mark_unknown(tx, token, error, answered=True, code=code),
                    lambda tx: admission.note_unknown(tx, lane, seconds=pause),
                ],
                notes=[("submit.unknown", {"reason": error.message, "http_status": error.http_status})],
            )


def _accepted(parts: Parts, turn: Turn, token: str, operation: Operation) -> Report:
    generation = subject_of(turn).generation
    return Report(
        Done(Step.POLL, parts.policies.first_poll(pace_for(parts, generation))),
        patch={
            "operation": ledger.operation_json(operation, token),
            "accepted_at": parts.clock.now_ms(),
        },
        facts=[
            lambda tx: accept(tx, generation, token, operation),
            lambda tx: admission.note_answer(tx, turn.claim.lane, well=True),
        ],
        notes=[("submit.accepted", {"operation": operation.id})],
        fields={"operation": operation.id},
    )


def _rejected(parts: Parts, turn: Turn, token: str, error: ProviderError) -> Report:
    lane, well = turn.claim.lane, error.code in REQUESTS_FAULT
    facts: list[Fact] = [lambda tx: ledger.reject(tx, token, error)]
    if error.http_status is not None:
        facts.append(lambda tx: admission.note_answer(tx, lane, well=well))
    notes = [("submit.rejected", {"code": error.code, "reason": error.message, "http_status": error.http_status})]
    report = Report(_after_refusal(error, parts.policies.lane_pause), facts=facts, notes=notes)
    return or_elsewhere(parts, subject_of(turn).generation, report)


def _after_refusal(error: ProviderError, lane_pause: float) -> Busy | Failed:
    """What follows where nobody else can be asked: a provider that works for nobody is left alone for a while."""
    fault = fault_of(error)
    if error.code is ErrorCode.RATE_LIMITED:
        wait = lane_pause / 4 if error.retry_after is None else max(MIN_PAUSE, error.retry_after)
        return Busy(fault, min(wait, admission.MAX_PAUSE))
    if error.code in PAUSING:
        return Busy(fault, lane_pause)
    if error.code is ErrorCode.TRANSIENT and error.http_status is None:
        return Busy(fault, lane_pause / 4)
    return Failed(fault, retryable=error.retryable, retry_after=error.retry_after)
