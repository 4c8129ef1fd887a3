"""Named events: each becomes one wide line, JSON for machines or text for a terminal. Secrets never, prompts not at
info.

The names that exist are listed in EVENTS; emitting another is a bug that raises. Metrics and spans are made of the same
events by listeners (`subscribe`). docs/events.md lists them all; a test compares it with the code.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Literal, TextIO

EVENTS: dict[str, str] = {
    "service.started": "a process is ready; names its role, address and database",
    "service.stopping": "a stop was asked for; running turns get their bound",
    "service.stopped": "the process ends; what was handed back is counted",
    "service.notice": "something an operator should know at start-up",
    "request.done": "one HTTP request was answered",
    "request.failed": "a request met an error that we did not foresee",
    "turn.done": "one turn of a job was run and recorded",
    "turn.lost": "a turn's lease was lost; its decision was dropped",
    "turn.crashed": "a turn met an error that we did not foresee",
    "bell.lost": "the connection that hears wake-ups broke; it is made anew, and polls do its work meanwhile",
    "worker.failed": "the worker's loop met an error and goes on",
    "worker.lease_lost": "this process could not renew its leases and stopped its turns",
    "generation.ended": "a run of a generation came to its end, with the seconds of each phase",
    "generation.fallback": "a provider surely did not take a generation, or failed unbilled; the next one is asked",
    "generation.redriven": "a failed generation goes on as a new run",
    "generation.deleted": "a generation was deleted; its tombstone stays",
    "submission.opened": "a possibly-paid call was intended",
    "submission.closed": "a possibly-paid call is settled: its outcome, and what it cost in micro-USD",
    "submission.second": "a provider took a second operation for one generation; it was asked to stop where it can",
    "submission.decided": "a person said what became of a paid call",
    "provider.call": "a provider was called, the blips that were repeated within a call counted in it",
    "money.unrecorded": "a provider's answer could not be written yet; it carries the operation id",
    "provider.missing": "a generation in flight belongs to a provider that this worker does not know",
    "lane.paused": "a lane stopped starting work, with the reason",
    "lane.resumed": "a lane that was paused starts work again",
    "spend.capped": "a cap on spending holds generations back until midnight UTC, or until it is raised",
    "job.poisoned": "a job was claimed too often without a record",
    "callback.received": "a provider rang",
    "callback.refused": "a callback was not what its provider sends",
    "maintenance.done": "one round of pruning and sweeping",
    "watch.dropped": "one who watched a generation did not read for long, and was let go",
    "watch.failed": "those who watch could not be told what is new; it is tried again",
    "webhook.disabled": "an endpoint is switched off: it answered 410, or only failed for WEBHOOK_DISABLE_AFTER",
    "webhook.unproxied": "EGRESS_PROXY failed; a delivery is tried again at no cost to its receiver",
    "webhook.endpoint": "a person made, changed or deleted an endpoint, gave it new secrets, or switched it off or on",
    "webhook.recovered": "all deliveries that had failed in some time were sent again; what could not be is counted",
}

_LOGGER = logging.getLogger("dailies")


Listener = Callable[[str, Mapping[str, Any]], None]
"""Called with an event's name and fields, in whatever thread it happened; must be quick."""

_LISTENERS: list[Listener] = []


def subscribe(listener: Listener) -> Callable[[], None]:
    """Call the listener with every event from now on, whatever the log's level; the function returned ends it."""
    _LISTENERS.append(listener)

    def unsubscribe() -> None:
        with suppress(ValueError):
            _LISTENERS.remove(listener)

    return unsubscribe


def emit(event: str, *, level: int = logging.INFO, exc_info: Any = None, **fields: Any) -> None:
    """Tell one event. Fields that are None are left out; numbers of milliseconds end in `_ms` or are called `ms`;
    `exc_info` is an exception whose trace goes to the log."""
    if event not in EVENTS:
        raise ValueError(f"unknown event {event!r}: add it to pipeline.telemetry.EVENTS")
    known = {name: value for name, value in fields.items() if value is not None}
    if _LOGGER.isEnabledFor(level):
        _LOGGER.log(level, event, exc_info=exc_info, extra={"fields": known})
    for listener in tuple(_LISTENERS):
        try:
            listener(event, known)
        except Exception:  # whoever counts must not harm what is counted
            _LOGGER.warning("a listener failed", exc_info=True, extra={"fields": {"of": event}})


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": _iso(record.created),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        line.update(getattr(record, "fields", {}))
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        fields = " ".join(f"{key}={_short(value)}" for key, value in getattr(record, "fields", {}).items())
        mark = "" if record.levelno <= logging.INFO else f"{record.levelname} "
        text = f"{clock} {mark}{record.getMessage():<16} {fields}"
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


def _short(value: object) -> str:
    text = str(value)
    if not text.isprintable():
        return json.dumps(text)
    return json.dumps(text, ensure_ascii=False) if " " in text or '"' in text else text


def _iso(seconds: float) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds % 1 * 1000):03d}Z"


def configure(
    form: Literal["auto", "json", "text"] = "auto", level: str = "info", stream: TextIO | None = None
) -> None:
    """Send events (and what libraries warn of) to `stream`, standard error by default; `auto` is text on a terminal."""
    out = stream or sys.stderr
    text = form == "text" or (form == "auto" and out.isatty())
    handler = logging.StreamHandler(out)
    handler.setFormatter(_TextFormatter() if text else _JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    _LOGGER.setLevel(level.upper())
