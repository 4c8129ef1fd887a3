"""Fallback: the next provider of a generation's chain is asked where this one surely took nothing, or ended the work
unbilled. Never after a timeout, an unknown outcome, or a failure that cost something or may have."""

from __future__ import annotations

from pipeline import chain
from pipeline.admission import Closed, provider_lane
from pipeline.db import Row
from pipeline.lifecycle import Busy, Elsewhere, Failed, Fallback
from pipeline.turn import Report
from pipeline.workflow.parts import Parts


def or_elsewhere(parts: Parts, generation: Row, report: Report) -> Report:
    """The report of an end that surely cost nothing; where there is a next provider, it is asked instead of waiting,
    trying again or failing.

    It goes before a new submission to the same provider, which has just shown that it cannot do the work.
    """
    index, outcome = next_candidate(parts, generation), report.outcome
    if index is None or not isinstance(outcome, Busy | Failed):
        return report
    after = outcome.after if isinstance(outcome, Busy) else 0.0
    lane = provider_lane(chain.chain_of(generation)[index].provider)
    more = next_candidate(parts, generation | {"candidate": index}) is not None
    report.outcome = Elsewhere(outcome.fault, lane, more, after)
    return report


def shut(parts: Parts, generation: Row, closed: Closed) -> Report:
    """Nothing may be sent to the provider just now: wait, or ask another one if it is closed by itself."""
    if not closed.alone:
        return Report(Busy(closed.fault))
    return or_elsewhere(parts, generation, Report(Busy(closed.fault, stays=True)))


def next_candidate(parts: Parts, generation: Row) -> int | None:
    """The place in the chain of the next provider that can be asked from here; None if this one is the last."""
    places = enumerate(chain.chain_of(generation))
    behind = (place for place, named in places if place > generation["candidate"] and named.provider in parts.providers)
    return next(behind, None)


def step_on(parts: Parts, generation: Row, decision: Fallback) -> tuple[dict[str, object], dict[str, object]]:
    """The generation's columns with its next provider, and what the timeline says of it."""
    index = next_candidate(parts, generation)
    assert index is not None
    provider = parts.providers[chain.chain_of(generation)[index].provider]
    columns = chain.take(generation, index, provider.capabilities.catalogue)
    detail = {
        "from": generation["provider"],
        "to": columns["provider"],
        "model": columns["model"],
        "code": decision.fault.code,
        "reason": decision.fault.message,
    }
    return columns, detail
