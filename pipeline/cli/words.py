"""Answers of the API in words for people. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any

Json = Mapping[str, Any]

_OPTIONS = {
    "/prompt": "PROMPT",
    "/provider": "--provider",
    "/model": "--model",
    "/priority": "--priority",
    "/userId": "--user",
    "/generationId": "--generation-id",
    "/metadata": "--metadata",
    "/parameters/duration": "--duration",
    "/parameters/aspectRatio": "--aspect-ratio",
    "/parameters/resolution": "--resolution",
    "/parameters/seed": "--seed",
    "/parameters/audio": "--audio",
    "/parameters/negativePrompt": "--negative-prompt",
    "/parameters/image": "--image",
    "/parameters/lastImage": "--last-image",
    "/extra": "--extra",
    "/fallback": "--fallback",
}

_NEXT = {
    "idempotency_conflict": "leave --idempotency-key out for a new request",
    "generation_id_conflict": "choose another --generation-id, or look at what is there",
    "body_too_large": "give --image as a URL, or raise MAX_BODY_BYTES of the service",
    "overloaded": "try again later, with the same --idempotency-key",
    "repay_needed": "--allow-repay pays again",
    "spend_cap": "try again after midnight UTC, or raise the cap on purpose",
    "not_ended": "dailies cancel it first",
    "forbidden": "take a key that may: one of API_KEY, or `dailies keys create NAME --scope admin`",
}


def ranges(values: Sequence[object]) -> str:
    """Values as a list in words, three or more integers in a row as a range: `1-60`, `4, 6, 8`."""
    shown: list[str] = []
    for run in _runs(values):
        shown += [f"{run[0]}-{run[-1]}"] if len(run) > 2 else [str(value) for value in run]
    return ", ".join(shown)


def _runs(values: Sequence[object]) -> Iterator[list[object]]:
    run: list[object] = []
    for value in values:
        if run and not (isinstance(value, int) and isinstance(run[-1], int) and value == run[-1] + 1):
            yield run
            run = []
        run.append(value)
    if run:
        yield run


def problem_text(status: int, problem: Json, *, key_from: str | None) -> str:
    """What a problem response says, member by member, and what to do about it.

    `key_from` names where the key that was sent came from, None when none was sent.
    """
    lines = [str(problem.get("detail") or problem.get("title") or f"the service answered {status}")]
    lines += [f"  {_mistake(error)}" for error in problem.get("errors", ())]
    lines += [f"  what to do: {step}" for step in _next_steps(status, problem, key_from)]
    return "\n".join(lines)


def _mistake(error: Json) -> str:
    pointer = str(error.get("pointer", error.get("parameter", "")))
    option = next((name for start, name in _OPTIONS.items() if f"{pointer}/".startswith(f"{start}/")), None)
    place = f"{option} ({pointer})" if option else pointer
    allowed = error.get("allowed")
    end = "" if allowed is None else f"; allowed: {allowed if isinstance(allowed, str) else ranges(allowed) or 'none'}"
    return f"{place}: {error.get('detail', '')}{end}"


def _next_steps(status: int, problem: Json, key_from: str | None) -> Iterator[str]:
    code = str(problem.get("code"))
    if status == 401:
        yield (
            f"the key that was sent came from {key_from}; give the service's API_KEY there, or with --key"
            if key_from
            else "no key was sent: give the service's API_KEY with --key, in the environment or in .env"
        )
    if code in _NEXT:
        yield _NEXT[code]
    if "existingId" in problem:
        yield f"dailies show {problem['existingId']}"
    if status >= 500 and problem.get("requestId"):
        yield f"look for {problem['requestId']} in the service's log"


def stage_text(generation: Json) -> str:
    """Where a generation stands, in a word: its stage while it has one, else its status."""
    return str(generation.get("stage") or generation.get("status"))


def failure_text(generation: Json) -> str:
    """Why there is no video."""
    error = generation.get("error")
    if not error:
        return f"the generation was {generation.get('status')}"
    again = "; asking again may help" if error.get("retryable") else ""
    return f"the generation failed: {error.get('message')} ({error.get('code')}{again})"


def json_text(answer: object) -> str:
    """JSON for programs and people alike."""
    return json.dumps(answer, indent=2, ensure_ascii=False)


def span_text(seconds: float) -> str:
    """A span of time, short: `8 s`, `4 min`, `3.5 h`, `12 d`."""
    for size, unit in ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min")):
        if seconds >= size * 2:
            return f"{seconds / size:.{1 if unit == 'h' and seconds < size * 10 else 0}f} {unit}"
    return f"{seconds:.0f} s"


def dollars(micros: int) -> str:
    """An amount of micro-USD for people, rounded up to the next cent: `0.41 USD`."""
    cents = -(-micros // 10_000)
    return f"{cents // 100}.{cents % 100:02d} USD"


def parse_time(text: str) -> float:
    """Unix seconds of the API's times."""
    return datetime.fromisoformat(text).timestamp()


