"""What a webhook says: the types of event and the one body that both kinds of receiver read. Pure.

Receivers of Standard Webhooks read `type`, `timestamp` and `data`; a plain route handler reads `event`, `jobId`,
`status`, `result` and `error` beside them. The specification permits the extra members.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

MAX_BODY = 256 * 1024
"""Bytes. The aim is under 20 kB, as the specification asks: hosts of route handlers answer 413 to large bodies."""

MAX_PROMPT = 4_000
"""Characters of the prompt that travel in an event; the API has it whole."""


class EventType(StrEnum):
    """Every type of event, by its name on the wire."""

    COMPLETED = "generation.completed"
    FAILED = "generation.failed"
    CANCELLED = "generation.cancelled"
    PROCESSING = "generation.processing"
    PROGRESS = "generation.progress"
    HELD = "generation.held"
    EXPIRED = "generation.expired"
    TEST = "webhook.test"


class OperatorEvent(StrEnum):
    """What the operator of a service is told about its own deliveries. Nobody else can ask for these."""

    ENDPOINT_PAUSED = "operator.endpoint.paused"
    ENDPOINT_RESUMED = "operator.endpoint.resumed"
    ENDPOINT_DISABLED = "operator.endpoint.disabled"
    DELIVERY_DEAD = "operator.delivery.dead"


TERMINAL = frozenset({EventType.COMPLETED, EventType.FAILED, EventType.CANCELLED})
"""One of these ends every run of a generation."""

DEFAULT = TERMINAL
"""Sent unless something else is asked for: without all three a receiver could wait for ever."""

OPT_IN = frozenset(EventType) - DEFAULT
"""Sent only to those who name them."""

FAMILIES = ("generation.*",)
"""All events of one kind at once, also those that later versions add."""

_ESSENTIAL = (
    *("id", "object", "generationId", "jobId", "userId", "status", "stage", "billed", "held"),
    *("result", "error", "links"),
)


class EventTooLarge(ValueError):
    """Even the essential members of the event are over MAX_BODY bytes."""


def validate_types(names: Iterable[str]) -> tuple[EventType, ...]:
    """The named types, each once, in the order given. Raises ValueError that names the unknown and lists the known."""
    wanted = list(dict.fromkeys(names))
    unknown = [name for name in wanted if name not in set(EventType)]
    if unknown:
        raise ValueError(f"unknown event type {', '.join(map(repr, unknown))}; known are {', '.join(EventType)}")
    if not wanted:
        raise ValueError(f"no event type given; known are {', '.join(EventType)}")
    return tuple(EventType(name) for name in wanted)


def validate_filter(names: Iterable[str]) -> tuple[str, ...]:
    """The types and families (`generation.*`) of a filter, each once, in the order given. Raises ValueError."""
    wanted = list(dict.fromkeys(names))
    known = [*(name.value for name in EventType), *FAMILIES]
    unknown = [name for name in wanted if name not in known]
    if unknown or not wanted:
        said = f"unknown event type {', '.join(map(repr, unknown))}" if unknown else "no event type given"
        raise ValueError(f"{said}; known are {', '.join(known)}")
    return tuple(wanted)


def is_wanted(event_type: str, names: Collection[str]) -> bool:
    """Whether a filter lets an event through: it names the type, or its family."""
    return event_type in names or f"{event_type.partition('.')[0]}.*" in names


def build_body(*, type: str, occurred_at: float, generation: Mapping[str, Any], run: int, sequence: int) -> bytes:  # noqa: A002
    """The bytes of an event: built once, stored, and sent unchanged on every attempt.

    Args:
        type: one of EventType.
        occurred_at: Unix seconds of the change itself; written as RFC 3339 in UTC with milliseconds.
        generation: the API's generation object (camelCase, with `id` and `status`). Becomes `data`.
        run: which run of the generation, from 1; `data.run`.
        sequence: grows with every event of a generation; `data.sequence`, by which receivers drop what comes late.

    An object that would make the body larger than MAX_BODY is cut down to its essential members and marked
    `data.truncated`: a run must not end without its event. `result` is null unless the status is completed.
    Numbers are written as JavaScript writes them, so that even a receiver that parses and re-serialises the body
    before verifying mostly gets the same bytes.

    Raises EventTooLarge, and ValueError for an unknown type, NaN or infinity.
    """
    (event_type,) = validate_types([type])
    body = _encode(_members(event_type, occurred_at, {**generation, "run": run, "sequence": sequence}))
    if len(body) > MAX_BODY:
        essential = {name: generation[name] for name in _ESSENTIAL if name in generation}
        essential |= {"run": run, "sequence": sequence, "truncated": True}
        body = _encode(_members(event_type, occurred_at, essential))
    if len(body) > MAX_BODY:
        raise EventTooLarge(f"{event_type} of {generation['id']} takes {len(body)} bytes; {MAX_BODY} are allowed")
    return body


def build_notice(*, type: OperatorEvent, occurred_at: float, data: Mapping[str, Any]) -> bytes:  # noqa: A002
    """The bytes of a notice to the operator: `type`, `timestamp` (of `occurred_at`, Unix seconds) and `data`."""
    return _encode({"type": type.value, "timestamp": _moment(occurred_at), "data": data})


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _members(event_type: EventType, occurred_at: float, data: dict[str, Any]) -> dict[str, Any]:
    if isinstance(prompt := data.get("prompt"), str):
        data["prompt"] = prompt[:MAX_PROMPT]
    return {
        "type": event_type.value,
        "timestamp": _moment(occurred_at),
        "data": data,
        "event": event_type.value,
        "jobId": data["id"],
        "generationId": data.get("generationId") or data["id"],
        "userId": data.get("userId"),
        "status": data["status"],
        "result": _result(data),
        "error": _sentence(data),
    }


def _result(data: Mapping[str, Any]) -> dict[str, Any] | None:
    if data["status"] != "completed":
        return None
    result = data.get("result") or {}
    return {name: result.get(name) for name in ("videoUrl", "duration", "processingTime")}


def _sentence(data: Mapping[str, Any]) -> str | None:
    error = data.get("error")
    if isinstance(error, Mapping) and error.get("message"):
        return str(error["message"])
    return "The generation failed." if data["status"] == "failed" else None


def _encode(members: Mapping[str, Any]) -> bytes:
    text = json.dumps(_plain(members), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    try:
        return text.encode()
    except UnicodeEncodeError:  # a lone surrogate: no UTF-8 exists for it, and escaped it breaks strict readers
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()


def _plain(value: object) -> object:
    """Floats without a fraction become integers, of the digits that JavaScript would print."""
    if isinstance(value, Mapping):
        return {str(name): _plain(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(member) for member in value]
    if isinstance(value, float) and math.isfinite(value) and value.is_integer() and abs(value) < 1e21:
        return int(Decimal(repr(value)))
    return value
