"""Events of every type as real ones look, of a generation that does not exist. Pure."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from pipeline.cli.base import CommandError
from pipeline.db import Row
from pipeline.lifecycle import Stage
from pipeline.links import Links
from pipeline.outbox.sample import sample_row
from pipeline.schemas import generation_view
from pipeline.schemas.responses import WebhookEvent
from webhooks.events import EventType, build_body

_VIDEO = ("video_key", "video_bytes", "video_sha256", "video_duration", "video_width", "video_height", "video_audio")
_NO_VIDEO: Row = dict.fromkeys(_VIDEO)
_OPEN = {"status": "processing", "finished_at": None, "billed": None} | _NO_VIDEO
_FREE = frozenset({"metadata", "parameters"})
"""Members whose own members are anybody's."""


def sample_of(event_type: EventType, now_ms: int) -> Row:
    """A generation's row as it is when an event of this type happens."""
    ago = now_ms - 20_000
    said = {"prompt": "a red fox in the snow", "client_id": "order-test", "user_id": "user_test", "billed": "yes"}
    changes: Mapping[EventType, Row] = {
        EventType.FAILED: {
            "status": "failed",
            "error_code": "moderation",
            "error_message": "The provider refused the prompt: it is against its rules.",
            "error_retryable": 0,
            "progress": None,
            "billed": "no",
        }
        | _NO_VIDEO,
        EventType.CANCELLED: {"status": "cancelled", "cancel_requested_at": ago, "progress": None, "billed": "no"}
        | _NO_VIDEO,
        EventType.PROCESSING: _OPEN | {"stage": Stage.GENERATING, "accepted_at": ago, "progress": 0.0},
        EventType.PROGRESS: _OPEN | {"stage": Stage.GENERATING, "accepted_at": ago, "progress": 0.42},
        EventType.HELD: _OPEN
        | {"stage": Stage.HELD, "progress": None, "error_message": "The connection was cut after the order was sent."},
        EventType.EXPIRED: {"expires_at": now_ms, "expired_at": now_ms, "finished_at": ago, "created_at": ago - 42_000},
    }
    return {**sample_row(now_ms), **said, **changes.get(event_type, {})}


def event_body(event_type: EventType, links: Links, now: float, sets: Sequence[str] = ()) -> bytes:
    """The bytes of an event at `now` (Unix seconds), with changes `data.NAME=VALUE`. Raises CommandError.

    What the event says beside `data` (`status`, `result`, `error` ...) follows `data`, as in real ones.
    """
    row = sample_of(event_type, int(now * 1000))
    data = copy.deepcopy(generation_view(row, links))
    for text in sets:
        _set(data, text)
    try:
        body = build_body(type=event_type, occurred_at=now, generation=data, run=row["run"], sequence=row["sequence"])
        WebhookEvent.model_validate_json(body)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()[:5])
        raise CommandError(f"--set: no event looks like that: {wrong}") from None
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise CommandError(f"--set: no event can be made of that: {error}") from None
    return body


def _set(data: dict[str, Any], text: str) -> None:
    path, equals, value = text.partition("=")
    first, *names = path.split(".")
    if not equals or first != "data" or not names or not all(names):
        raise CommandError(f"--set {text!r}: write data.NAME=VALUE, such as data.result.duration=12")
    place: Any = data
    for depth, name in enumerate(names):
        free = names[0] in _FREE and depth > 0
        if not isinstance(place, dict) or (name not in place and not free):
            known = f"; known are {', '.join(sorted(place))}" if isinstance(place, dict) else " here"
            raise CommandError(f"--set {text!r}: there is no {'.'.join(['data', *names[: depth + 1]])}{known}")
        if depth < len(names) - 1:
            place = place.setdefault(name, {}) if free else place[name]
    place[names[-1]] = _value(value)


def _value(text: str) -> Any:
    """JSON if it is any, else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text
