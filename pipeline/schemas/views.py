"""Rows as the API and the webhooks show them; `responses` declares the same shapes.

Units: `duration` in seconds, `processingTime` in milliseconds, times in RFC 3339 UTC, `progress` 0..100.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from pipeline.db import Row
from pipeline.lifecycle import Stage
from pipeline.links import Links, has_video


def iso(ms: int | None) -> str | None:
    """Milliseconds since 1970 as RFC 3339 in UTC, such as `2026-11-22T14:00:00.000Z`."""
    if ms is None:
        return None
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def generation_view(row: Row, links: Links) -> dict[str, Any]:
    """A generation as the API and the webhooks show it."""
    return {
        "id": row["id"],
        "object": "generation",
        "jobId": row["id"],
        "generationId": row["client_id"] or row["id"],
        "userId": row["user_id"],
        "status": row["status"],
        "stage": row["stage"],
        "progress": None if row["progress"] is None else round(row["progress"] * 100),
        "prompt": row["prompt"],
        "provider": row["provider"],
        "model": row["model"],
        "parameters": json.loads(row["parameters"]),
        "fallback": _fallback(row),
        "estimatedCostMicros": row["estimate_micros"],
        "eta": _eta(row, links),
        "billed": row["billed"],
        "held": _held(row),
        "warnings": json.loads(row["warnings"]) if row["warnings"] else [],
        "priority": row["priority"],
        "run": row["run"],
        "createdAt": iso(row["created_at"]),
        "startedAt": iso(row["started_at"]),
        "completedAt": iso(row["finished_at"]),
        "cancelRequested": row["cancel_requested_at"] is not None,
        "expiresAt": iso(row["expires_at"]),
        "expired": links.expired(row),
        "deletedAt": iso(row["deleted_at"]),
        "result": _result(row, links),
        "error": _error(row),
        "links": links.of(row),
        "metadata": json.loads(row["labels"]),
    }


def _eta(row: Row, links: Links) -> dict[str, Any] | None:
    times = links.eta(row)
    return None if times is None else {"p50": iso(times[0]), "p90": iso(times[1])}


WHAT_TO_DO = (
    "GET /api/held explains it, and says whether it is being cleared up by itself or waits for a person, who says what"
    " became of the call by POST /api/generations/{id}/resolve. Do not order it again before that is known."
)


def _held(row: Row) -> dict[str, Any] | None:
    """What is at stake while nobody can tell what became of a paid call."""
    if row["stage"] != Stage.HELD:
        return None
    return {"reason": row["error_message"], "atStakeMicros": row["estimate_micros"], "whatToDo": WHAT_TO_DO}


def _fallback(row: Row) -> list[dict[str, Any]]:
    """Who would be asked next."""
    behind = json.loads(row["chain"])[row["candidate"] + 1 :]
    return [{"provider": each["provider"], "model": each["model"]} for each in behind]


def _result(row: Row, links: Links) -> dict[str, Any] | None:
    if not has_video(row):
        return None
    return {
        "videoUrl": links.video(row),
        "duration": row["video_duration"],
        "width": row["video_width"],
        "height": row["video_height"],
        "hasAudio": bool(row["video_audio"]),
        "bytes": row["video_bytes"],
        "sha256": row["video_sha256"],
        "contentType": "video/mp4",
        "processingTime": max(0, row["finished_at"] - row["created_at"]),
    }


def _error(row: Row) -> dict[str, Any] | None:
    if row["error_code"] is None or row["status"] != "failed":
        return None
    return {"code": row["error_code"], "message": row["error_message"], "retryable": bool(row["error_retryable"])}


def timeline_view(row: Row) -> dict[str, Any]:
    """One line of a generation's timeline."""
    detail = json.loads(row["detail"]) if row["detail"] else {}
    return {"id": row["id"], "run": row["run"], "at": iso(row["at"]), "event": row["event"], "detail": detail}
