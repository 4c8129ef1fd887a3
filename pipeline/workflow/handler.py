"""Workflow: the worker's handler for generations. Runs the stage that a job is at and records what follows from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline import admission, ledger, queue, timeline
from pipeline.db import Row, Tx
from pipeline.lifecycle import (
    STAGE_OF_STEP,
    Advance,
    Cancel,
    Complete,
    DeadLetter,
    Decision,
    Fail,
    Failed,
    Fallback,
    Fault,
    GenerationStatus,
    Hold,
    NotYet,
    Requeue,
    Retry,
    Snooze,
    Stage,
    Step,
    decide,
    move,
)
from pipeline.queue import Claim, LeaseLost
from pipeline.telemetry import emit
from pipeline.turn import Ended, Report, Turn
from pipeline.workflow import plain
from pipeline.workflow.arriving import follow
from pipeline.workflow.fallback import or_elsewhere, step_on
from pipeline.workflow.late import UNSERVED_SECONDS, as_before, late, settle, unserved
from pipeline.workflow.lost import note_lost_call
from pipeline.workflow.meanwhile import look_again, needs_history, overtaken
from pipeline.workflow.parts import Parts, Subject, subject_of
from pipeline.workflow.poll import poll, token_of
from pipeline.workflow.resolve import resolve
from pipeline.workflow.store import store
from pipeline.workflow.strays import look_into
from pipeline.workflow.submit import submit
from pipeline.workflow.unclaimed import strays_of
from pipeline.workflow.worn import worn_out
from webhooks.events import EventType

_STAGES = {Step.SUBMIT: submit, Step.RESOLVE: resolve, Step.POLL: poll, Step.STORE: store, Step.LATE: late}

PROGRESS_STEP = 0.1
"""Progress events are told in steps of a tenth: more would only cost the receiver."""


MANY_POLLS = 100
"""What repeats for ever is told so often and not again: a timeline is for people."""

_LOOKS_FIRST = frozenset({Step.SUBMIT, Step.LATE})
"""Steps that look into strays before anything else, by themselves."""


class Workflow:
    """Handler of `generation` jobs."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def load(self, tx: Tx, claims: Sequence[Claim]) -> Mapping[int, Subject]:
        """The generation and its submissions, by job id: two statements, however many claims there are."""
        ids = [claim.subject_id for claim in claims]
        found = tx.all(f"SELECT * FROM generation WHERE id {tx.among}", {"ids": tx.of(ids)})
        rows, histories = {row["id"]: row for row in found}, ledger.histories(tx, ids)
        return {
            claim.id: _subject(tx, claim, rows[claim.subject_id], histories.get(claim.subject_id, []))
            for claim in claims
            if claim.subject_id in rows
        }

    async def run(self, turn: Turn) -> Report:
        """Run the stage that the job is at."""
        claim, generation = turn.claim, subject_of(turn).generation
        if generation["provider"] not in self._parts.providers:
            report = _not_served(self._parts, turn)
        else:
            _require_own(subject_of(turn))
            report = await _STAGES[claim.step](self._parts, turn)
            if subject_of(turn).strays and claim.step not in _LOOKS_FIRST:
                report.facts = [*report.facts, *(await look_into(self._parts, turn)).facts]
        report.fields = {"provider": generation["provider"], **report.fields}
        if generation["traceparent"]:
            report.fields = {**report.fields, "parent": generation["traceparent"]}
        return report

    def record_turn(self, tx: Tx, turn: Turn, report: Report) -> Decision | None:
        """Facts first, whoever holds the job; then the decision, under the fence. None if the lease was lost."""
        for fact in report.facts:
            fact(tx)
        claim = turn.claim
        try:
            locked = queue.lock(tx, claim)
        except LeaseLost:
            if report.facts:
                queue.wake(tx, claim.kind, claim.subject_id)
            return None
        report = worn_out(self._parts, tx, turn, overtaken(self._parts, tx, turn, report))
        note_lost_call(tx, turn, report)
        decision = decide(
            report.outcome,
            step=claim.step,
            attempts=claim.attempts,
            policy=self._parts.policies.retry(claim.step),
            cancel_requested=bool(locked["cancel_requested"]),
            jitter=self._parts.uniform(),
        )
        if claim.step is Step.LATE:
            decision = as_before(subject_of(turn), decision)
        if isinstance(decision, Requeue | Fallback) and decision.delay > 0:
            reason = f"{decision.fault.code}: {decision.fault.message}"
            admission.note_refusal(tx, claim.lane, seconds=decision.delay, reason=reason)
        cancelling = bool(locked["cancel_requested"])
        queue.acknowledge(tx, claim, decision, wake_seq=locked["wake_seq"], cancel_requested=cancelling)
        if claim.step is Step.LATE:
            settle(tx, turn, report, decision, self._parts.policies)
        else:
            told = self._apply(tx, turn, report, decision)
            turn.quiet = isinstance(decision, Snooze) and not told and locked["wake_seq"] == claim.wake_seq
        follow(tx, subject_of(turn).generation, report.patch)
        look_again(tx, claim, decision, locked["wake_seq"])
        return decision

    def is_plain(self, turn: Turn, report: Report) -> bool:
        """A poll that found nothing new but perhaps some progress, which is worth no event."""
        return plain.is_plain(turn, report) and not _stepped(subject_of(turn).generation, report.patch)

    def record_plain(self, tx: Tx, ended: Sequence[Ended]) -> Mapping[int, Decision]:
        """Put them all off; see `record_turn`, which comes to the same for each."""
        return plain.record(tx, ended)

    def _apply(self, tx: Tx, turn: Turn, report: Report, decision: Decision) -> bool:
        """Move the generation, tell its timeline, and record the event that the move is worth; whether it was worth
        one."""
        before, polls = subject_of(turn).generation, turn.claim.polls
        if isinstance(decision, Snooze) and not report.patch and not report.notes:
            return False
        changed, event = _consequences(decision, tx.now)
        changed = {**report.patch, **changed}
        noted = [] if isinstance(decision, Hold) and before["stage"] == Stage.HELD else _note(decision)
        if isinstance(decision, Fallback):
            columns, detail = step_on(self._parts, before, decision)
            changed, noted = changed | columns, [("fallback", detail)]
            _tell_fallback(tx, before, columns, decision.fault)
        if isinstance(decision, Complete):
            changed["expires_at"] = self._parts.policies.expires_at(tx.now)
        if isinstance(decision, Complete | Cancel | Fail | DeadLetter):
            changed["billed"] = ledger.billed(tx, before["id"])
        if isinstance(decision, Fail | DeadLetter) and changed["billed"] != "no":
            changed["error_retryable"] = 0
        if event is None and _stepped(before, changed):
            event = EventType.PROGRESS
        if event is not None and not self._parts.outbox.wanted(tx, before, event):
            event = None
        if changed:
            if "status" in changed:
                changed["status"] = move(GenerationStatus(before["status"]), GenerationStatus(str(changed["status"])))
            changed["updated_at"] = tx.now
            if event is not None:
                changed["sequence"] = before["sequence"] + 1
            tx.update("generation", changed, "id = :id", {"id": before["id"]})
        generation = before | changed
        notes = report.notes if polls < MANY_POLLS or not isinstance(decision, Snooze) else ()
        for name, words in (*notes, *noted):
            timeline.note_turn(tx, turn.claim, generation, name, **words)
        if event is not None:
            now = tx.one("SELECT * FROM generation WHERE id = :id", {"id": before["id"]})
            self._parts.outbox.record(tx, now or generation, event)
        return event is not None


