"""What the mock's models of Replicate accept, and what is wrong with it otherwise. Pure."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any

from providers.base import Media, Model, VideoRequest
from providers.catalogue import load_catalogue, native_of
from providers.mock.order import Order, Refusal, dialect_order

NAME = "replicate"
EVENTS = frozenset({"start", "output", "logs", "completed"})
_VERSION = re.compile(r"(?:[\w.-]+/[\w.-]+:)?[0-9a-f]{64}|[\w.-]+/[\w.-]+", re.ASCII)
_SHOWN = 200


def read_order(model: str | None, raw: Mapping[str, Any], origin: str) -> Order:
    """Check a prediction's body. `model` is that of the address; without one the body names a `version`.

    Raises Refusal 422 naming the member. A model that the catalogue does not know is less strict.
    """
    named = model or _version(raw.get("version"))
    given = raw.get("input")
    if not isinstance(given, dict):
        raise invalid("input is required")
    known, names = load_catalogue(NAME).models.get(named), native_of(NAME, named)
    _require_prompt(given.get("prompt"))
    _require_types(given)
    for place in ("image", "last_image"):
        _require_picture(given, names[place])
    first, last = (
        Media(url=given[names[each]]) if given.get(names[each]) else None for each in ("image", "last_image")
    )
    if known is not None:
        _require_offered(given, known)
    webhook, events = _webhook(raw)
    asked = VideoRequest(
        given["prompt"],
        model=named,
        duration=given.get("duration") or None,
        aspect_ratio=given.get("aspect_ratio"),
        resolution=given.get("resolution"),
        seed=given.get("seed"),
        image=first,
        last_image=last,
    )
    shown = {
        "origin": origin,
        "version": named.rpartition(":")[2] if ":" in named or "/" not in named else "hidden",
        "name": model or named.partition(":")[0] if "/" in named else "",
        "input": {name: _short(value) for name, value in given.items()},
    }
    url = webhook if "completed" in events else None
    return dialect_order(NAME, raw, asked, shown=shown, callback_url=url, charged_endings=frozenset({"moderation"}))


def invalid(message: str) -> Refusal:
    """The refusal of a body that does not fit."""
    return Refusal(422, "invalid_request", f"- {message}\n")


def _version(version: object) -> str:
    if not isinstance(version, str) or _VERSION.fullmatch(version) is None:
        raise invalid("version: Invalid version or not permitted")
    return version


def _require_prompt(prompt: object) -> None:
    if prompt is None:
        raise invalid("input.prompt is required")
    if not isinstance(prompt, str) or not prompt.strip() or any("\ud800" <= char <= "\udfff" for char in prompt):
        raise invalid("input.prompt: Invalid type. Expected: string")


def _require_types(given: Mapping[str, Any]) -> None:
    kinds: Mapping[str, type] = {
        "duration": int,
        "seed": int,
        "generate_audio": bool,
        "negative_prompt": str,
        "aspect_ratio": str,
        "resolution": str,
    }
    for name, kind in kinds.items():
        value = given.get(name)
        if value is not None and type(value) is not kind:
            raise invalid(f"input.{name}: Invalid type. Expected: {kind.__name__}")


def _require_offered(given: Mapping[str, Any], known: Model) -> None:
    choices = (
        ("duration", known.durations),
        ("aspect_ratio", known.aspect_ratios),
        ("resolution", known.resolutions),
    )
    for name, allowed in choices:
        if given.get(name) is not None and given[name] not in allowed:
            raise invalid(f"input.{name}: must be one of {', '.join(map(str, allowed))}")


def _require_picture(given: Mapping[str, Any], name: str) -> None:
    value = given.get(name)
    if value is None:
        return
    if not isinstance(value, str) or not value.startswith(("http://", "https://", "data:")):
        raise invalid(f"input.{name}: Does not match format 'uri'")
    if value.startswith("data:"):
        _, _, data = value.partition(";base64,")
        try:
            base64.b64decode(data, validate=True)
        except (binascii.Error, ValueError) as error:
            raise invalid(f"input.{name}: Does not match format 'uri'") from error


def _webhook(raw: Mapping[str, Any]) -> tuple[str | None, frozenset[str]]:
    webhook, events = raw.get("webhook"), raw.get("webhook_events_filter")
    if webhook is not None and not (isinstance(webhook, str) and webhook.startswith(("http://", "https://"))):
        raise invalid("webhook: Does not match format 'uri'")
    if events is None:
        return webhook, EVENTS
    if not isinstance(events, list) or not all(isinstance(event, str) and event in EVENTS for event in events):
        raise invalid(f"webhook_events_filter: must be among {', '.join(sorted(EVENTS))}")
    return webhook, frozenset(events)


def _short(value: object) -> object:
    """An input as it is shown again; no picture's bytes are remembered."""
    return value[:_SHOWN] if isinstance(value, str) and value.startswith("data:") else value
