"""Lost: a job that was given up as poison after it may have paid."""

from __future__ import annotations

from pipeline import ledger, timeline
from pipeline.db import Tx
from pipeline.lifecycle import Failed, Step, SubmissionOutcome
from pipeline.turn import Report, Turn
from pipeline.workflow.parts import subject_of
from pipeline.workflow.submit import OUR_END, PROCESS_ENDED

POISON = "poison"


def note_lost_call(tx: Tx, turn: Turn, report: Report) -> None:
    """The turns of a poisoned job left no word of what became of the call that one of them intended: nobody knows, and
    it is listed as such."""
    outcome = report.outcome
    if turn.claim.step is not Step.SUBMIT or not isinstance(outcome, Failed) or outcome.fault.code != POISON:
        return
    opened = ledger.open_submission(tx, turn.claim.subject_id)
    if opened is None or opened["outcome"] != SubmissionOutcome.INTENDED:
        return
    ledger.mark_unknown(tx, opened["token"], PROCESS_ENDED, answered=False, code=OUR_END)
    timeline.note_turn(tx, turn.claim, subject_of(turn).generation, "submit.unknown", reason=PROCESS_ENDED.message)
