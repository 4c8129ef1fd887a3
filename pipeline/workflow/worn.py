"""Worn out: a generation that is refused again and again, with words for everybody, while others are taken."""

from __future__ import annotations

from pipeline import admission
from pipeline.db import Tx
from pipeline.lifecycle import Busy, Failed, Step
from pipeline.turn import Report, Turn
from pipeline.workflow.parts import Parts, subject_of
from providers.base import ErrorCode

_WORDS = frozenset({ErrorCode.AUTH, ErrorCode.QUOTA})


def worn_out(parts: Parts, tx: Tx, turn: Turn, report: Report) -> Report:
    """The report of a refusal that would close the lane; after MAX_ATTEMPTS that are its own the generation fails
    instead, and closes it to nobody. The facts are written already."""
    outcome = report.outcome
    if turn.claim.step is not Step.SUBMIT or not isinstance(outcome, Busy) or outcome.fault.code not in _WORDS:
        return report
    generation = subject_of(turn).generation
    own = admission.own_refusals(tx, generation["id"], generation["run"], generation["provider"])
    if own and own >= parts.policies.submit_attempts:
        report.outcome = Failed(outcome.fault)
    return report
