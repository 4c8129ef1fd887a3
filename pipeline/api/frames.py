"""Server-sent events as bytes (https://html.spec.whatwg.org/multipage/server-sent-events.html). Pure."""

from __future__ import annotations

import json
import re

from pipeline.db import Row
from pipeline.lifecycle import TERMINAL
from pipeline.links import Links
from pipeline.schemas import generation_view, timeline_view

RETRY = b"retry: 2000\n\n"
"""Milliseconds after which a browser comes back when the stream was cut."""

KEEP_ALIVE = b": keep-alive\n\n"
NOTHING = (0, False)
"""What one has seen who has no id yet."""

_SEEN = re.compile(r"([0-9]{1,18})(-end)?", re.ASCII)


def frame(event: str, data: object, *, event_id: str | None = None) -> bytes:
    """One event; `data` as JSON, which has no line break of its own."""
    head = "" if event_id is None else f"id: {event_id}\n"
    return f"{head}event: {event}\ndata: {json.dumps(data, ensure_ascii=False, separators=(',', ':'))}\n\n".encode()


def line_frame(line: Row) -> bytes:
    """A line of the timeline, with its id to go on behind."""
    return frame(line["event"], timeline_view(line), event_id=str(line["id"]))


def generation_frame(row: Row, links: Links) -> bytes:
    """A generation as it stands; without an id, so that it changes nothing about where to go on."""
    return frame("generation", generation_view(row, links))


def end_frame(row: Row, cursor: int) -> bytes:
    """The last event of a stream. Its id says that the end was seen, so that who comes back with it can be sent
    home."""
    return frame("end", {"id": row["id"], "status": row["status"]}, event_id=f"{cursor}-end")


def parse_seen(text: str) -> tuple[int, bool] | None:
    """The id of the last line that was seen, and whether the end was; None for what is no id of ours."""
    found = _SEEN.fullmatch(text)
    return (int(found[1]), found[2] is not None) if found else None


def has_ended(row: Row) -> bool:
    """Whether nothing more will come of this run."""
    return row["status"] in TERMINAL
