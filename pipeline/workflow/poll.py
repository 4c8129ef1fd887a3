"""Polling: where the provider's work stands. The one way by which a result gets in."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict

from pipeline import admission, ledger
from pipeline.db import Row, Tx
from pipeline.lifecycle import Busy, Done, Failed, Fault, NotYet, Step, Stopped
from pipeline.turn import Report, Turn
from pipeline.workflow.fallback import or_elsewhere
from pipeline.workflow.parts import MAX_NOT_FOUND, Parts, ask, fault_of, pace_for, subject_of
from pipeline.workflow.stopping import stop_upstream
from providers.base import ErrorCode, Operation, Output, Phase, Provider, ProviderError, ProviderStatus, Stop

NO_OUTPUT = ProviderError(ErrorCode.PROVIDER_ERROR, "the provider reports success but names no file")
NOT_STOPPED = Stop(stopped=False)
MAX_COST_MICROS = 10**12
MAX_OVERDUE = 5
"""So many polls in a row must fail past the deadline before we give up: after a night of ours the video may be
there."""


def operation_of(generation: Row) -> Operation:
    """The provider's operation as the row keeps it."""
    stored = json.loads(generation["operation"])
    return Operation(stored["id"], stored["data"])


def outputs_of(generation: Row) -> list[Output]:
    """The files that the last successful poll named."""
    return [Output(**output) for output in json.loads(generation["operation"]).get("outputs", [])]


def with_outputs(generation: Row, status: ProviderStatus) -> str:
    """The operation and its files as the generation row keeps them."""
    return json.dumps(json.loads(generation["operation"]) | {"outputs": [asdict(output) for output in status.outputs]})


def cost_of(status: ProviderStatus) -> int | None:
    """What the provider reports as its price in micro-USD; what cannot be one is not believed."""
    cost = status.cost_micros
    return cost if cost is not None and 0 <= cost <= MAX_COST_MICROS else None


def with_bad_file(operation: str) -> tuple[str, int]:
    """The stored operation with one more file that was no video, and how many there were."""
    stored = json.loads(operation)
    stored["bad_files"] = stored.get("bad_files", 0) + 1
    return json.dumps(stored), stored["bad_files"]


def with_not_found(operation: str, *, missed: bool) -> tuple[dict[str, object], int]:
    """The patch that keeps count of the answers, one after another, that the provider does not know the operation, and
    that count. Any other answer begins anew."""
    stored = json.loads(operation)
    before = stored.pop("not_found", 0)
    count = before + 1 if missed else 0
    noted = json.dumps(stored | ({"not_found": count} if count else {}))
    return ({} if count == before else {"operation": noted}), count


def token_of(generation: Row) -> str:
    """The token of the submission whose operation the row keeps."""
    return str(json.loads(generation["operation"])["token"])


async def poll(parts: Parts, turn: Turn) -> Report:
    """One turn of the poll step."""
    generation = subject_of(turn).generation
    provider = parts.providers[generation["provider"]]
    operation = operation_of(generation)
    if generation["cancel_requested_at"] is not None:
        return await _cancel(parts, turn, provider, operation)
    elapsed = (parts.clock.now_ms() - generation["accepted_at"]) / 1000
    try:
        status = await ask(provider.poll(operation))
    except ProviderError as error:
        return _noted(parts, turn, error, _unreached(parts, turn, error, elapsed))
    match status.phase:
        case Phase.SUCCEEDED:
            return _succeeded(parts, turn, status)
        case Phase.FAILED | Phase.CANCELLED:
            return _failed(parts, turn, status)
    if elapsed > parts.policies.generation_timeout:
        return await _overdue(parts, turn, provider, operation, elapsed)
    wait = parts.policies.next_poll(
        pace_for(parts, generation), elapsed=elapsed, asked=status.retry_after, jitter=parts.uniform()
    )
    changed = {"progress": status.progress} if status.progress not in {None, generation["progress"]} else {}
    notes = [("poll.unknown_status", {"status": status.unknown_status})] if status.unknown_status else []
    return Report(
        NotYet(wait),
        patch=changed | with_not_found(generation["operation"], missed=False)[0],
        notes=notes if turn.claim.polls == 0 else [],
        fields={"progress": status.progress, "provider_status": status.unknown_status},
    )


def _succeeded(parts: Parts, turn: Turn, status: ProviderStatus) -> Report:
    generation = subject_of(turn).generation
    token = token_of(generation)
    facts = [lambda tx: ledger.succeed(tx, token, cost_of(status))]
    if not status.outputs:
        return Report(Failed(fault_of(NO_OUTPUT)), facts=facts)
    return Report(
        Done(Step.STORE),
        patch={
            "operation": with_outputs(generation, status),
            "generated_at": parts.clock.now_ms(),
            "progress": 1.0,
        },
        facts=facts,
        notes=[("generated", {"cost_micros": cost_of(status)})],
    )


