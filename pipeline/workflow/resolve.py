"""A paid call ended without an answer: find out what came of it by whatever the provider offers, and never pay again
blindly.

In this order: a callback's candidate, confirmed by a poll of our own; the same token sent again within its lifetime; a
lookup by token; waiting while a callback, or our own late answer, can still come. Then the policy ON_UNKNOWN_SUBMIT.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pipeline import chain, ledger
from pipeline.db import Row, Tx
from pipeline.lifecycle import Busy, Done, Failed, Fault, NotYet, Parked, Step, Stopped, SubmissionOutcome
from pipeline.schemas import video_request
from pipeline.storage import StorageError
from pipeline.turn import Report, Turn
from pipeline.workflow.arriving import accept, adopted
from pipeline.workflow.parts import Parts, ask, fault_of, subject_of
from pipeline.workflow.submit import input_images, pay_once
from providers.base import (
    Accepted,
    Capabilities,
    ErrorCode,
    Operation,
    Provider,
    ProviderError,
    Rejected,
)
from providers.checks import settled

NOT_THERE = ProviderError(ErrorCode.NOT_FOUND, "the provider lists nothing under our token", billed=False)
GIVEN_UP = ProviderError(ErrorCode.TRANSIENT, "whether the provider took the work cannot be found out")
NOT_TAKEN = Fault("not_taken", "the submission is closed: a new one may be made")
MAX_WAIT = 30.0
MAX_ASKED = 600.0
"""Seconds: what a provider asks us to wait is honoured so far, since a paid call hangs on it."""
REFUSALS = 5
"""So many times a repeat may be refused before nothing more is expected of it."""


async def resolve(parts: Parts, turn: Turn) -> Report:
    """One turn of the resolve step."""
    subject = subject_of(turn)
    submission = subject.open_submission
    if submission is not None and submission["outcome"] == SubmissionOutcome.ACCEPTED:
        return Report(Done(Step.POLL), patch=adopted(subject.generation, submission, parts.clock.now_ms()))
    if subject.generation["cancel_requested_at"] is not None:
        return Report(Stopped(), notes=[("cancel.unresolved", {"billed": "unknown"})])
    if submission is None:
        return _closed(parts, subject.history)
    provider = parts.providers[subject.generation["provider"]]
    age = (parts.clock.now_ms() - submission["intended_at"]) / 1000
    try:
        return (
            await _candidate(parts, turn, provider, submission)
            or await _send_again(parts, turn, provider, submission, age)
            or await _look_up(parts, turn, provider, submission)
            or _wait(parts, turn, provider.capabilities, submission, age)
            or _give_up(parts, submission)
        )
    except (ProviderError, StorageError) as error:
        return _not_now(parts, turn, submission, error, age)


def _closed(parts: Parts, history: Sequence[Row]) -> Report:
    """An earlier turn closed the call and did not live to say what follows. Only what surely was not taken is followed
    by a new one; what was given up only where the policy says so."""
    last = history[-1] if history else None
    if last is None or last["outcome"] == SubmissionOutcome.REJECTED:
        return Report(Busy(NOT_TAKEN))
    if last["outcome"] == SubmissionOutcome.ABANDONED and parts.policies.on_unknown == "resubmit":
        return Report(Busy(NOT_TAKEN))
    return Report(Failed(Fault("submit_unknown", last["error_message"] or GIVEN_UP.message), exhausted=True))


def _not_now(parts: Parts, turn: Turn, submission: Row, error: ProviderError | StorageError, age: float) -> Report:
    """The way to find out is itself broken: try for as long as a generation may take, then give up."""
    if age > parts.policies.submit_timeout + parts.policies.generation_timeout:
        return _give_up(parts, submission)
    wait = max(getattr(error, "retry_after", None) or 0.0, _pause(parts, turn))
    notes = [("resolve.failed", {"code": str(error.code), "reason": str(error)})]
    return Report(NotYet(min(wait, MAX_ASKED)), notes=notes)


def _pause(parts: Parts, turn: Turn) -> float:
    """Seconds to the next look: longer each time."""
    return min(MAX_WAIT, parts.policies.retry_base * 1.5 ** min(turn.claim.polls, 20)) * (0.8 + 0.4 * parts.uniform())


def _adopt(parts: Parts, turn: Turn, submission: Row, operation: Operation, how: str) -> Report:
    token, generation = submission["token"], subject_of(turn).generation
    return Report(
        Done(Step.POLL),
        patch={"operation": ledger.operation_json(operation, token), "accepted_at": parts.clock.now_ms()}
        | chain.of_submission(generation, submission),
        facts=[lambda tx: accept(tx, generation, token, operation)],
        notes=[("submit.resolved", {"operation": operation.id, "by": how})],
        fields={"operation": operation.id},
    )


async def _candidate(parts: Parts, turn: Turn, provider: Provider, submission: Row) -> Report | None:
    """A callback named an operation: it is believed once the provider shows it to our own key."""
    if submission["candidate_operation_id"] is None:
        return None
    operation = Operation(submission["candidate_operation_id"], {"model": submission["model"]})
    try:
        await ask(provider.poll(operation))
    except ProviderError as error:
        if error.code is not ErrorCode.NOT_FOUND:
            raise
        return None
    return _adopt(parts, turn, submission, operation, "callback")


async def _send_again(parts: Parts, turn: Turn, provider: Provider, submission: Row, age: float) -> Report | None:
    """The provider charges a token once, however often it comes: send the same request again.

    A refusal of the repeat says nothing of the first call, which may have taken the last of the credit: it stays
    unknown.
    """
    lifetime = provider.capabilities.recovery.idempotency_seconds
    if lifetime is None or age > lifetime or "key" not in submission["carries"].split():
        return None
    generation = subject_of(turn).generation
    request = video_request(generation, *await input_images(parts, generation))
    request = settled(request, provider.capabilities.catalogue)
    if not turn.lease.valid():
        return Report(NotYet(0.0))
    turn.paying = True
    result = await pay_once(parts, provider, request, submission["token"])
    if isinstance(result, Accepted):
        return _adopt(parts, turn, submission, result.operation, "idempotency key")
    if isinstance(result, Rejected) and not result.error.retryable and turn.claim.polls >= REFUSALS:
        return None
    wait = max(result.error.retry_after or 0.0, _pause(parts, turn))
    return Report(NotYet(min(wait, MAX_ASKED)), notes=[("resolve.unclear", {"reason": result.error.message})])


async def _look_up(parts: Parts, turn: Turn, provider: Provider, submission: Row) -> Report | None:
    """The provider lists work by token: what is not there after the quiet period was not taken.

    The period begins when no byte of our call can be under way any more: at the end of the call, or, where nobody saw
    it end, when its own time and that of a late answer are over.
    """
    quiet = provider.capabilities.recovery.lookup_quiet_seconds
    if quiet is None or "lookup" not in submission["carries"].split():
        return None
    operation = await ask(provider.lookup(submission["token"]))
    if operation is not None:
        return _adopt(parts, turn, submission, operation, "lookup")
    ended = submission["answered_at"] or submission["intended_at"] + parts.policies.own_answer * 1000
    left = quiet - (parts.clock.now_ms() - ended) / 1000
    if left > 0:
        return Report(NotYet(min(left, _pause(parts, turn))))
    token = submission["token"]
    return Report(
        Busy(NOT_TAKEN),
        facts=[lambda tx: ledger.reject(tx, token, NOT_THERE)],
        notes=[("submit.resolved", {"by": "lookup", "found": False})],
    )


def _wait(parts: Parts, turn: Turn, can: Capabilities, submission: Row, age: float) -> Report | None:
    """Something may still come by itself."""
    border = (can.recovery.callback_seconds or 0.0) if "callback" in submission["carries"].split() else 0.0
    if submission["answered_at"] is None:
        border = max(border, parts.policies.own_answer)
    return Report(NotYet(min(border - age, _pause(parts, turn) * 4))) if age < border else None


def _give_up(parts: Parts, submission: Row) -> Report:
    """No answer can come any more: what happens is for the operator's policy to say."""
    token = submission["token"]
    reason = submission["error_message"] or GIVEN_UP.message
    fault = fault_of(GIVEN_UP, code="submit_unknown", message=f"{GIVEN_UP.message}: {reason}", retryable=False)
    facts: list[Callable[[Tx], object]] = [lambda tx: ledger.abandon(tx, token, GIVEN_UP)]
    match parts.policies.on_unknown:
        case "hold":
            return Report(Parked(fault), notes=[("submit.parked", {"reason": fault.message})])
        case "resubmit":
            notes = [("submit.resubmit", {"reason": "ON_UNKNOWN_SUBMIT=resubmit: this may pay twice"})]
            return Report(Busy(NOT_TAKEN), facts=facts, notes=notes)
    return Report(Failed(Fault(fault.code, fault.message), exhausted=True), facts=facts)
