"""A drill's verdict: every broken promise is found by its name; and a plan is the same for the same seed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli.drilling import Asked, report
from pipeline.drill.environment import environment
from pipeline.drill.evidence import Charge, Evidence, Logs, Zombie, read_logs, read_zombies, unplayable
from pipeline.drill.fate import Blows
from pipeline.drill.plan import FAULTS, Order, Plan, blows, orders
from pipeline.drill.rules import Violation
from pipeline.drill.table import HEADINGS, Result, complaints, row, table
from pipeline.drill.verdict import NAMES, at_once, verdict

PLAN = Plan(generations=2, in_flight=1)


def generation(name: str, **values: Any) -> dict[str, Any]:
    return {"id": name, "prompt": f"drill 1/{name}", "status": "completed", "error_code": None, "run": 1} | values


def paid(name: str, operation: str | None, **values: Any) -> dict[str, Any]:
    known = {"outcome": "succeeded", "billed": "yes", "cost_micros": 50}
    return {"generation_id": name, "token": f"sub_{name}", "operation_id": operation} | known | values


def ending(name: str) -> dict[str, Any]:
    return {"generation_id": name, "run": 1, "type": "generation.completed"}


GOOD = Evidence(
    plan=PLAN,
    taken={name: Order(0, f"drill 1/{name}", "u", 5, name) for name in "ab"},
    generations=[generation("a"), generation("b")],
    submissions=[paid("a", "v1"), paid("b", "v2")],
    endings=[ending("a"), ending("b")],
    charges=[Charge("v1", "drill 1/a", 1.0, 2.0, 50), Charge("v2", "drill 1/b", 2.0, 3.0, 50)],
    told={"a": {"evt_1": 1}, "b": {"evt_2": 3}},
)


def names(evidence: Evidence) -> set[str]:
    return {violation.name for violation in verdict(evidence)}


def test_nothing_is_found_where_all_went_well():
    assert verdict(GOOD) == []
    assert at_once(GOOD) == 1


AGAIN = Charge("v3", "drill 1/a", 4.0, 5.0, 50)
BROKEN: dict[str, Any] = {
    "charged_twice": replace(GOOD, charges=[*GOOD.charges, AGAIN], submissions=[*GOOD.submissions, paid("a", "v3")]),
    "order_lost": replace(GOOD, generations=[generation("a"), generation("b", status="processing")]),
    "order_lost, gone": replace(GOOD, generations=GOOD.generations[:1]),
    "order_lost, unanswered": replace(GOOD, plan=replace(PLAN, generations=3)),
    "taken_twice": replace(GOOD, generations=[*GOOD.generations, generation("c", prompt="drill 1/a")]),
    "silent": replace(GOOD, told={"a": {"evt_1": 1}}),
    "silent, unrecorded": replace(GOOD, endings=GOOD.endings[:1]),
    "told_twice": replace(GOOD, told={"a": {"evt_1": 1, "evt_9": 1}, "b": {"evt_2": 1}}),
    "told_twice, recorded": replace(GOOD, endings=[*GOOD.endings, ending("a")]),
    "unverified": replace(GOOD, unverified=["the signature does not hold"]),
    "cap_exceeded": replace(GOOD, charges=[GOOD.charges[0], replace(GOOD.charges[1], at=1.5)]),
    "cap_exceeded, for ever": replace(GOOD, charges=[replace(GOOD.charges[0], until=None), GOOD.charges[1]]),
    "money_differs": replace(GOOD, submissions=[paid("a", "v1", cost_micros=40), paid("b", "v2")]),
    "money_differs, denied": replace(GOOD, submissions=[paid("a", "v1", billed="no"), paid("b", "v2")]),
    "money_differs, not known": replace(GOOD, submissions=GOOD.submissions[:1]),
    "money_differs, made up": replace(GOOD, submissions=[*GOOD.submissions, paid("a", "v9")]),
    "failed_needlessly": replace(
        GOOD, generations=[generation("a"), generation("b", status="failed", error_code="submit_unknown")]
    ),
    "no_video": replace(GOOD, unplayable={"a": "it has no bytes"}),
    "zombie_wrote": replace(GOOD, zombies=[Zombie("a", 4)], fences={"a": 4}),
    "turn_crashed": replace(GOOD, logs=Logs(crashed=["turn.crashed: KeyError"])),
    "database_locked": replace(GOOD, logs=Logs(locked=["database is locked"])),
    "process_ended": replace(GOOD, ended_alone=["worker-1: code 2"]),
    "not_taken_over": replace(GOOD, blows=Blows(kills=3, untaken=1)),
}


@pytest.mark.parametrize("name", BROKEN)
def test_every_broken_promise_is_found_by_its_name(name):
    assert name.partition(",")[0] in names(BROKEN[name])


def test_every_name_was_tried():
    assert {name.partition(",")[0] for name in BROKEN} == set(NAMES)


@pytest.mark.parametrize(
    "harmless",
    [
        replace(GOOD, submissions=[paid("a", None, billed="unknown", cost_micros=None), paid("b", "v2")]),
        replace(GOOD, charges=[*GOOD.charges, replace(AGAIN, net=0)]),
        replace(
            GOOD,
            plan=replace(PLAN, recovery="none"),
            generations=[generation("a"), generation("b", status="failed", error_code="submit_unknown")],
        ),
        replace(GOOD, zombies=[Zombie("a", 4)], fences={"a": 5}),
        replace(GOOD, logs=Logs(locked=["database is locked"]), sqlite=False),
    ],
)
def test_what_is_allowed_is_no_violation(harmless):
    assert verdict(harmless) == []


def test_the_same_seed_plans_the_same():
    plan = Plan(generations=50, faults=FAULTS, blows=30)
    assert orders(plan) == orders(plan)
    assert list(blows(plan)) == list(blows(plan))
    assert orders(plan) != orders(replace(plan, seed=2))
    assert len({order.prompt for order in orders(plan)}) == 50
    stops = [blow.stop for blow in blows(plan) if blow.stop is not None]
    assert all(stop > plan.lease for stop in stops)
    assert 0 < len(stops) < 30


def test_processes_are_told_nothing_of_the_settings_in_force():
    base = {"PATH": "/bin", "FAL_API_KEY": "secret", "R2_BUCKET": "mine", "database_url": "theirs", "LEASE": "10"}
    told = environment(
        PLAN, base, database="sqlite:///x", folder=Path("/f"), port=1, mock="m", hook="h", secret="whsec_x"
    )
    assert not {"FAL_API_KEY", "R2_BUCKET", "database_url"} & set(told)
    assert (told["PATH"], told["LEASE"], told["PROVIDER"]) == ("/bin", "2.0", "mock")


def test_logs_are_read_as_far_as_they_are_whole(tmp_path):
    lines = [
        {"event": "turn.lost", "level": "warning", "job": 4},
        {"event": "turn.lost", "level": "warning", "job": 4},
        {"event": "worker.lease_lost", "level": "warning"},
        {"event": "turn.crashed", "level": "warning", "error": "busy"},
        {"event": "turn.crashed", "level": "error", "error": "KeyError"},
        {"event": "worker.failed", "level": "warning", "error": "sqlite: database is locked"},
    ]
    log = tmp_path / "worker-1.0001.log"
    log.write_text("\n".join(map(json.dumps, lines)) + '\n[1]\n{"event": "turn.lo')
    logs = read_logs([log])
    assert (logs.lost[4], logs.starved, logs.crashed, len(logs.locked)) == (2, 1, ["turn.crashed: KeyError"], 1)
    assert read_zombies(tmp_path) == []


def test_videos_are_looked_at(tmp_path):
    (tmp_path / "html.mp4").write_text("<html>")
    rows = [
        {"id": "a", "status": "completed", "video_key": "html.mp4"},
        {"id": "b", "status": "completed", "video_key": "gone.mp4"},
        {"id": "c", "status": "failed", "video_key": None},
    ]
    assert set(unplayable(tmp_path, rows)) == {"a", "b"}


def test_the_table_says_what_happened():
    bad = Result("sqlite, key", BROKEN["charged_twice"], [Violation("charged_twice", "gen_1", "twice")])
    cells = dict(zip(HEADINGS, row(bad), strict=True))
    assert (cells["charged twice"], cells["completed"], cells["takeover s"]) == ("1", "2", "-")
    assert cells["violations"] == "charged_twice"
    assert len(table([bad, bad]).splitlines()) == 4
    assert complaints(replace(bad, violations=bad.violations * 30)).endswith("and 10 more")


def test_the_report_says_if_fewer_blows_were_struck_than_asked_for():
    asked = Asked(generations=2, kills=3, workers=2, recovery="key", faults=False, seconds=60, seed=1, keep=False)
    plan = replace(PLAN, blows=3)
    all_of_them = Result("SQLite", replace(GOOD, plan=plan, blows=Blows(kills=2, stops=1)), [])
    assert "1 of 3 blows" in report(
        Result("SQLite", replace(GOOD, plan=plan, blows=Blows(kills=1)), []), asked, plan, None
    )
    assert "blows were struck" not in report(all_of_them, asked, plan, None)
