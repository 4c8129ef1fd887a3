"""Storing: download, prove that it is a video, upload. Repeated alone for as long as it takes; it never generates
again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.lifecycle import Done, Failed, Fault, NotYet, Stopped
from pipeline.media import InvalidMedia, Video, probe
from pipeline.names import video_key
from pipeline.spool import Spooled, SpoolFull, TooLarge
from pipeline.storage import StorageError
from pipeline.turn import Report, Turn
from pipeline.workflow.parts import Parts, ask, fault_of, subject_of
from pipeline.workflow.poll import operation_of, outputs_of, token_of, with_bad_file, with_outputs
from providers.base import ErrorCode, Output, Phase, Provider, ProviderError

SPOOL_WAIT = 10.0
MEDIA_ATTEMPTS = 3
"""A file that is no video may be a passing fault of a file server; thrice is an answer."""

CONTENT_TYPE = "video/mp4"


@dataclass(slots=True)
class _Phases:
    """Milliseconds by phase, for the log."""

    clock: Callable[[], float] = time.perf_counter
    started: float = 0.0

    def __post_init__(self) -> None:
        self.started = self.clock()

    def lap(self) -> int:
        """Milliseconds since the last call."""
        before, self.started = self.started, self.clock()
        return round((self.started - before) * 1000)


async def store(parts: Parts, turn: Turn) -> Report:
    """One turn of the store step."""
    generation = subject_of(turn).generation
    if generation["cancel_requested_at"] is not None:
        late = 0.0 if parts.policies.keep_late else None
        return Report(Stopped(late), notes=[("cancelled", {"billed": "yes", "stage": "storing"})])
    return await fetch_and_keep(parts, turn)


async def fetch_and_keep(parts: Parts, turn: Turn) -> Report:
    """Download the video that the row names, prove it, upload it. `Done` carries its columns."""
    generation = subject_of(turn).generation
    provider = parts.providers[generation["provider"]]
    phases = _Phases()
    try:
        spooled, operation = await _download(parts, turn, provider)
    except SpoolFull as error:
        return Report(NotYet(SPOOL_WAIT), notes=[("store.waits", {"reason": str(error)})])
    except TooLarge as error:
        return Report(Failed(Fault("video_too_large", str(error)), exhausted=True))
    except ProviderError as error:
        fault = fault_of(error, code="download_failed", retryable=True)
        return Report(Failed(fault, retryable=True, retry_after=error.retry_after), notes=[_failed_note(fault)])
    try:
        return await _keep(parts, turn, spooled, operation, phases)
    finally:
        parts.spool.discard(spooled.path)


async def _keep(parts: Parts, turn: Turn, spooled: Spooled, operation: str | None, phases: _Phases) -> Report:
    """Verify and upload what lies in the spool."""
    generation = subject_of(turn).generation
    times = {"download_ms": phases.lap()}
    try:
        video = await asyncio.to_thread(probe, spooled.path)
    except InvalidMedia as error:
        fault = Fault("invalid_media", error.reason)
        noted, times_bad = with_bad_file(operation or generation["operation"])
        last = times_bad >= MEDIA_ATTEMPTS
        failed = Failed(fault, retryable=not last, exhausted=last)
        return Report(failed, patch={"operation": noted}, notes=[_failed_note(fault)])
    times["verify_ms"] = phases.lap()
    key = video_key(generation["tenant_id"], generation["id"], token_of(generation))
    try:
        await parts.storage.put(key, spooled.path, content_type=CONTENT_TYPE, sha256=spooled.sha256, md5=spooled.md5)
    except StorageError as error:
        fault = Fault("storage_failed", str(error), retryable=True)
        return Report(Failed(fault, retryable=True), notes=[_failed_note(fault)])
    times["upload_ms"] = phases.lap()
    fields = times | {"bytes": spooled.size}
    return Report(Done(), patch=_columns(key, spooled, video), notes=[("stored", times)], fields=fields)


def _failed_note(fault: Fault) -> tuple[str, dict[str, object]]:
    return ("store.failed", {"code": fault.code, "reason": fault.message})


def _columns(key: str, spooled: Spooled, video: Video) -> dict[str, object]:
    return {
        "video_key": key,
        "video_bytes": spooled.size,
        "video_sha256": spooled.sha256,
        "video_duration": round(video.duration, 3),
        "video_width": video.width,
        "video_height": video.height,
        "video_audio": int(video.has_audio),
    }


async def _download(parts: Parts, turn: Turn, provider: Provider) -> tuple[Spooled, str | None]:
    """The file in the spool, and the operation with fresh links if those we had were dead."""
    generation = subject_of(turn).generation
    output = outputs_of(generation)[0]
    try:
        return await _fetch(parts, turn, provider, output), None
    except ProviderError as error:
        if error.code is not ErrorCode.NOT_FOUND:
            raise
    status = await ask(provider.poll(operation_of(generation)))
    if status.phase is not Phase.SUCCEEDED or not status.outputs:
        raise ProviderError(ErrorCode.NOT_FOUND, "the link has expired and the provider names no other")
    return await _fetch(parts, turn, provider, status.outputs[0]), with_outputs(generation, status)


async def _fetch(parts: Parts, turn: Turn, provider: Provider, output: Output) -> Spooled:
    name = f"{turn.claim.subject_id}-{turn.claim.fence}.part"
    async with provider.download(output) as download:
        spooled = await parts.spool.fetch(
            name, download.chunks(), announced=download.length, limit=parts.max_video_bytes
        )
    if download.length is not None and spooled.size != download.length:
        parts.spool.discard(spooled.path)
        raise ProviderError(ErrorCode.TRANSIENT, f"the download ended at {spooled.size} of {download.length} bytes")
    return spooled
