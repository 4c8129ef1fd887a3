"""What is right and what is wrong about each part of a request, in words that say what to do. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from webhooks.diagnosis.dump import PARTS, Dump
from webhooks.diagnosis.keys import kind_problem
from webhooks.diagnosis.search import Known, Match, find
from webhooks.signing import TOLERANCE

MILLISECONDS = 1e11
"""A number of seconds that is reached in the year 5138."""
_WORDS = ((86_400.0, "days"), (3_600.0, "hours"), (60.0, "minutes"), (0.0, "seconds"))


@dataclass(frozen=True, slots=True)
class Finding:
    """One part (`key`, `id`, `timestamp`, `body`, `signature`): right, wrong or unknown (None), and why."""

    part: str
    right: bool | None
    detail: str


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All parts, in the order in which they are worth looking at."""

    findings: tuple[Finding, ...]

    @property
    def verifies(self) -> bool:
        """Whether a receiver with this key takes this request at this time."""
        return all(finding.right for finding in self.findings)

    @property
    def wrong(self) -> tuple[str, ...]:
        """The parts that are wrong."""
        return tuple(finding.part for finding in self.findings if finding.right is False)


def diagnose(
    dump: Dump, used: Sequence[Known], others: Sequence[Known] = (), *, now: float, tolerance: float = TOLERANCE
) -> Diagnosis:
    """Look at a request.

    Args:
        used: the secrets that the receiver verifies with.
        others: secrets that it might have to use instead; a match says so.
        now: Unix seconds at which the request arrived.
    """
    missing = [part for part in PARTS if not any(value.strip() for value in dump.values(part))]
    twice = [part for part in PARTS if len(dump.values(part)) > 1 and part != "signature"]
    body = dump.body or b""
    event_id, timestamp, _ = ((dump.values(part) or ("",))[0] for part in PARTS)
    entries = _entries(dump.values("signature"))
    match = None
    if not missing:
        match = find([*used, *others], entries, event_id, timestamp, body)
    return Diagnosis(
        (
            _about_key(match, used, entries),
            _about_id(event_id, match, "id" in missing, "id" in twice),
            _about_time(timestamp, match, "timestamp" in missing, "timestamp" in twice, now, tolerance),
            _about_body(dump, match),
            _about_signature(entries, match, used, "signature" in missing),
        )
    )


def _entries(values: Sequence[str]) -> list[str]:
    """The entries, also of several headers that somebody joined with commas."""
    text = " ".join(values).strip()
    return re.sub(r",\s*(?=v\d\w*,)", " ", text).split()


def _about_key(match: Match | None, used: Sequence[Known], entries: Sequence[str]) -> Finding:
    if match is not None:
        if match.known not in used:
            return Finding(
                "key", False, f"it is another one: the request was signed with {match.known.source}; take that"
            )
        if match.reading.mend:
            return Finding("key", False, f"{match.known.source}: {match.reading.mend}")
        return Finding("key", True, f"{match.known.source} made this signature")
    for known in used:
        if problem := kind_problem(known.secret, asymmetric=any(entry.startswith("v1a,") for entry in entries)):
            return Finding("key", False, f"{known.source}: {problem}")
    if not used:
        return Finding("key", None, "no secret is known: give it with --secret")
    if entries and not any(entry.startswith(("v1,", "v1a,")) for entry in entries):
        return Finding("key", None, "nothing was signed with a secret: see the signature")
    names = " or ".join(known.source for known in used)
    return Finding("key", None, f"{names} does not fit: most often the signer has another secret. Copy its secret anew")


def _about_id(event_id: str, match: Match | None, missing: bool, twice: bool) -> Finding:
    if missing:
        return Finding(
            "id", False, "the header webhook-id is missing: hand all headers to the verifier, or let them through"
        )
    if twice:
        return Finding("id", False, "webhook-id came more than once; one is expected")
    if match is not None and match.prefix.id_mend:
        return Finding("id", False, match.prefix.id_mend)
    if "." in event_id:
        return Finding("id", False, "it holds a dot, which separates what is signed: no sender of ours writes that")
    return Finding("id", None if match is None else True, event_id if match else f"{event_id}: well formed")


def _about_time(
    timestamp: str, match: Match | None, missing: bool, twice: bool, now: float, tolerance: float
) -> Finding:
    if missing:
        return Finding("timestamp", False, "the header webhook-timestamp is missing: hand all headers to the verifier")
    if twice:
        return Finding("timestamp", False, "webhook-timestamp came more than once; one is expected")
    if match is not None and match.prefix.time_mend:
        return Finding("timestamp", False, match.prefix.time_mend)
    if not re.fullmatch(r"[0-9]{1,19}", timestamp):
        return Finding("timestamp", False, f"{timestamp[:40]!r} is not whole seconds since 1970")
    if int(timestamp) > MILLISECONDS:
        return Finding("timestamp", False, "it is in milliseconds; seconds are expected")
    age = now - int(timestamp)
    if age > tolerance:
        return Finding(
            "timestamp",
            False,
            f"it is {_span(age)} old, and {tolerance:.0f} s are allowed. If the request came then, say so with --at;"
            " if it came just now, a clock is wrong, or something sent an old request again",
        )
    if age < -tolerance:
        detail = f"it is {_span(-age)} in the future: the clock of the receiver or of the sender is wrong (NTP)"
        return Finding("timestamp", False, detail)
    return Finding(
        "timestamp", True if match else None, f"{age:.0f} s old" if match else f"{age:.0f} s old: well formed"
    )


def _span(seconds: float) -> str:
    size, unit = next((size, unit) for size, unit in _WORDS if seconds >= 2 * size)
    return f"{seconds / (size or 1):.0f} {unit}"


def _about_body(dump: Dump, match: Match | None) -> Finding:
    size = len(dump.body or b"")
    if match is not None:
        if match.form.mend is None:
            return Finding("body", True, f"these {size} bytes were signed")
        if dump.indented:
            return Finding("body", True, "it was printed for people; the bytes that were signed are the compact ones")
        return Finding("body", False, match.form.mend)
    if dump.body is None:
        return Finding("body", False, "the request has none: give its bytes after an empty line, or with --body FILE")
    if not size:
        return Finding("body", False, "it is empty: something read it before it was saved")
    return Finding("body", None, f"{size} bytes; trimmed, written again or decoded they fit no better")


def _about_signature(entries: Sequence[str], match: Match | None, used: Sequence[Known], missing: bool) -> Finding:
    if missing:
        return Finding(
            "signature", False, "the header webhook-signature is missing: it did not come from us, or a proxy cut it"
        )
    if match is not None and match.spelled:
        return Finding("signature", False, match.spelled)
    if match is not None:
        more = len(entries) - 1
        others = (
            f"; {more} other {'entries are' if more > 1 else 'entry is'} of other secrets or versions" if more else ""
        )
        return Finding("signature", True, f"entry {match.entry} of {len(entries)} fits{others}")
    versions = sorted({entry.partition(",")[0] for entry in entries if "," in entry})
    usable = {"v1a" if known.secret.startswith(("whpk_", "whsk_")) else "v1" for known in used} or {"v1"}
    if not usable & set(versions) and "v1" not in versions:
        only = " and ".join(versions) or "no version"
        asymmetric = " (v1a is checked with the public key whpk_...)" if "v1a" in versions else ""
        return Finding("signature", False, f"it has no entry v1, only {only}{asymmetric}")
    return Finding("signature", None, f"{len(entries)} {'entries' if len(entries) > 1 else 'entry'}; none fits")
