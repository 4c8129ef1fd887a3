"""Plain polls: most find nothing new but some progress. Many of them are recorded in two statements."""

from __future__ import annotations

import json
from collections.abc import Sequence

from pipeline import queue
from pipeline.db import Tx
from pipeline.lifecycle import Decision, NotYet, Snooze, Step
from pipeline.turn import Ended, Report, Turn
from pipeline.workflow.parts import subject_of

_PROGRESS = """
UPDATE generation SET progress = p.progress, updated_at = :now FROM {rows} WHERE generation.id = p.id"""
_ROWS_SQLITE = (
    "(SELECT json_extract(value, '$[0]') AS id, json_extract(value, '$[1]') AS progress FROM json_each(:rows)) AS p"
)
_ROWS_POSTGRES = "unnest(CAST(:ids AS text[]), CAST(:values AS float8[])) AS p(id, progress)"


def is_plain(turn: Turn, report: Report) -> bool:
    """Whether a turn of the poll step found nothing to write but when to look again, perhaps how far it is. Pure."""
    return (
        turn.claim.step is Step.POLL
        and isinstance(report.outcome, NotYet)
        and report.patch.keys() <= {"progress"}
        and not report.facts
        and not report.notes
    )


def record(tx: Tx, ended: Sequence[Ended]) -> dict[int, Decision]:
    """Put the jobs off and keep the progress of those whose lease held; their decisions by job id.

    Whoever asked for a cancel meanwhile has woken the job: it is due at once, as after any other record.
    """
    waits = {turn.claim.id: report.outcome.after for turn, report in ended if isinstance(report.outcome, NotYet)}
    put_off = queue.snooze_all(tx, [(turn.claim, waits[turn.claim.id]) for turn, _ in ended])
    _keep_progress(tx, [(turn, report) for turn, report in ended if turn.claim.id in put_off and report.patch])
    for turn, _ in ended:
        turn.quiet = turn.claim.id in put_off and not put_off[turn.claim.id].woken
    return {job: Snooze(waits[job]) for job in put_off}


def _keep_progress(tx: Tx, ended: Sequence[Ended]) -> None:
    rows = sorted((subject_of(turn).generation["id"], report.patch["progress"]) for turn, report in ended)
    if not rows:
        return
    if tx.postgres:
        values: dict[str, object] = {"ids": [row[0] for row in rows], "values": [row[1] for row in rows]}
        tx.run(_PROGRESS.format(rows=_ROWS_POSTGRES), values | {"now": tx.now})
    else:
        tx.run(_PROGRESS.format(rows=_ROWS_SQLITE), {"rows": json.dumps(rows), "now": tx.now})
