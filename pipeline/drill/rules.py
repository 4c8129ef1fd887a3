"""What must be so of the rows that one generation left behind, whatever was killed meanwhile. Pure.

Every line of the timeline that a turn wrote names its fence, the number of the claim. What was decided under one fence
is written before anything of a higher one. Facts about money are true whoever holds the job and carry no fence:
`submit.late`, `submit.second`, and where no turn wrote them `submit.resolved` and `submit.decided`. So does what
clients and operators ask for.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.lifecycle import MOVES, TERMINAL, GenerationStatus, JobStatus, Step

Row = dict[str, Any]

TURNS = frozenset(
    {"submit.intended", "submit.accepted", "submit.unknown", "generated", "stored", "completed", "retry", "requeued"}
)
"""Lines that nobody but a turn writes."""

_G = GenerationStatus
_STATUS = {
    "queued": _G.QUEUED,
    "submit.intended": _G.PROCESSING,
    "held": _G.PROCESSING,
    "completed": _G.COMPLETED,
    "failed": _G.FAILED,
    "ended.cancelled": _G.CANCELLED,
}
_EVENT_OF = {_G.COMPLETED: "generation.completed", _G.FAILED: "generation.failed", _G.CANCELLED: "generation.cancelled"}
_BEFORE = {
    "generation.processing": frozenset({"submit.intended", "redriven"}),
    "generation.completed": frozenset({"completed"}),
    "generation.failed": frozenset({"failed"}),
    "generation.cancelled": frozenset({"ended.cancelled"}),
}
"""The line that is written with an event, or before it."""
_CLOSING = frozenset(
    {"submit.rejected", "submit.resolved", "submit.resubmit", "submit.decided", "generation.refused", "redriven"}
)
"""Lines that say why a call is done with."""
_ALLOWED = frozenset({"submit.resubmit", "submit.decided"})
"""Lines by which a person, or the setting ON_UNKNOWN_SUBMIT=resubmit, lets the same be paid for again."""
_ENDED = frozenset({JobStatus.DONE, JobStatus.DEAD, JobStatus.CANCELLED})
_OPEN = frozenset({"intended", "accepted", "unknown"})
FOREVER = 1 << 62


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that must never be. `name` is one of the names in `NAMES`, `words` say it for a person."""

    name: str
    generation: str
    words: str


@dataclass(frozen=True, slots=True)
class History:
    """The rows of one generation: its own, its job's (None if it has none), its submissions by id, the lines of its
    timeline by id, and its events. `kept` says that nothing of it can have been pruned yet."""

    generation: Row
    job: Row | None
    submissions: Sequence[Row]
    lines: Sequence[Row]
    events: Sequence[Row]
    kept: bool = True

    @property
    def whole(self) -> bool:
        """Whether the timeline is there from its first line: one that was pruned or deleted proves less."""
        return bool(self.lines) and self.lines[0]["event"] == "queued"


Found = Iterator[tuple[str, str]]


def violations(history: History) -> list[Violation]:
    """Everything that is wrong with one generation."""
    name = history.generation["id"]
    return [Violation(kind, name, words) for rule in _RULES for kind, words in rule(history)]


def _fences(history: History) -> Found:
    """Turns come one after the other. A run's fences start anew only where its job was made anew."""
    run = fence = 0
    workers: dict[tuple[int, int], str] = {}
    for line in history.lines:
        if line["fence"] is None:
            if fence and line["event"] in TURNS:
                yield "no_fence", f"{line['event']} was written by no turn"
            continue
        if line["run"] < run:
            yield "run_back", f"{line['event']} of run {line['run']} was written after run {run} had begun"
        elif line["run"] == run and line["fence"] < fence:
            yield "fence_back", f"{line['event']} under fence {line['fence']} was written after fence {fence}"
        worker = workers.setdefault((line["run"], line["fence"]), line["worker"])
        if worker != line["worker"]:
            yield "fence_shared", f"fence {line['fence']} was {worker}'s and {line['worker']}'s"
        fence = max(fence, line["fence"]) if line["run"] == run else line["fence"]
        run = max(run, line["run"])
    if history.job is not None and run == history.generation["run"] and fence > history.job["fence"]:
        yield "fence_ahead", f"fence {fence} was used, and the job has had {history.job['fence']}"


def _moves(history: History) -> Found:
    """Only legal moves, and what has failed moves by a redrive alone."""
    status: GenerationStatus | None = None
    for line in history.lines:
        redriven = line["event"] == "redriven"
        to = _redriven_to(line) if redriven else _STATUS.get(line["event"])
        if to is None:
            continue
        legal = status is None or to in MOVES[status]
        if not legal or (status is not None and (status is _G.FAILED) != redriven):
            yield "illegal_move", f"{status} -> {to} by {line['event']} in run {line['run']}"
        status = to
    now = history.generation["status"]
    if status is not None and status != now:
        yield "status_untold", f"it is {now}, and its timeline ends as {status}"


def _redriven_to(line: Row) -> GenerationStatus:
    return _G.QUEUED if _detail(line).get("start") == "submit" else _G.PROCESSING


def _detail(line: Row) -> Row:
    detail: Row = json.loads(line["detail"] or "{}")
    return detail