def _failed(parts: Parts, turn: Turn, status: ProviderStatus) -> Report:
    """The provider's final word. Submitting anew is allowed only where the adapter declares it unbilled."""
    error = status.error or ProviderError(ErrorCode.PROVIDER_ERROR, f"the provider ended the work as {status.phase}")
    token = token_of(subject_of(turn).generation)
    facts = [lambda tx: ledger.fail(tx, token, error, cost_of(status))]
    notes = [("generation.refused", {"code": error.code, "reason": error.message, "billed": error.billed})]
    may_resubmit = error.resubmit and error.billed is False and not status.cost_micros
    if may_resubmit and subject_of(turn).submissions < parts.policies.max_submissions:
        anew = Report(Busy(fault_of(error)), patch={"operation": None, "progress": None}, facts=facts, notes=notes)
        return or_elsewhere(parts, subject_of(turn).generation, anew)
    return Report(Failed(fault_of(error, retryable=error.retryable or error.resubmit)), facts=facts, notes=notes)


def _noted(parts: Parts, turn: Turn, error: ProviderError, report: Report) -> Report:
    """A key that is refused here pays for nothing either: an open lane is closed before anybody tries."""
    if error.code is ErrorCode.AUTH:
        lane, seconds, reason = turn.claim.lane, parts.policies.lane_pause, f"{error.code}: {error.message}"
        report.facts = [*report.facts, lambda tx: admission.note_poll_refusal(tx, lane, seconds=seconds, reason=reason)]
    return report


def _unreached(parts: Parts, turn: Turn, error: ProviderError, elapsed: float) -> Report:
    """A poll that fails is a blip until the deadline; it is never a reason to submit again."""
    notes = [("poll.failed", {"code": error.code, "reason": error.message})]
    generation = subject_of(turn).generation
    patch, unknown = with_not_found(generation["operation"], missed=error.code is ErrorCode.NOT_FOUND)
    overdue = elapsed > parts.policies.generation_timeout
    if overdue and turn.claim.attempts + 1 >= MAX_OVERDUE:
        return _given_up(parts, turn, elapsed, f"the provider cannot be asked: {error.message}")
    if error.code is ErrorCode.RATE_LIMITED and not overdue:
        pace = pace_for(parts, generation)
        wait = parts.policies.next_poll(pace, elapsed=elapsed, asked=error.retry_after, jitter=parts.uniform())
        return Report(NotYet(wait), patch=patch, fields={"rate_limited": True})
    if unknown >= MAX_NOT_FOUND:
        return Report(Failed(fault_of(error), exhausted=True), notes=notes)
    asked = min(error.retry_after or 0.0, max(1.0, parts.policies.generation_timeout - elapsed))
    return Report(Failed(fault_of(error), retryable=True, retry_after=asked), patch=patch, notes=notes)


async def _overdue(parts: Parts, turn: Turn, provider: Provider, operation: Operation, elapsed: float) -> Report:
    stop = (await stop_upstream(provider, operation)).stop
    what = "the provider was asked to stop" if stop.stopped else "the provider may still work"
    return _given_up(parts, turn, elapsed, what, stop)


def _given_up(parts: Parts, turn: Turn, elapsed: float, what: str, stop: Stop = NOT_STOPPED) -> Report:
    """The end of patience. Work that was stopped upstream is closed as such: there is nothing to wait for any more."""
    late = _late(parts, turn, stop)
    message = f"no result after {elapsed:.0f} s (GENERATION_TIMEOUT {parts.policies.generation_timeout:g} s); {what}"
    error = ProviderError(ErrorCode.CANCELLED if stop.stopped else ErrorCode.TIMEOUT, message, billed=stop.billed)
    token = token_of(subject_of(turn).generation)
    return Report(
        Failed(Fault("deadline_exceeded", message, retryable=True), exhausted=True, late=late),
        facts=[_closed(token, error, late)],
        notes=[("late.waited", {})] if late is not None else [],
    )


def _late(parts: Parts, turn: Turn, stop: Stop) -> float | None:
    """Seconds until the first look for a late result; None where none is wanted, or can come."""
    if stop.stopped or not parts.policies.keep_late:
        return None
    pace = pace_for(parts, subject_of(turn).generation)
    return parts.policies.next_poll(pace, elapsed=0.0, asked=None, jitter=parts.uniform())


def _closed(token: str, error: ProviderError, late: float | None) -> Callable[[Tx], object]:
    """The submission is closed, or stays open with what the provider said of its charge while a result may come."""
    if late is None:
        return lambda tx: ledger.fail(tx, token, error)
    return lambda tx: ledger.note_billed(tx, token, error.billed)


async def _cancel(parts: Parts, turn: Turn, provider: Provider, operation: Operation) -> Report:
    """The client asked for an end. What it costs is for the provider to say; we say what we know."""
    stopping = await stop_upstream(provider, operation)
    error = ProviderError(ErrorCode.CANCELLED, "cancelled by the client", billed=stopping.stop.billed)
    token, late = token_of(subject_of(turn).generation), _late(parts, turn, stopping.stop)
    what = None if stopping.stop.stopped else "dropped" if late is None else "kept"
    notes = [("cancelled", stopping.told | {"late_result": what})]
    return Report(Stopped(late), facts=[_closed(token, error, late)], notes=notes)