DELIVERY = "webhook"
SAID = 200
"""Characters of a receiver's answer that are shown."""
STAGES = (
    ("waiting", ("queued",), ("submit.intended",)),
    ("submitting", ("submit.intended",), ("submit.accepted", "submit.resolved")),
    ("generating", ("submit.accepted", "submit.resolved"), ("generated",)),
    ("storing", ("generated",), ("stored", "completed")),
)


def stage_times(timeline: Json) -> dict[str, float]:
    """Seconds that each stage of the last run took, as far as it came, with the webhook's way to its receiver."""
    run = max((line["run"] for line in timeline["data"]), default=1)
    at = {line["event"]: parse_time(line["at"]) for line in timeline["data"] if line["run"] == run}
    found = {}
    for stage, starts, ends in STAGES:
        times = [next((at[name] for name in names if name in at), None) for names in (starts, ends)]
        if times[0] is not None and times[1] is not None:
            found[stage] = times[1] - times[0]
    ended = next((at[name] for name in ("completed", "failed", "ended.cancelled") if name in at), None)
    delivered = [_delivered_at(delivery) for delivery in timeline["deliveries"] if delivery["state"] == "delivered"]
    if ended is not None and delivered:
        found[DELIVERY] = max(0.0, max(delivered) - ended)
    return found


def _delivered_at(delivery: Json) -> float:
    return parse_time(delivery["attempts"][-1]["at"])


def generation_text(generation: Json, timeline: Json) -> str:
    """A generation, what happened to it, and how its webhooks fared."""
    lines = [f"{generation['id']}  {generation['status']}  {generation['prompt']!r}", *_facts(generation)]
    lines += ["", "Timeline (UTC)", *_timeline(timeline["data"])]
    times = ", ".join(f"{stage} {seconds:.2f} s" for stage, seconds in stage_times(timeline).items())
    lines += [f"  took: {times}"] if times else []
    lines += ["", "Webhooks", *(_deliveries(timeline["deliveries"]) or ["  none yet"])]
    return "\n".join(lines)


def _facts(generation: Json) -> Iterator[str]:
    result = generation.get("result")
    if generation["generationId"] != generation["id"]:
        yield f"  generationId  {generation['generationId']}"
    yield f"  provider      {generation['provider']}" + (f", {generation['model']}" if generation["model"] else "")
    for other in generation["fallback"]:
        yield f"  or else       {other['provider']}" + (f", {other['model']}" if other["model"] else "")
    yield f"  estimate      {dollars(generation['estimatedCostMicros'])} each time it is submitted"
    for warning in generation["warnings"]:
        yield f"  warning       {warning}"
    yield f"  created       {generation['createdAt']}"
    if generation.get("stage"):
        progress = generation.get("progress")
        yield f"  stage         {generation['stage']}" + ("" if progress is None else f", {progress} %")
    if generation.get("eta"):
        soon, late = (generation["eta"][name][11:19] for name in ("p50", "p90"))
        yield f"  ready         about {soon}, nine of ten by {late}"
    if generation.get("cancelRequested") and not generation.get("completedAt"):
        yield "  cancel        was asked for"
    if generation.get("billed"):
        yield f"  billed        {generation['billed']}"
    if generation.get("held"):
        held = generation["held"]
        yield f"  held          {held['reason']}; {dollars(held['atStakeMicros'])} at stake; see: dailies held"
    if generation.get("error"):
        yield f"  error         {failure_text(generation)}"
    if result:
        yield (
            f"  video         {result['duration']:g} s, {result['width']}x{result['height']}, {result['bytes']:,} bytes"
        )
        yield f"  url           {result['videoUrl']}"


def _timeline(events: Sequence[Json]) -> Iterator[str]:
    times = [parse_time(line["at"]) for line in events]
    gaps = [0.0, *(after - before for before, after in pairwise(times))][: len(times)]
    for line, gap in zip(events, gaps, strict=True):
        detail = "  ".join(f"{name}={value}" for name, value in line["detail"].items())
        yield f"  {line['at'][11:23]}  +{gap:7.3f} s  {line['event']:<18} {detail}".rstrip()


def _deliveries(deliveries: Sequence[Json]) -> list[str]:
    lines = []
    for delivery in deliveries:
        lines.append(f"  {delivery['type']} to {delivery['endpoint'] or 'its own url'}: {delivery['state']}")
        lines += [_attempt(attempt) for attempt in delivery["attempts"]]
        if delivery["state"] not in {"delivered", "dead"} and delivery["nextAttemptAt"]:
            lines.append(f"    next attempt at {delivery['nextAttemptAt'][11:23]}")
    return lines


def _attempt(attempt: Json) -> str:
    what = attempt["detail"] or attempt["reason"]
    return f"    attempt {attempt['attempt']} at {attempt['at'][11:23]}  {what}  ({attempt['milliseconds']} ms)"
