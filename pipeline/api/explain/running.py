"""What a generation that was started does now, or what its next turn waits for. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.api.explain.facts import Facts
from pipeline.api.explain.told import Told, clock, sentence, span
from pipeline.db import Row
from pipeline.lifecycle import JobStatus, Step
from pipeline.queue import FAR_FUTURE
from pipeline.schemas import iso

LATE_MS = 15_000
"""A turn that is due for so long waits for workers, and not for its time."""
NOTHING = "Nothing."


def tell_running(facts: Facts, job: Row, eta: tuple[int, int] | None, held: Mapping[str, Any] | None) -> Told:
    """A generation that was started. `eta` is when half, and nine of ten, like it are done; `held` explains its paid
    call of unknown outcome."""
    if job["status"] == JobStatus.PROCESSING:
        told = _turn(facts, job)
    elif facts.workers.alive == 0:
        told = _nobody(facts, job)
    else:
        told = _between(facts, job, eta, held)
    due = job["scheduled_for"] if job["status"] == JobStatus.PENDING else None
    more = {
        "nextTurnAt": iso(due) if due is not None and due < FAR_FUTURE else None,
        "attempts": job["attempts"],
        "held": None if held is None else dict(held),
    }
    asked = facts.row["cancel_requested_at"]
    cancel = "" if asked is None else f" A cancel was asked for at {clock(asked)}: its next turn carries it out."
    return Told(told.state, told.summary + cancel, told.to_do, {**more, **told.facts})


_DOES = {
    Step.SUBMIT: ("submitting", "is asking {provider} for it"),
    Step.POLL: ("generating", "is looking how far {provider} is"),
    Step.STORE: ("storing", "is fetching the video and storing it"),
    Step.RESOLVE: ("held", "is finding out what became of the paid call"),
}


def _turn(facts: Facts, job: Row) -> Told:
    state, does = _DOES.get(Step(job["step"]), ("held", "has it"))
    does = does.format(provider=facts.row["provider"])
    if job["locked_until"] is not None and job["locked_until"] <= facts.now:
        what = f"The worker that had it has not been heard of since {clock(job['locked_until'])}: another takes over."
        alive = "Nothing: it is taken over within seconds." if facts.workers.alive else _START
        return Told(state, what, alive)
    return Told(state, f"A worker {does} just now.", NOTHING)


_START = (
    "Start a worker: `dailies worker` (or `dailies serve`), with the service's settings. Nothing is lost meanwhile."
)


def _nobody(facts: Facts, job: Row) -> Told:
    seen = facts.workers.seen_at
    last = f"the last one was seen at {clock(seen)}" if seen is not None else "none that did not sign out is known"
    doing = {
        Step.POLL: f"{facts.row['provider']} has the work, and no worker is alive to look after it",
        Step.STORE: "The video is made, and no worker is alive to store it",
    }.get(Step(job["step"]), "It was started, and no worker is alive to go on with it")
    return Told("no_worker", f"{doing}: {last}.", _START)


def _between(facts: Facts, job: Row, eta: tuple[int, int] | None, held: Mapping[str, Any] | None) -> Told:
    step = Step(job["step"])
    if step in {Step.RESOLVE, Step.HELD} or (step is Step.SUBMIT and held is not None):
        return _held(facts, job, held)
    late = facts.now - job["scheduled_for"]
    if late > LATE_MS:
        state = _DOES[step][0]
        what = f"Its turn has been due for {span(late)}: the workers are busy, or hang."
        return Told(state, what, "Look at `dailies stats`: another worker, or more SLOTS_... of this step, may help.")
    if step is Step.POLL:
        return _generating(facts, job, eta)
    return _to_come(facts, job, step)


def _to_come(facts: Facts, job: Row, step: Step) -> Told:
    """A submit or a store between two attempts, or about to begin."""
    state, provider = _DOES[step][0], facts.row["provider"]
    what = f"{provider} is asked" if step is Step.SUBMIT else "the video is fetched"
    if not job["attempts"]:
        return Told(state, f"It was started: {what} as soon as a worker takes its turn.", NOTHING)
    reason = facts.trouble["message"] if facts.trouble else None
    when = f"again at {clock(job['scheduled_for'])} (attempt {job['attempts'] + 1})"
    what = f"{what[0].upper()}{what[1:]} {when}, since the last attempt failed"
    return Told(state, f"{what}: {sentence(reason)}", NOTHING)


def _generating(facts: Facts, job: Row, eta: tuple[int, int] | None) -> Told:
    row, now = facts.row, facts.now
    took = row["accepted_at"]
    since = "" if took is None else f" since {clock(took)} ({span(now - took)})"
    far = "" if row["progress"] is None else f", {row['progress']:.0%} done as it says"
    ready = ""
    if eta is not None:
        long = now > eta[1]
        ready = f" Nine of ten are done by {clock(eta[1])}" + (": this one takes unusually long." if long else ".")
    when = clock(max(job["scheduled_for"], now))
    what = f"{row['provider']} works on it{since}{far}; it is looked at next at {when}.{ready}"
    return Told("generating", what, NOTHING)


def _held(facts: Facts, job: Row, held: Mapping[str, Any] | None) -> Told:
    if held is None:
        what = sentence(facts.row["error_message"])
        return Told("held", f"It is held: {what}", "Look at `dailies held`.")
    if held["waitsForPerson"]:
        return Told("held", f"It waits for a person. {held['happened']}", str(held["whatToDo"]))
    until = "" if held["until"] is None else f" An answer can come until {held['until']}."
    return Told(
        "held",
        f"It is being cleared up by itself. {held['happened']} It is looked into next at {clock(job['scheduled_for'])}."
        f"{until} {held['then']}",
        f"Nothing before that; if you know it already: {held['whatToDo']}",
    )
