"""The event of `webhook.test`: a generation as a real event would carry it, of which nothing is true but its shape."""

from __future__ import annotations

from sqlmodel import SQLModel

import pipeline.models  # noqa: F401 - declares the tables
from pipeline.db import Row
from pipeline.links import Links
from pipeline.schemas import generation_view
from webhooks.events import EventType, build_body

TEST_ID = "gen_00000000000000000000000000000000"
SECONDS = 42


def sample_row(now_ms: int) -> Row:
    """A completed generation as the table would hold it; members that are not named are None."""
    return dict.fromkeys(SQLModel.metadata.tables["generation"].columns.keys()) | {
        "id": TEST_ID,
        "tenant_id": "default",
        "client_id": "webhook-test",
        "user_id": "webhook-test",
        "prompt": "a test of the webhook; there is no such video",
        "parameters": "{}",
        "labels": "{}",
        "provider": "mock",
        "model": "mock-1",
        "extra": "{}",
        "chain": "[]",
        "candidate": 0,
        "duration": 8,
        "estimate_micros": 400_000,
        "reserved_micros": 0,
        "priority": 5,
        "status": "completed",
        "run": 1,
        "sequence": 1,
        "progress": 1.0,
        "created_at": now_ms - SECONDS * 1000,
        "started_at": now_ms - SECONDS * 1000,
        "finished_at": now_ms,
        "video_key": f"videos/{TEST_ID}.mp4",
        "video_bytes": 1_000_000,
        "video_sha256": "0" * 64,
        "video_duration": 8.0,
        "video_width": 1280,
        "video_height": 720,
        "video_audio": 0,
    }


def sample_event(links: Links, now: float) -> bytes:
    """The body of a `webhook.test` event. `now` is Unix seconds."""
    shown = generation_view(sample_row(int(now * 1000)), links)
    return build_body(type=EventType.TEST, occurred_at=now, generation=shown, run=1, sequence=1)