def _endings(history: History) -> Found:
    """Exactly one terminal event per run that has ended, and none of one that has not."""
    row = history.generation
    for run in range(1, row["run"] + 1):
        status = _G(row["status"]) if run == row["run"] else _G.FAILED
        told = [event["type"] for event in history.events if event["terminal"] and event["run"] == run]
        if len(told) > 1:
            yield "ended_twice", f"run {run} has {len(told)} terminal events: {', '.join(sorted(told))}"
        elif told and status not in TERMINAL:
            yield "ended_early", f"run {run} is {status} and has told {told[0]}"
        elif told and told[0] != _EVENT_OF[status]:
            yield "ended_otherwise", f"run {run} is {status} and has told {told[0]}"
        elif not told and status in TERMINAL and history.kept:
            yield "ended_untold", f"run {run} is {status} and has no terminal event"


def _order(history: History) -> Found:
    """No event before its state."""
    if not history.whole:
        return
    for event in history.events:
        wanted = _BEFORE.get(event["type"])
        if wanted is None:
            continue
        lines = (line for line in history.lines if line["event"] in wanted and line["run"] == event["run"])
        if not any(line["at"] <= event["created_at"] for line in lines):
            yield "event_before_state", f"{event['type']} of run {event['run']} was told before it was so"


def _job(history: History) -> Found:
    """What has ended has no live job, but for one that looks for what comes late; what has not has one."""
    status, job = _G(history.generation["status"]), history.job
    live = job is not None and job["status"] not in _ENDED
    if status in TERMINAL and live and job is not None and job["step"] != Step.LATE:
        yield "job_left_over", f"it is {status} and its job is {job['status']} at {job['step']}"
    if status not in TERMINAL and not live:
        yield "lost", f"it is {status} and its job is {'gone' if job is None else job['status']}"
    if status not in TERMINAL and job is not None and live and job["step"] == Step.LATE:
        yield "lost", f"it is {status} and its job only looks for what comes late"


def _payments(history: History) -> Found:
    """One possibly-paid call at a time, and a second only after the first surely cost nothing, or by somebody's
    word."""
    calls = sorted((row for row in history.submissions if "." not in row["token"]), key=lambda row: row["intended_at"])
    for place, first in enumerate(calls):
        for second in calls[place + 1 :]:
            found = _pair(history, first, second)
            if found is not None:
                yield found
    for row in history.submissions:
        if "." in row["token"] and row["billed"] != "no":
            yield "second_operation", f"the provider has a second operation, {row['operation_id']}, under one token"


def _pair(history: History, first: Row, second: Row) -> tuple[str, str] | None:
    at = second["intended_at"]
    pair = f"{first['token']} ({first['outcome']}, billed {first['billed']}) and {second['token']}"
    between = [line for line in history.lines if first["intended_at"] <= line["at"] <= at]
    late = first["operation_id"] is not None and (first["answered_at"] or 0) > at
    told = not history.whole or any(line["event"] in _CLOSING for line in between)
    if _closed(first) > at and not (late and told):
        return "two_open", f"two possibly-paid calls were open at once: {pair}"
    if not history.whole or any(map(_allows, between)):
        return None
    if first["operation_id"] is None or first["billed"] == "no":
        return None
    if not late:
        return "second_submission", f"a call was made after another had been taken: {pair}"
    if second["operation_id"] is not None and second["billed"] != "no":
        return "paid_twice", f"both may have been charged: {pair}"
    return None


def _allows(line: Row) -> bool:
    """Whether a line lets the same be paid for again."""
    return line["event"] in _ALLOWED or bool(line["event"] == "redriven" and _detail(line).get("pays_again"))


def _closed(submission: Row) -> int:
    if submission["outcome"] in _OPEN or submission["closed_at"] is None:
        return FOREVER
    return int(submission["closed_at"])


_RULES: tuple[Callable[[History], Found], ...] = (_fences, _moves, _endings, _order, _job, _payments)

NAMES = {
    "no_fence": "a line that only a turn writes carries no fence",
    "run_back": "a turn of an earlier run wrote after a later run had begun",
    "fence_back": "a turn wrote after a later turn had",
    "fence_shared": "two workers held one fence",
    "fence_ahead": "a turn wrote under a fence that its job never had",
    "illegal_move": "a status changed in a way that the state machine does not know",
    "status_untold": "the timeline does not end as the generation did",
    "ended_twice": "a run has more than one terminal event",
    "ended_early": "a terminal event of a run that has not ended",
    "ended_otherwise": "the terminal event says something else than the generation",
    "ended_untold": "a run has ended and has no terminal event",
    "event_before_state": "an event was told before it was so",
    "job_left_over": "the generation has ended and its job goes on",
    "lost": "the generation has not ended and no job carries it on",
    "two_open": "two possibly-paid calls of one generation were open at once",
    "second_submission": "a paid call was made after another had been taken, and nobody allowed it",
    "paid_twice": "two calls of one generation may both have been charged, and nobody allowed it",
    "second_operation": "a provider has two operations under one token",
    "lane_over_cap": "more was in flight in a lane than it may have",
    "user_over_cap": "more of one user was in flight than may be",
}
"""Every violation by name, in words."""
