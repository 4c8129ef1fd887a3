"""What a demo ends with: the webhook, the video, the times, and what to try next. Pure, but for looking at paths."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.cli.receiver import received_text
from pipeline.cli.words import stage_times
from pipeline.config import Settings
from pipeline.media import Video
from webhooks.receiver import Received


@dataclass(frozen=True, slots=True)
class Proof:
    """A generation that went all the way."""

    generation: Mapping[str, Any]
    timeline: Mapping[str, Any]
    webhook: Received
    video: Video


def report(proof: Proof, settings: Settings, folder: Path, *, seconds: float) -> str:
    """The end of a demo, for people."""
    video = proof.video
    size = f"{video.width}x{video.height}, {video.duration:g} s, {video.codec}, {video.bytes:,} bytes"
    return "\n".join(
        [
            "",
            "The webhook that came",
            received_text(proof.webhook),
            "The video, checked: playable",
            f"  {folder / 'video.mp4'}  ({size})",
            "",
            "How long each stage took",
            *(f"  {stage:<11} {took:6.2f} s" for stage, took in stage_times(proof.timeline).items()),
            f"  {'all':<11} {seconds:6.2f} s, with starting the service",
            "",
            *_next_commands(),
        ]
    )


def _next_commands() -> list[str]:
    """Commands that work from the directory where the demo was started."""
    dailies = program()
    example = "cp .env.example .env" if Path(".env.example").is_file() and not Path(".env").exists() else None
    steps = [
        *([(example, "settings for development, once")] if example else []),
        (f"{dailies} serve", "API, worker and mock provider"),
        (f"{dailies} receive", "in a second terminal: prints each webhook"),
        (f'{dailies} submit "the sea at night" --wait', "in a third"),
        (f"{dailies} show ID", "what happened to a generation"),
        (f"{dailies} mock --faults", "how to make the provider fail"),
    ]
    width = max(len(command) for command, _ in steps)
    return [
        "Try next",
        *(f"  {command:<{width}}  # {what}" for command, what in steps),
        "  curl -s http://localhost:8000/api/generations -H 'Content-Type: application/json' \\",
        """    -H 'Idempotency-Key: order-17' -d '{"prompt": "the sea at night", "parameters": {"duration": 8}}'""",
    ]


def program() -> str:
    """How this command is called from here: `dailies` when it is on PATH, else its path, or through Python."""
    beside = Path(sys.executable).with_name("dailies")
    if not beside.is_file():
        return f"{shlex.quote(sys.executable)} -m pipeline"
    if str(beside.parent) in os.environ.get("PATH", "").split(os.pathsep):
        return "dailies"
    shown = beside.relative_to(Path.cwd()) if beside.is_relative_to(Path.cwd()) else beside
    return shlex.quote(str(shown))
