"""Faults on demand: by a directive in the prompt, `[[name]]` or `[[name:number]]`, or by a rule of `PUT /faults`.

A number counts how often the fault happens (per prompt for submits and failures, per operation for all else); without
one it happens always. For `slow` and `slow-submit` the number is seconds.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from providers.mock.state import Rule, State

FAULTS: dict[str, str] = {
    "429": "The submit is refused with 429 and Retry-After (5 s divided by speed, rounded).",
    "503-submit": "The submit is answered 503 and not accepted.",
    "500-submit": "The submit is accepted and charged, then answered 500.",
    "garbage-submit": "The submit is accepted and charged, then answered 200 with half a JSON document.",
    "redirect-submit": "The submit is answered with a redirect, and not accepted.",
    "401": "The submit is refused: the key is not valid.",
    "402": "The submit is refused: no credit is left.",
    "refuse:moderation": "The submit is refused by moderation.",
    "cut-submit": "The connection is cut before the submit is accepted.",
    "drop-submit": "The submit is accepted and charged, then the connection is cut without an answer.",
    "slow-submit": "The submit is accepted and charged, and answered so many seconds later.",
    "503-poll": "A poll is answered 503.",
    "garbage-json": "A poll is answered 200 with half a JSON document.",
    "unknown-status": 'A poll of a running generation reports the status "warming_up".',
    "slow": "The generation takes so many seconds, whatever the speed.",
    "stuck": "The generation never finishes.",
    "fail:invalid": "The submit is refused with 400.",
    "fail:moderation": "The generation ends as failed by moderation, and is refunded where the provider does that.",
    "fail:transient": "The generation ends as failed by an internal error, and is refunded.",
    "fail:final": "The generation ends as failed for good, and is refunded.",
    "inline": "The video comes inside the poll's answer, where the dialect can do that.",
    "truncated": "The file's bytes stop half way, below the announced length.",
    "html": "An HTML error page is served as the file, with status 200.",
    "expired-url": "The link that a poll hands out has already expired.",
    "callback:twice": "The callback is delivered twice, with the same event id.",
    "callback:early": "A callback also rings before the submit is answered.",
}

SECONDS = frozenset({"slow", "slow-submit"})

_NAMES = "|".join(sorted(map(re.escape, FAULTS), key=len, reverse=True))
_DIRECTIVE = re.compile(rf"\[\[({_NAMES})(?::(\d{{1,6}}(?:\.\d{{1,3}})?))?\]\]")


@dataclass(frozen=True, slots=True)
class Directive:
    """A fault asked for in a prompt. `number` is a count, or seconds for the names in SECONDS."""

    name: str
    number: float | None


def directives(prompt: str) -> tuple[Directive, ...]:
    """The directives of a prompt, in order; words that are no fault's name are left alone."""
    if "[[" not in prompt:
        return ()
    return tuple(Directive(name, float(number) if number else None) for name, number in _DIRECTIVE.findall(prompt))


def read_rules(body: object) -> list[Rule]:
    """The rules of `PUT /faults`: a list of {"fault", "count" or "seconds", "match"}, all but the first optional.

    Raises ValueError, with a sentence for people, for anything else.
    """
    if not isinstance(body, list):
        raise ValueError("a JSON list of faults is expected")
    return [_read_rule(item) for item in body]


def _read_rule(item: Any) -> Rule:
    if not isinstance(item, dict) or str(item.get("fault")) not in FAULTS:
        raise ValueError(f'every fault needs "fault", one of: {", ".join(FAULTS)}')
    number, match = item.get("seconds" if str(item["fault"]) in SECONDS else "count"), item.get("match", "")
    if isinstance(number, bool) or not isinstance(number, int | float | None) or not isinstance(match, str):
        raise ValueError('"count" and "seconds" are numbers, "match" is a string')
    return Rule(fault=str(item["fault"]), number=number, match=match)


class Faults:
    """Decides whether a fault happens now, and remembers that it did."""

    def __init__(self, state: State) -> None:
        self._state = state

    def fires(self, name: str, prompt: str, scope: str) -> bool:
        """Whether fault `name` happens; a counted one is used up, in the prompt's directives by `scope`."""
        for directive in directives(prompt):
            if directive.name == name and self._state.spend(scope, name, directive.number):
                return True
        return any(self._state.spend_rule(rule) for rule in self._rules(name, prompt))

    def seconds(self, name: str, prompt: str) -> float | None:
        """The seconds of a fault of SECONDS, if it is asked for."""
        asked = [directive.number for directive in directives(prompt) if directive.name == name]
        asked += [rule.number for rule in self._rules(name, prompt)]
        return next((seconds for seconds in asked if seconds is not None), None)

    def _rules(self, name: str, prompt: str) -> Sequence[Rule]:
        return [rule for rule in self._state.rules if rule.fault == name and rule.match in prompt]