def _subject(tx: Tx, claim: Claim, generation: Row, submissions: Sequence[Row]) -> Subject:
    opened = ledger.open_of(submissions)
    past = submissions if needs_history(claim, generation, opened) else ()
    submits = claim.step is Step.SUBMIT
    return Subject(
        generation,
        opened,
        ledger.count_of(submissions, generation["run"]),
        admission.closed(tx, claim.lane) if submits else None,
        past,
        strays_of(past, ended=claim.step is Step.LATE),
        claim.step is Step.LATE and queue.was_dead(tx, claim),
        admission.hand_paused(tx, claim.lane, claim.tenant_id, generation["user_id"]) if submits else 0,
    )


def _require_own(subject: Subject) -> None:
    """Work is asked about where it was taken: its id says nothing, or something else, to any other provider."""
    generation, opened = subject.generation, subject.open_submission
    if opened is None or generation["operation"] is None or token_of(generation) != opened["token"]:
        return
    asked, taken = generation["provider"], opened["provider"]
    assert asked == taken, f"{generation['id']}: the work of {taken} would be asked for at {asked}"


def _tell_fallback(tx: Tx, before: Row, after: Row, fault: Fault) -> None:
    tx.emit(
        "generation.fallback",
        generation=before["id"],
        provider=before["provider"],
        to=after["provider"],
        code=fault.code,
        reason=fault.message,
    )


