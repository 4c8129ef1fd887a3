"""After the end of a generation: what its provider may still come up with is noticed, and with LATE_RESULTS=keep it is
kept. Its status stays what it was, and no second event is ever sent.
"""

from __future__ import annotations

from pipeline import chain, ledger, timeline
from pipeline.db import Row, Tx
from pipeline.lifecycle import (
    Cancel,
    Complete,
    DeadLetter,
    Decision,
    Done,
    Fail,
    Failed,
    Fault,
    GenerationStatus,
    NotYet,
    Outcome,
    Stopped,
    SubmissionOutcome,
)
from pipeline.turn import Report, Turn
from pipeline.workflow.parts import MAX_NOT_FOUND, Parts, Subject, ask, pace_for, subject_of
from pipeline.workflow.policy import Policies
from pipeline.workflow.poll import cost_of, operation_of, outputs_of, token_of, with_outputs
from pipeline.workflow.stopping import BILLED, stop_upstream
from pipeline.workflow.store import fetch_and_keep
from pipeline.workflow.strays import STRAY_WAIT, look_into
from providers.base import ErrorCode, Operation, Phase, ProviderError, ProviderStatus

UNSERVED_SECONDS = 60.0
CANCELLED = ProviderError(ErrorCode.CANCELLED, "cancelled by the client before it was known to be taken")
UNSEEN = ProviderError(ErrorCode.TIMEOUT, "the provider came up with nothing more before the last deadline")


async def late(parts: Parts, turn: Turn) -> Report:
    """One turn of the late step: first what nobody counts on, then the work that is still waited for."""
    subject = subject_of(turn)
    generation, submission = subject.generation, subject.open_submission
    overdue = _elapsed(parts, generation) > parts.policies.generation_timeout
    found = await look_into(parts, turn)
    if found.facts or (found.waiting and (not overdue or turn.claim.polls < MAX_NOT_FOUND)):
        return Report(NotYet(0.0 if found.facts else STRAY_WAIT), facts=found.facts)
    if generation["status"] == GenerationStatus.COMPLETED or generation["deleted_at"] is not None:
        return Report(over(generation))
    if submission is not None and submission["outcome"] == SubmissionOutcome.ACCEPTED:
        if not _is_known(generation, submission):
            return await _taken_up(parts, generation, submission)
        return await _look(parts, turn, overdue=overdue)
    if parts.policies.keep_late and _has_file(generation):
        return await _fetched(parts, turn)
    return Report(over(generation))


def unserved(parts: Parts, generation: Row, wait: float) -> Report:
    """This worker cannot ask the provider: another one may, until the deadline."""
    if _elapsed(parts, generation) > parts.policies.generation_timeout:
        return Report(over(generation))
    return Report(NotYet(wait))


def over(generation: Row) -> Outcome:
    """The job's own end, as its generation ended. Pure."""
    if generation["status"] == GenerationStatus.COMPLETED or generation["video_key"] is not None:
        return Done()
    if generation["status"] == GenerationStatus.CANCELLED:
        return Stopped()
    fault = Fault(generation["error_code"] or "failed", generation["error_message"] or "")
    return Failed(fault)


def as_before(subject: Subject, decision: Decision) -> Decision:
    """A job that looked for what came late ends as it had ended before, whatever its last turn met. Pure."""
    if not isinstance(decision, Fail | DeadLetter):
        return decision
    match over(subject.generation):
        case Failed(fault):
            return DeadLetter(fault) if subject.dead else Fail(fault)
        case Stopped():
            return Cancel()
    return Complete()


def _elapsed(parts: Parts, generation: Row) -> float:
    """Seconds since the end."""
    return float((parts.clock.now_ms() - generation["finished_at"]) / 1000)


def _is_known(generation: Row, submission: Row) -> bool:
    """Whether the row names the operation of this submission."""
    return generation["operation"] is not None and token_of(generation) == submission["token"]


def _has_file(generation: Row) -> bool:
    """Whether the provider made a video that nobody has stored."""
    return generation["video_key"] is None and generation["operation"] is not None and bool(outputs_of(generation))


