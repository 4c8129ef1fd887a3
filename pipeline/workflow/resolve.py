"""A paid call ended without an answer: find out what came of it by whatever the provider offers, and never pay again
blindly.

In this order: a callback's candidate, confirmed by a poll of our own; the same token sent again within its lifetime; a
lookup by token; waiting while a callback, or our own late answer, can still come. Then the policy ON_UNKNOWN_SUBMIT.
"""

from __future__ import annotations

from collections.abc import Callable

from pipeline import ledger
from pipeline.db import Row, Tx
from pipeline.lifecycle import Done, Failed, Fault, NotYet, Parked, Step, Stopped, SubmissionOutcome
from pipeline.schemas import video_request
from pipeline.turn import Report, Turn
from pipeline.workflow.parts import Parts, fault_of, subject_of
from pipeline.workflow.submit import adopted, answered, input_image, operation_json, pay_once
from providers.base import (
    Accepted,
    Capabilities,
    ErrorCode,
    Operation,
    Phase,
    Provider,
    ProviderError,
    Rejected,
)

NOT_THERE = ProviderError(ErrorCode.NOT_FOUND, "the provider lists nothing under our token", billed=False)
GIVEN_UP = ProviderError(ErrorCode.TRANSIENT, "whether the provider took the work cannot be found out")
MAX_WAIT = 30.0


async def resolve(parts: Parts, turn: Turn) -> Report:
    """One turn of the resolve step."""
    subject = subject_of(turn)
    submission = subject.open_submission
    if subject.generation["cancel_requested_at"] is not None:
        return Report(Stopped(), notes=[("cancel.unresolved", {"billed": "unknown"})])
    if submission is None:
        return Report(Done(Step.SUBMIT))
    if submission["outcome"] == SubmissionOutcome.ACCEPTED:
        return Report(Done(Step.POLL), patch=adopted(submission))
    provider = parts.providers[subject.generation["provider"]]
    age = (parts.clock.now_ms() - submission["intended_at"]) / 1000
    try:
        return (
            await _candidate(provider, submission)
            or await _send_again(parts, turn, provider, submission, age)
            or await _look_up(parts, turn, provider, submission, age)
            or _wait(parts, turn, provider.capabilities, submission, age)
            or _give_up(parts, submission)
        )
    except ProviderError as error:
        wait = max(error.retry_after or 0.0, _pause(parts, turn))
        return Report(NotYet(wait), notes=[("resolve.failed", {"code": error.code, "reason": error.message})])


def _pause(parts: Parts, turn: Turn) -> float:
    """Seconds to the next look: longer each time."""
    return min(MAX_WAIT, parts.policies.retry_base * 1.5 ** min(turn.claim.polls, 20)) * (0.8 + 0.4 * parts.uniform())


def _adopt(submission: Row, operation: Operation, how: str) -> Report:
    token = submission["token"]
    return Report(
        Done(Step.POLL),
        patch={"operation": operation_json(operation, token), "accepted_at": submission["intended_at"]},
        facts=[lambda tx: ledger.accept(tx, token, operation)],
        notes=[("submit.resolved", {"operation": operation.id, "by": how})],
        fields={"operation": operation.id},
    )


async def _candidate(provider: Provider, submission: Row) -> Report | None:
    """A callback named an operation: it is believed once the provider shows it to our own key."""
    if submission["candidate_operation_id"] is None:
        return None
    operation = Operation(submission["candidate_operation_id"])
    try:
        status = await provider.poll(operation)
    except ProviderError as error:
        if error.code is not ErrorCode.NOT_FOUND:
            raise
        token = submission["token"]
        return Report(NotYet(0.0), facts=[lambda tx: ledger.drop_candidate(tx, token)])
    assert status.phase in Phase
    return _adopt(submission, operation, "callback")


async def _send_again(parts: Parts, turn: Turn, provider: Provider, submission: Row, age: float) -> Report | None:
    """The provider charges a token once, however often it comes: send the same request again."""
    lifetime = provider.capabilities.recovery.idempotency_seconds
    if lifetime is None or age > lifetime:
        return None
    generation = subject_of(turn).generation
    request = video_request(generation, await input_image(parts, generation))
    if not turn.lease.valid():
        return Report(NotYet(0.0))
    turn.paying = True
    result = await pay_once(parts, provider, request, submission["token"])
    if isinstance(result, Accepted):
        return _adopt(submission, result.operation, "idempotency key")
    if isinstance(result, Rejected) and not result.error.retryable:
        return answered(parts, turn, submission["token"], result)
    wait = max(result.error.retry_after or 0.0, _pause(parts, turn))
    return Report(NotYet(wait), notes=[("resolve.unclear", {"reason": result.error.message})])


async def _look_up(parts: Parts, turn: Turn, provider: Provider, submission: Row, age: float) -> Report | None:
    """The provider lists work by token: what is not there after the quiet period was not taken."""
    quiet = provider.capabilities.recovery.lookup_quiet_seconds
    if quiet is None:
        return None
    operation = await provider.lookup(submission["token"])
    if operation is not None:
        return _adopt(submission, operation, "lookup")
    border = max(quiet, 0.0 if submission["answered_at"] else _own_answer_seconds(parts))
    if age < border:
        return Report(NotYet(min(border - age, _pause(parts, turn))))
    token = submission["token"]
    return Report(
        Done(Step.SUBMIT),
        facts=[lambda tx: ledger.reject(tx, token, NOT_THERE)],
        notes=[("submit.resolved", {"by": "lookup", "found": False})],
    )


def _own_answer_seconds(parts: Parts) -> float:
    """How long the process that made the call may still write its answer, when nobody saw that call end."""
    return parts.policies.submit_timeout + parts.policies.late_answer


def _wait(parts: Parts, turn: Turn, can: Capabilities, submission: Row, age: float) -> Report | None:
    """Something may still come by itself."""
    border = can.recovery.callback_seconds or 0.0
    if submission["answered_at"] is None:
        border = max(border, _own_answer_seconds(parts))
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
            return Report(Done(Step.SUBMIT), facts=facts, notes=notes)
    return Report(Failed(Fault(fault.code, fault.message), exhausted=True), facts=facts)