def _not_served(parts: Parts, turn: Turn) -> Report:
    """This worker does not know the provider. Work that may have been paid for waits for one that does."""
    subject = subject_of(turn)
    name = subject.generation["provider"]
    fault = Fault("provider_not_configured", f"the provider {name!r} is not configured in this worker")
    if turn.claim.step is Step.SUBMIT and subject.open_submission is None:
        return or_elsewhere(parts, subject.generation, Report(Failed(fault)))
    if turn.claim.step is Step.LATE:
        return unserved(parts, subject.generation, UNSERVED_SECONDS)
    emit("provider.missing", level=30, provider=name, generation=subject.generation["id"], step=turn.claim.step)
    return Report(NotYet(UNSERVED_SECONDS), notes=[("provider.missing", {"provider": name})])


def _stepped(before: Row, changed: Mapping[str, object]) -> bool:
    """Whether the progress passed a tenth."""
    now = changed.get("progress")
    return isinstance(now, float) and int(now / PROGRESS_STEP) > int((before["progress"] or 0.0) / PROGRESS_STEP)


def _consequences(decision: Decision, now: int) -> tuple[dict[str, object], EventType | None]:
    """The columns that a decision sets, and the event that it is worth."""
    match decision:
        case Complete():
            return _end(GenerationStatus.COMPLETED, now) | _NO_ERROR | {"progress": 1.0}, EventType.COMPLETED
        case Cancel():
            return _end(GenerationStatus.CANCELLED, now), EventType.CANCELLED
        case Fail(fault) | DeadLetter(fault):
            return _end(GenerationStatus.FAILED, now) | _error(fault), EventType.FAILED
        case Advance(step):
            return {"status": GenerationStatus.PROCESSING, "stage": STAGE_OF_STEP[step]} | _NO_ERROR, None
        case Hold(_, fault):
            held = {"status": GenerationStatus.PROCESSING, "stage": Stage.HELD}
            return held | _NOTHING_ASIDE | _error(fault), EventType.HELD
        case Requeue() | Fallback():
            return {"stage": Stage.WAITING} | _NOTHING_ASIDE, None
    return {}, None


def _end(status: GenerationStatus, now: int) -> dict[str, object]:
    return {"status": status, "stage": None, "finished_at": now} | _NOTHING_ASIDE


_NOTHING_ASIDE: dict[str, object] = {"reserved_micros": 0}
"""Whoever gives up his place gives back what admission set aside for him."""
_NO_ERROR: dict[str, object] = {"error_code": None, "error_message": None, "error_retryable": None}


def _error(fault: Fault) -> dict[str, object]:
    return {"error_code": fault.code, "error_message": fault.message, "error_retryable": int(fault.retryable)}


def _note(decision: Decision) -> list[tuple[str, dict[str, object]]]:
    """The timeline's line of a decision, where it is worth one."""
    match decision:
        case Complete():
            return [("completed", {})]
        case Cancel():
            return [("ended.cancelled", {})]
        case Fail(fault):
            return [("failed", {"code": fault.code, "reason": fault.message})]
        case DeadLetter(fault):
            return [("failed", {"code": fault.code, "reason": fault.message, "dead": True})]
        case Retry(delay, fault):
            return [("retry", {"code": fault.code, "reason": fault.message, "in_s": round(delay, 1)})]
        case Requeue(delay, fault):
            return [("requeued", {"code": fault.code, "reason": fault.message, "in_s": round(delay, 1)})]
        case Hold(delay, fault):
            return [("held", {"reason": fault.message, "for_a_person": delay is None})]
    return []