async def _taken_up(parts: Parts, generation: Row, submission: Row) -> Report:
    """The ledger knows of work that the row does not: it was found after the end. Of a generation that was cancelled it
    is stopped, as it would have been then."""
    token, kept = submission["token"], parts.policies.keep_late
    patch = {"operation": ledger.operation_of(submission)} | chain.of_submission(generation, submission)
    if generation["status"] != GenerationStatus.CANCELLED:
        return Report(NotYet(0.0), patch=patch) if kept else Report(over(generation))
    provider = parts.providers.get(submission["provider"])
    if provider is None:
        return unserved(parts, generation, UNSERVED_SECONDS)
    stopping = await stop_upstream(provider, Operation(submission["operation_id"], {"model": submission["model"]}))
    notes = [("late.cancelled", stopping.told)]
    if kept and not stopping.stop.stopped:
        return Report(NotYet(0.0), patch=patch, notes=notes)
    error = ProviderError(CANCELLED.code, CANCELLED.message, billed=stopping.stop.billed)
    return Report(over(generation), facts=[lambda tx: ledger.fail(tx, token, error)], notes=notes)


async def _look(parts: Parts, turn: Turn, *, overdue: bool) -> Report:
    """Ask where the work stands."""
    generation = subject_of(turn).generation
    if not parts.policies.keep_late:
        return _given_up(generation)
    provider = parts.providers[generation["provider"]]
    wait = parts.policies.next_poll(
        pace_for(parts, generation), elapsed=_elapsed(parts, generation), asked=None, jitter=parts.uniform()
    )
    try:
        status = await ask(provider.poll(operation_of(generation)))
    except (ProviderError, TimeoutError) as error:
        return _given_up(generation) if overdue else Report(NotYet(max(wait, _asked(error))))
    match status.phase:
        case Phase.SUCCEEDED:
            return _made(generation, status)
        case Phase.FAILED | Phase.CANCELLED:
            return _ended(generation, status)
    return _given_up(generation) if overdue else Report(NotYet(wait))


def _asked(error: ProviderError | TimeoutError) -> float:
    """Seconds that the provider asked us to wait."""
    return min(getattr(error, "retry_after", None) or 0.0, 600.0)


def _given_up(generation: Row) -> Report:
    token = token_of(generation)
    return Report(
        over(generation),
        facts=[lambda tx: ledger.fail(tx, token, UNSEEN)],
        notes=[("late.given_up", {"billed": "unknown"})],
    )


def _made(generation: Row, status: ProviderStatus) -> Report:
    token = token_of(generation)
    outcome = NotYet(0.0) if status.outputs else over(generation)
    return Report(
        outcome,
        patch={"operation": with_outputs(generation, status)},
        facts=[lambda tx: ledger.succeed(tx, token, cost_of(status))],
        notes=[("late.generated", {"cost_micros": cost_of(status), "billed": "yes"})],
    )


def _ended(generation: Row, status: ProviderStatus) -> Report:
    token = token_of(generation)
    error = status.error or ProviderError(ErrorCode.PROVIDER_ERROR, f"the provider ended the work as {status.phase}")
    return Report(
        over(generation),
        facts=[lambda tx: ledger.fail(tx, token, error, cost_of(status))],
        notes=[("late.ended", {"reason": error.message, "billed": BILLED[error.billed]})],
    )


async def _fetched(parts: Parts, turn: Turn) -> Report:
    """Store what came late."""
    report = await fetch_and_keep(parts, turn)
    if isinstance(report.outcome, Done):
        report.notes = [*report.notes, ("late.kept", {})]
    return report


def settle(tx: Tx, turn: Turn, report: Report, decision: Decision, policies: Policies) -> None:
    """Write what a late turn brought: columns and lines, never a status, never an event."""
    generation = subject_of(turn).generation
    changed = dict(report.patch)
    if isinstance(decision, Complete) and "video_key" in changed:
        changed["expires_at"] = policies.expires_at(tx.now)
    billed = ledger.billed(tx, generation["id"])
    if billed != generation["billed"]:
        changed["billed"] = billed
    if changed:
        tx.update("generation", changed | {"updated_at": tx.now}, "id = :id", {"id": generation["id"]})
    for name, detail in report.notes:
        timeline.note_turn(tx, turn.claim, generation, name, **detail)
