"""The history checker finds every violation by its name, and none where everything went well."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.db import Database, Tx
from pipeline.drill.history import BATCH, Calls, Caps, check, peak
from pipeline.drill.rules import NAMES, History, Row, violations
from tests.house import open_house
from tests.pipeline.engines import Place

pytestmark = pytest.mark.anyio


def line(at: int, event: str, fence: int | None = None, run: int = 1, worker: str = "w1", **detail: object) -> Row:
    return {
        "generation_id": "g",
        "run": run,
        "at": at,
        "event": event,
        "detail": json.dumps(detail) if detail else None,
        "fence": fence,
        "worker": None if fence is None else worker,
    }


def call(token: str, intended: int, closed: int | None, outcome: str, **values: Any) -> Row:
    known = {"operation_id": f"op-{token}", "billed": "yes", "answered_at": intended + 1}
    row = {"generation_id": "g", "tenant_id": "t", "user_id": "ann", "run": 1, "provider": "mock", "token": token}
    return row | {"outcome": outcome, "intended_at": intended, "closed_at": closed} | known | values


def told(at: int, kind: str, run: int = 1, *, terminal: int = 1) -> Row:
    return {"generation_id": "g", "run": run, "type": f"generation.{kind}", "terminal": terminal, "created_at": at}


LINES = [
    line(0, "queued"),
    line(10, "submit.intended", 1, submission="a"),
    line(20, "submit.accepted", 1),
    line(30, "generated", 2),
    line(40, "stored", 3, worker="w2"),
    line(40, "completed", 3, worker="w2"),
]
GOOD = History(
    {"id": "g", "tenant_id": "t", "user_id": "ann", "status": "completed", "run": 1, "finished_at": 40},
    {"subject_id": "g", "status": "done", "step": "store", "fence": 3},
    [call("a", 10, 30, "succeeded")],
    LINES,
    [told(10, "processing", terminal=0), told(40, "completed")],
)
REDRIVEN = History(
    GOOD.generation | {"run": 2, "finished_at": 90},
    {"subject_id": "g", "status": "done", "step": "store", "fence": 6},
    [call("a", 10, 30, "failed", billed="no"), call("b", 60, 80, "succeeded", run=2)],
    [
        *LINES[:3],
        line(30, "failed", 2),
        line(50, "redriven", run=2, start="submit"),
        line(60, "submit.intended", 4, run=2, submission="b"),
        line(90, "completed", 6, run=2),
    ],
    [told(30, "failed"), told(90, "completed", 2)],
)


def names(history: History) -> list[str]:
    return [violation.name for violation in violations(history)]


@pytest.mark.parametrize("history", [GOOD, REDRIVEN])
def test_what_went_well_is_not_blamed(history: History) -> None:
    assert violations(history) == []


def fenced(*fences: tuple[int, int, str]) -> History:
    """The good one with other turns: run, fence and worker of its last lines."""
    turns = [line(30, "poll.failed", fence, run, worker) for run, fence, worker in fences]
    return replace(GOOD, lines=[*LINES[:3], *turns, *LINES[4:]])


def open_job(**job: object) -> History:
    row = GOOD.generation | {"status": "processing", "finished_at": None}
    begun = {"subject_id": "g", "status": "pending", "step": "poll", "fence": 3} | job
    return replace(GOOD, generation=row, job=begun, lines=LINES[:4], events=GOOD.events[:1])


UNKNOWN = line(25, "submit.unknown", 1)
AGAIN = [*LINES[:2], UNKNOWN, line(50, "submit.intended", 2, submission="b"), *LINES[4:]]
AGAIN_ALLOWED = [*AGAIN[:3], line(40, "submit.resubmit", 2), *AGAIN[3:]]
TWO_TAKEN = [call("a", 10, 70, "failed", billed="unknown", answered_at=60), call("b", 50, 60, "succeeded")]

PLANTED = {
    "no_fence": replace(GOOD, lines=[*LINES[:3], line(30, "generated"), *LINES[4:]]),
    "run_back": fenced((2, 3, "w1"), (1, 3, "w2")),
    "fence_back": fenced((1, 3, "w2"), (1, 2, "w1")),
    "fence_shared": fenced((1, 3, "w1")),
    "fence_ahead": replace(GOOD, job={"subject_id": "g", "status": "done", "step": "store", "fence": 2}),
    "illegal_move": replace(GOOD, lines=[*LINES, line(50, "failed", 3, worker="w2")]),
    "status_untold": replace(GOOD, lines=LINES[:-1]),
    "ended_twice": replace(GOOD, events=[*GOOD.events, told(40, "failed")]),
    "ended_early": replace(open_job(), events=GOOD.events),
    "ended_otherwise": replace(GOOD, events=[told(40, "failed")]),
    "ended_untold": replace(GOOD, events=GOOD.events[:1]),
    "event_before_state": replace(GOOD, events=[told(39, "completed")]),
    "job_left_over": replace(GOOD, job={"subject_id": "g", "status": "pending", "step": "poll", "fence": 3}),
    "lost": open_job(status="done"),
    "two_open": replace(GOOD, submissions=[call("a", 10, None, "accepted"), call("b", 15, 30, "succeeded")]),
    "second_submission": replace(
        GOOD, submissions=[call("a", 10, 14, "failed", billed="unknown"), call("b", 15, 30, "rejected")]
    ),
    "paid_twice": replace(
        GOOD, lines=[*AGAIN[:3], line(40, "submit.resolved", 2, by="lookup"), *AGAIN[3:]], submissions=TWO_TAKEN
    ),
    "second_operation": replace(GOOD, submissions=[*GOOD.submissions, call("a.op2", 10, 30, "failed")]),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_violation_is_found_by_its_name(name: str) -> None:
    assert name in names(PLANTED[name])


def test_every_name_is_planted_somewhere() -> None:
    assert NAMES.keys() == PLANTED.keys() | {"lane_over_cap", "user_over_cap"}


@pytest.mark.parametrize(
    "history",
    [
        open_job(),
        replace(GOOD, job=None),
        replace(GOOD, job={"subject_id": "g", "status": "pending", "step": "late", "fence": 3}),
        replace(GOOD, lines=[line(90, "deleted")]),
        replace(GOOD, lines=LINES[3:]),
        replace(GOOD, events=[], kept=False),
        replace(GOOD, lines=AGAIN_ALLOWED, submissions=TWO_TAKEN),
        replace(GOOD, lines=[*LINES, line(41, "submit.late", operation="op-b")]),
    ],
    ids=["under way", "job pruned", "late", "deleted", "timeline pruned", "events pruned", "allowed", "a late fact"],
)
def test_what_may_be_is_not_blamed(history: History) -> None:
    assert names(history) == []


def test_caps_count_what_was_under_way_at_once() -> None:
    calls = Calls(Caps({"provider:mock": 1}, per_user=1))
    calls.add(replace(GOOD, submissions=[call("a", 10, 30, "succeeded")]))
    calls.add(replace(GOOD, submissions=[call("b", 30, 50, "succeeded")], events=[]))
    assert calls.violations() == [], "one begins as the other ends"
    calls.add(replace(GOOD, submissions=[call("c", 29, None, "accepted")]))
    assert [violation.name for violation in calls.violations()] == ["lane_over_cap", "user_over_cap"]


def test_a_user_may_have_a_cap_of_his_own() -> None:
    calls = Calls(Caps(per_user=1, users={("t", "ann"): 2}))
    for token in "ab":
        calls.add(replace(GOOD, submissions=[call(token, 10, 30, "succeeded")]))
    assert calls.violations() == []


def test_a_call_that_nobody_can_clear_up_counts_for_its_time_only() -> None:
    calls = Calls(Caps({"provider:mock": 1}, unclear_seconds=0.01))
    unknown = {"operation_id": None, "billed": "unknown"}
    calls.add(replace(GOOD, submissions=[call("a", 10, None, "unknown", **unknown)], events=[]))
    calls.add(replace(GOOD, submissions=[call("b", 20, 40, "succeeded")], events=[]))
    assert calls.violations() == []


def test_the_peak_of_nothing_is_nothing() -> None:
    assert peak([]) == peak([(5, 5), (9, 3)]) == (0, 0)
    assert peak([(0, 10), (5, 15), (9, 10), (10, 12)]) == (3, 9)


async def test_a_house_that_works_has_nothing_to_hide(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        asked = [await house.submit(f"[[{fault}]] fox", userId="ann") for fault in ("slow:0", "fail:moderation")]
        for each in asked:
            await house.ended(each["id"])
        caps = Caps({"provider:mock": 2}, per_user=2)
        assert await check(house.plant.db, caps) == []
        await house.plant.db.write(lambda tx: tx.run("UPDATE timeline SET fence = 99 WHERE event = 'generated'"))
        found = {violation.name for violation in await check(house.plant.db)}
        assert "fence_back" in found


def _many(tx: Tx) -> None:
    """As many as make three batches; every hundredth has lost its job."""
    for number in range(2 * BATCH + 10):
        name = f"g{number:06}"
        row: Row = {"id": name, "tenant_id": "t", "request_hash": "", "prompt": "", "parameters": "{}", "labels": "{}"}
        row |= {"provider": "mock", "status": "queued", "created_at": 1, "updated_at": 1, "priority": 5, "run": 1}
        tx.insert("generation", row | {"sequence": 0})
        if number % 100:
            job: Row = {
                "kind": "generation",
                "subject_id": name,
                "tenant_id": "t",
                "lane": "provider:mock",
                "step": "submit",
            }
            job |= dict.fromkeys(("sort_at", "scheduled_for", "fence", "wake_seq", "attempts", "polls"), 0)
            job |= {"status": "waiting", "claims_unrecorded": 0, "cancel_requested": 0}
            tx.insert("job", job)


async def test_many_are_read_in_batches_on_either_database(place: Place) -> None:
    db: Database = place.open()
    await db.write(_many)
    found = await check(db)
    assert [(violation.name, violation.generation) for violation in found] == [
        ("lost", f"g{number:06}") for number in range(0, 2 * BATCH + 10, 100)
    ]
