"""Where a generation belongs in its caller's trace: `traceparent` of W3C Trace Context (https://www.w3.org/TR/trace-context/).
Pure.

A context is taken in on POST, kept with the generation and handed on with its webhooks, whether or not anybody makes
spans of it here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

_FORM = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})(?P<more>-.*)?"
)
SAMPLED = 1

Random = Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class Context:
    """A span's place: 16 and 8 bytes in hex, and whether it is to be recorded."""

    trace: str
    span: str
    sampled: bool

    @property
    def text(self) -> str:
        """As a header carries it."""
        return f"00-{self.trace}-{self.span}-{int(self.sampled):02x}"


def parse(header: str | None) -> Context | None:
    """The context that a header names; None where it names none, as the specification has it: then a trace begins
    anew. A version that is not known yet is read as far as it is known."""
    found = _FORM.fullmatch(header or "")
    if found is None or found["version"] == "ff" or (found["version"] == "00" and found["more"]):
        return None
    if not int(found["trace"], 16) or not int(found["span"], 16):
        return None
    return Context(found["trace"], found["span"], bool(int(found["flags"], 16) & SAMPLED))


class Tracing:
    """What becomes of a context here.

    Args:
        random: n random bytes; None while nobody makes spans: then contexts are handed on as they came.
    """

    def __init__(self, random: Random | None = None) -> None:
        self._random = random

    def begin(self, header: str | None) -> str | None:
        """The context of a request: within the caller's if it named one, else of a new trace."""
        parent = parse(header)
        if self._random is None:
            return parent.text if parent else None
        return self._within(parent or Context(self._random(16).hex(), "", sampled=True)).text

    def parent(self, header: str | None) -> str | None:
        """The caller's context, where `begin` made one within it."""
        parent = parse(header)
        return parent.text if parent and self._random else None

    def child(self, context: str | None) -> str | None:
        """A context within another."""
        parent = parse(context)
        if parent is None or self._random is None:
            return parent.text if parent else None
        return self._within(parent).text

    def _within(self, parent: Context) -> Context:
        assert self._random is not None
        return replace(parent, span=self._random(8).hex())


SPANS: dict[str, str] = {
    "request.done": "{method} {route}",
    "turn.done": "{step}",
}
"""Events that are spans, and what these are called: those with `trace` (their own context) or `parent` (that of the
span around them). A span ends when its event is told and began `ms`, or `run_ms` and `record_ms`, before."""
