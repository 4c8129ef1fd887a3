"""The verdict on a drill: every promise that was broken, by name. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from pipeline.drill.evidence import Charge, Evidence
from pipeline.drill.history import peak
from pipeline.drill.rules import Violation
from pipeline.lifecycle import TERMINAL, GenerationStatus

NAMES = {
    "charged_twice": "the provider charged more than once for one generation",
    "order_lost": "an order was answered 202 and has no generation, or has one that never ended",
    "taken_twice": "one order became two generations",
    "silent": "a generation ended, and its end was recorded by no event or came to no receiver",
    "told_twice": "a generation has more than one terminal event",
    "unverified": "a webhook came whose signature does not hold",
    "cap_exceeded": "more was at work at the provider at once than MAX_IN_FLIGHT",
    "money_differs": "our ledger says something else than the provider's account",
    "failed_needlessly": "a generation failed although nothing of it was unknown",
    "no_video": "a generation is completed, and its file is no playable video",
    "zombie_wrote": "a process that was stopped in a turn for longer than its lease recorded that turn",
    "turn_crashed": "a process met an error that was not foreseen",
    "database_locked": "writers of one SQLite file got in each other's way",
    "process_ended": "a process ended by itself",
    "not_taken_over": "what a killed process held was still in its name after a minute",
}
"""What a verdict can hold, beside what the history checker finds (`rules.NAMES`)."""

UNKNOWN = frozenset({"submit_unknown"})
Found = Iterator[Violation]


def verdict(evidence: Evidence) -> list[Violation]:
    """All violations, those of money first."""
    return [violation for rule in _RULES for violation in rule(evidence)] + list(evidence.history)


def at_once(evidence: Evidence) -> int:
    """How many orders were at work at the provider at once, at most."""
    ends = max((charge.until or 0.0 for charge in evidence.charges), default=0.0) + 3600
    spans = ((_ms(charge.at), _ms(charge.until or ends)) for charge in evidence.charges)
    return peak(spans)[0]


def charged_twice(evidence: Evidence) -> list[str]:
    """The prompts for which the provider charged more than once."""
    counts = Counter(charge.prompt for charge in evidence.charges if charge.net > 0)
    return sorted(prompt for prompt, count in counts.items() if count > 1)


def missing(evidence: Evidence) -> list[str]:
    """The generations that were promised and are not there, or did not end."""
    ended = {row["id"] for row in evidence.generations if GenerationStatus(row["status"]) in TERMINAL}
    known = {row["id"] for row in evidence.generations}
    return sorted((set(evidence.taken) | known) - ended)


def _paid(evidence: Evidence) -> Found:
    for prompt in charged_twice(evidence):
        ids = ", ".join(charge.id for charge in evidence.charges if charge.prompt == prompt)
        yield Violation("charged_twice", _id_of(evidence, prompt), f"{prompt!r} was charged as {ids}")


def _lost(evidence: Evidence) -> Found:
    status = {row["id"]: row["status"] for row in evidence.generations}
    for name in missing(evidence):
        yield Violation("order_lost", name, f"it is {status.get(name, 'not in the database')}")
    prompts = Counter(row["prompt"] for row in evidence.generations)
    for prompt, count in prompts.items():
        if count > 1:
            yield Violation("taken_twice", _id_of(evidence, prompt), f"{prompt!r} is there {count} times")
    short = evidence.plan.generations - len(evidence.taken)
    if short > 0:
        yield Violation("order_lost", "", f"{short} orders were not answered in time")


def _told(evidence: Evidence) -> Found:
    recorded = Counter(row["generation_id"] for row in evidence.endings)
    for row in evidence.generations:
        name, came = row["id"], evidence.told.get(row["id"], {})
        if GenerationStatus(row["status"]) not in TERMINAL:
            continue
        if recorded[name] == 0:
            yield Violation("silent", name, f"it is {row['status']} and has no terminal event")
        elif not came:
            yield Violation("silent", name, f"it is {row['status']} and no webhook came")
        if recorded[name] > row["run"] or len(came) > row["run"]:
            yield Violation("told_twice", name, f"{recorded[name]} terminal events, {len(came)} came")
    for problem in evidence.unverified:
        yield Violation("unverified", "", problem)


def _caps(evidence: Evidence) -> Found:
    most = at_once(evidence)
    if most > evidence.plan.in_flight:
        yield Violation("cap_exceeded", "", f"{most} at once, and {evidence.plan.in_flight} were allowed")


def _money(evidence: Evidence) -> Found:
    """What we know to be billed is charged, to the micro-dollar; and what is charged is known, or said to be
    unknown."""
    charges = {charge.id: charge for charge in evidence.charges}
    ours = {row["operation_id"]: row for row in evidence.submissions if row["operation_id"] is not None}
    unclear = {row["generation_id"] for row in evidence.submissions if _unclear(row)}
    for operation, row in ours.items():
        charge = charges.get(operation)
        theirs = None if charge is None else charge.net
        if charge is None or (row["billed"] == "yes" and row["cost_micros"] != theirs) or _denied(row, charge):
            said = f"billed {row['billed']}, {row['cost_micros']} micro-USD"
            yield Violation("money_differs", row["generation_id"], f"{operation}: we say {said}; the account {theirs}")
    names = {row["prompt"]: row["id"] for row in evidence.generations}
    for charge in evidence.charges:
        name = names.get(charge.prompt, "")
        if charge.net > 0 and charge.id not in ours and name not in unclear:
            yield Violation("money_differs", name, f"{charge.id} is charged, and our ledger does not know of it")


def _unclear(row: dict[str, object]) -> bool:
    return row["operation_id"] is None and row["billed"] == "unknown"


def _denied(row: dict[str, object], charge: Charge) -> bool:
    return row["billed"] == "no" and charge.net > 0


def _failures(evidence: Evidence) -> Found:
    """With a key or a lookup every unknown outcome is cleared up: nothing may fail, unless the mock did."""
    if evidence.plan.faults:
        return
    allowed = UNKNOWN if evidence.plan.recovery in {"callback", "none"} else frozenset()
    for row in evidence.generations:
        if row["status"] == GenerationStatus.FAILED and row["error_code"] not in allowed:
            yield Violation("failed_needlessly", row["id"], f"it failed with {row['error_code']}")


def _videos(evidence: Evidence) -> Found:
    for name, words in evidence.unplayable.items():
        yield Violation("no_video", name, words)


def _processes(evidence: Evidence) -> Found:
    for zombie in evidence.zombies:
        fence = evidence.fences.get(zombie.generation, 0)
        if fence <= zombie.fence:
            yield Violation("zombie_wrote", zombie.generation, f"nobody took it over after fence {zombie.fence}")
    for words in evidence.logs.crashed:
        yield Violation("turn_crashed", "", words)
    for words in evidence.logs.locked if evidence.sqlite else ():
        yield Violation("database_locked", "", words)
    for words in evidence.ended_alone:
        yield Violation("process_ended", "", words)
    if evidence.blows.untaken:
        yield Violation("not_taken_over", "", f"{evidence.blows.untaken} of {evidence.blows.kills} kills")


def _id_of(evidence: Evidence, prompt: str) -> str:
    return next((row["id"] for row in evidence.generations if row["prompt"] == prompt), "")


def _ms(seconds: float) -> int:
    return int(seconds * 1000)


_RULES: tuple[Callable[[Evidence], Found], ...] = (_paid, _lost, _told, _caps, _money, _failures, _videos, _processes)
