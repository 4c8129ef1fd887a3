"""What is run: the drills of the long form, the saboteurs with what must be found, and the control of the known
hole."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from pipeline.drill.plan import FAULTS, Plan

ENGINES = ("sqlite", "postgresql")


@dataclass(frozen=True, slots=True)
class Case:
    """A drill on an engine. `expected` are names of violations, of which at least one must be found, and every one
    that is found must be among `expected` and `besides`; where nothing is expected nothing may be found."""

    name: str
    engine: str
    plan: Plan
    expected: frozenset[str] = frozenset()
    besides: frozenset[str] = frozenset()
    extra: dict[str, str] = field(default_factory=dict)


def long_form(generations: int, seed: int) -> list[Case]:
    """Every engine in every mode; SQLite with an API and two workers on one file, PostgreSQL with an API and four."""
    modes: list[tuple[str, str, tuple[str, ...]]] = [
        ("key", "key", ()),
        ("lookup", "lookup", ()),
        ("callback", "callback", ()),
        ("none", "none", ()),
        ("key, faults", "key", FAULTS),
    ]
    return [
        Case(
            f"{engine}, {name}",
            engine,
            Plan(
                generations=generations,
                seed=seed + number,
                recovery=recovery,
                faults=faults,
                workers=2 if engine == "sqlite" else 4,
                in_flight=20,
                blows=max(6, generations // 12),
                patience=120 + generations * 0.6,
            ),
        )
        for number, (name, recovery, faults) in enumerate(modes)
        for engine in ENGINES
    ]


_QUIET = Plan(generations=24, blows=0, in_flight=8, patience=60)
_HASTY = replace(_QUIET, submit_timeout=1.0)
_TOO_LONG = "stop:10"
"""Longer than SUBMIT_TIMEOUT, one and a half leases and the quiet period of the mock together."""
_PAID = frozenset({"charged_twice"})
_AND_SO = frozenset(
    {
        "paid_twice",
        "second_operation",
        "second_submission",
        "two_open",
        "money_differs",
        "cap_exceeded",
        "lane_over_cap",
    }
)
"""What else is seen where something is paid twice."""


def saboteurs() -> list[Case]:
    """Each protection taken away, and the violation that belongs to it."""
    return [
        _sabotage("fence_off", "sqlite", _QUIET, {"fence_back", "illegal_move"}, place="ran.store=stop:4"),
        _sabotage("fence_off", "postgresql", _QUIET, {"fence_back", "illegal_move"}, place="ran.store=stop:4"),
        _sabotage(
            "lease_off_at_record", "sqlite", replace(_QUIET, workers=1), {"zombie_wrote"}, place="ran.store=stop:3"
        ),
        _sabotage(
            "lease_off_before_paying",
            "sqlite",
            replace(_HASTY, recovery="lookup"),
            set(_PAID),
            place=f"checking={_TOO_LONG}",
        ),
        _sabotage("blind_requeue", "sqlite", replace(_QUIET, recovery="none"), set(_PAID), place="paid=die*2"),
        _sabotage("blind_requeue", "postgresql", replace(_QUIET, recovery="none"), set(_PAID), place="paid=die*2"),
        _sabotage(
            "retry_on_timeout",
            "sqlite",
            replace(_QUIET, recovery="none", faults=("[[drop-submit:1]]",)),
            set(_PAID),
        ),
        _sabotage("deferred_begin", "sqlite", replace(_QUIET, generations=60), {"database_locked"}),
        _sabotage(
            "counter_without_lock",
            "postgresql",
            replace(_QUIET, generations=80, workers=4),
            {"cap_exceeded", "lane_over_cap"},
        ),
        _sabotage("outbox_outside", "sqlite", _QUIET, {"silent", "ended_untold"}),
    ]


def _sabotage(name: str, engine: str, plan: Plan, expected: set[str], place: str = "") -> Case:
    extra = {"CHAOS_SABOTEUR": name} | ({"CHAOS_PLACE": place} if place else {})
    besides = _AND_SO if expected == _PAID else ALONGSIDE.get(name, frozenset())
    return Case(f"{name}, {engine}", engine, plan, frozenset(expected), besides, extra)


ALONGSIDE = {
    "fence_off": frozenset({"turn_crashed", "zombie_wrote", "job_left_over"}),
    "deferred_begin": frozenset({"turn_crashed", "process_ended"}),
    "outbox_outside": frozenset({"event_before_state"}),
}
"""What else a saboteur does."""


def innocents() -> list[Case]:
    """The same blows with every protection in place: nothing may be found."""
    return [
        _hit("stopped at record", "sqlite", _QUIET, "ran.store=stop:4"),
        _hit("stopped before the check, lookup", "sqlite", replace(_HASTY, recovery="lookup"), f"checking={_TOO_LONG}"),
        _hit("killed when paid, none", "sqlite", replace(_QUIET, recovery="none"), "paid=die*2"),
        _hit("killed when paid, key", "postgresql", _QUIET, "paid=die*2"),
        _hit("frozen while paying, key", "postgresql", _HASTY, f"paying={_TOO_LONG}"),
        _hit("frozen while paying, none", "postgresql", replace(_HASTY, recovery="none"), f"paying={_TOO_LONG}"),
    ]


def known_hole() -> list[Case]:
    """A process frozen between its last look at the lease and the first byte, longer than lease and quiet period: the
    one hole, which a lookup leaves. It is reported here, not hidden."""
    found = _hit("KNOWN HOLE: frozen while paying, lookup", "sqlite", replace(_HASTY, recovery="lookup"), "")
    return [replace(found, expected=_PAID, besides=_AND_SO, extra={"CHAOS_PLACE": f"paying={_TOO_LONG}"})]


def _hit(name: str, engine: str, plan: Plan, place: str) -> Case:
    return Case(f"{name}, {engine}", engine, plan, extra={"CHAOS_PLACE": place})
