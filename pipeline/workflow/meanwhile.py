"""What happened while a turn ran, or while nobody looked: answers that came late, and names that callbacks left."""

from __future__ import annotations

from pipeline import ledger, queue
from pipeline.db import Row, Tx
from pipeline.lifecycle import (
    Cancel,
    Complete,
    DeadLetter,
    Decision,
    Done,
    Fail,
    GenerationStatus,
    NotYet,
    Step,
    SubmissionOutcome,
)
from pipeline.queue import Claim
from pipeline.turn import Report, Turn
from pipeline.workflow.arriving import adopted
from pipeline.workflow.parts import Parts, subject_of
from pipeline.workflow.unclaimed import strays_of

_RUNG = frozenset({Step.POLL, Step.STORE})
_UNTAKEN = frozenset({Step.SUBMIT, Step.RESOLVE})


def needs_history(claim: Claim, generation: Row, opened: Row | None) -> bool:
    """Whether a turn may have to do with more of a generation's submissions than the open one: those after its end,
    those that are about to pay once more, those that a callback or an answer has ever woken, and those that have lost
    what they were about. Pure."""
    needed = claim.step is Step.LATE or (claim.step in _RUNG and claim.wake_seq > 0)
    again = claim.step is Step.SUBMIT and (generation["status"] != GenerationStatus.QUEUED or generation["run"] > 1)
    return needed or again or (claim.step is Step.RESOLVE and opened is None)


def overtaken(parts: Parts, tx: Tx, turn: Turn, report: Report) -> Report:
    """A call that is accepted by the time a turn gives it up, or was to pay anew, is polled: the ledger goes before the
    turn."""
    unmoved = Done | NotYet if turn.claim.step is Step.RESOLVE else Done
    if turn.claim.step not in _UNTAKEN or isinstance(report.outcome, unmoved):
        return report
    opened = ledger.open_submission(tx, turn.claim.subject_id)
    if opened is None or opened["outcome"] != SubmissionOutcome.ACCEPTED:
        return report
    patch = adopted(subject_of(turn).generation, opened, parts.clock.now_ms())
    how = {"operation": opened["operation_id"], "by": "its own answer"}
    return Report(Done(Step.POLL), patch=patch, notes=[("submit.resolved", how)])


def look_again(tx: Tx, claim: Claim, decision: Decision, wake_seq: int) -> None:
    """A job that ends just as somebody rang takes a look at what they named, after all."""
    if not isinstance(decision, Complete | Cancel | Fail | DeadLetter) or getattr(decision, "late", None) is not None:
        return
    if not wake_seq or (claim.step is Step.LATE and wake_seq == claim.wake_seq):
        return
    if strays_of(ledger.history(tx, claim.subject_id), ended=True):
        queue.look_again(tx, claim.subject_id)
