"""What is known of a paid call whose outcome nobody knows, in words. Pure; times in milliseconds since 1970."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pipeline.db import Row
from pipeline.lifecycle import TERMINAL, Step
from pipeline.schemas import iso
from pipeline.workflow import Policies
from providers.base import Recovery

WORDS = 40
"""So many letters of a prompt are named."""
_THEN = {
    "hold": "It waits for a person to say what became of it (ON_UNKNOWN_SUBMIT=hold).",
    "fail": "The generation fails with submit_unknown, and the call stays in the ledger as possibly charged"
    " (ON_UNKNOWN_SUBMIT=fail).",
    "resubmit": "A new call is made, which may be charged a second time (ON_UNKNOWN_SUBMIT=resubmit).",
}
_ENDED = "The generation has ended; the call stays open in the ledger until somebody says what became of it."
_WAITS = "It waits for a person to say what became of it."
_NOTHING = "Nothing by itself any more."
_NOTHING_BUT_A_RING = "Nothing by itself any more, except that the provider may still ring."
_GONE = "The generation is gone; the call stays open in the ledger until somebody says what became of it."


def explained(
    row: Row, recovery: Recovery | None, policies: Policies, tried: Sequence[Row], now: int
) -> dict[str, Any]:
    """The members of a held call that are words. `recovery` is None where the provider is not configured here."""
    ways = prospects(row, recovery, policies)
    open_ways = {} if _is_left_alone(row) else {text: end for text, end in ways.items() if end > now}
    until = max(open_ways.values(), default=None)
    return {
        "waitsForPerson": _is_left_alone(row),
        "happened": _happened(row),
        "tried": _tried(row, recovery, tried),
        "canStillCome": "; ".join(f"{text} (until {iso(end)})" for text, end in open_ways.items()) or _nothing(row),
        "until": iso(until),
        "then": _then(row, policies),
        "whatToDo": _what_to_do(row),
    }


def _is_left_alone(row: Row) -> bool:
    """Whether no turn looks into it any more by itself."""
    return row["known"] is None or row["status"] in TERMINAL or row["step"] == Step.HELD


def _nothing(row: Row) -> str:
    """The provider can ring only if it was told where."""
    return _NOTHING_BUT_A_RING if "callback" in row["carries"].split() else _NOTHING


def prospects(row: Row, recovery: Recovery | None, policies: Policies) -> dict[str, int]:
    """Every way by which the outcome can become known without a person, and until when."""
    intended, carries = row["intended_at"], row["carries"].split()
    own = int(policies.own_answer * 1000)
    ways = {}
    if row["answered_at"] is None:
        ways["the answer to our own call, which nobody saw end"] = intended + own
    if recovery is None:
        return ways
    if recovery.idempotency_seconds is not None and "key" in carries:
        text = "the same request is sent again under its idempotency key, and is charged once"
        ways[text] = intended + int(recovery.idempotency_seconds * 1000)
    if recovery.lookup_quiet_seconds is not None and "lookup" in carries:
        ended = row["answered_at"] or intended + own
        text = "the provider is asked for work under our token; what is not there in the end was not taken"
        ways[text] = ended + int(recovery.lookup_quiet_seconds * 1000)
    if recovery.callback_seconds is not None and "callback" in carries:
        ways["the provider's callback, which carries our token"] = intended + int(recovery.callback_seconds * 1000)
    return ways


def _happened(row: Row) -> str:
    reason = (row["error_message"] or _unsaid(row)).rstrip(".")
    return f"The paid call of {iso(row['intended_at'])} to {row['provider']} ended without a clear answer: {reason}."


def _unsaid(row: Row) -> str:
    if row["answered_at"] is None:
        return "our process ended before the answer was written"
    return f"{row['error_code'] or 'no reason'} (the words were deleted with the generation)"


def _tried(row: Row, recovery: Recovery | None, tried: Sequence[Row]) -> str:
    if recovery is None:
        return f"Nothing: the provider {row['provider']!r} is not configured here."
    words = [f"Looked into {_times(row['looks'])}" if row["looks"] else "Not looked into yet"]
    names = {"resolve.unclear": "without a clear answer", "resolve.failed": "it could not be asked"}
    words += [f"{_times(each['times'])} {names[each['event']]}" for each in tried if each["run"] == row["run"]]
    if row["candidate_operation_id"] is not None:
        words.append("a callback named an operation that the provider has not shown to our key yet")
    return "; ".join(words) + "."


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


def _then(row: Row, policies: Policies) -> str:
    if row["known"] is None:
        return _GONE
    if row["status"] in TERMINAL:
        return _ENDED
    return _WAITS if row["step"] == Step.HELD else _THEN[policies.on_unknown]


def _what_to_do(row: Row) -> str:
    command = f"`dailies resolve {row['generation_id']} --as"
    begins = (row["prompt"] or "")[:WORDS].strip()
    prompt = f", whose prompt begins with {json.dumps(begins, ensure_ascii=False)}" if begins else ""
    follows = "" if row["known"] is None or row["status"] in TERMINAL else ", and a new call follows"
    return (
        f"Look at {row['provider']}'s own list of jobs for one of about {iso(row['intended_at'])}{prompt}. If it is"
        f" there: {command} accepted OPERATION`. If it surely is not: {command} not-taken`{follows}."
        f" If nobody can tell: {command} abandon`. Do not order it again before that."
    )
