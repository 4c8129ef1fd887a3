"""Why a file is not a video, and what its first bytes say it is instead. Pure."""

from __future__ import annotations

from enum import StrEnum


class MediaFault(StrEnum):
    """One word for each way in which a file is not a playable video."""

    EMPTY = "empty"
    TEXT = "text"
    CONTAINER = "container"
    TRUNCATED = "truncated"
    DAMAGED = "damaged"
    NO_MOOV = "no_moov"
    NO_VIDEO = "no_video"
    NO_DURATION = "no_duration"
    ENCRYPTED = "encrypted"


class InvalidMedia(Exception):
    """The file is not a playable video. `code` is for machines, `reason` one sentence for people."""

    def __init__(self, code: MediaFault, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


_OTHERS = (
    (b"\x1aE\xdf\xa3", "a Matroska or WebM file"),
    (b"RIFF", "a RIFF file (AVI, WAV or WebP)"),
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "gzip-compressed data"),
    (b"FLV", "a Flash video"),
    (b"G@", "an MPEG transport stream"),
)


def describe(head: bytes) -> InvalidMedia:
    """Say what a file that does not start with an MP4 box is, from its first bytes."""
    text = _as_text(head)
    if text is not None:
        return InvalidMedia(
            MediaFault.TEXT, f"this is {_kind_of_text(text)} instead of a video; it starts with {text[:60]!r}"
        )
    for magic, name in _OTHERS:
        if head.startswith(magic):
            return InvalidMedia(MediaFault.CONTAINER, f"this is {name}; only MP4 and MOV are stored")
    return InvalidMedia(
        MediaFault.CONTAINER, f"this is not an MP4 or MOV file; it starts with the bytes {head[:8].hex(' ')}"
    )


def _kind_of_text(text: str) -> str:
    start = text[:200].lower()
    if start.startswith("<"):
        return "an HTML page" if "<html" in start or "<!doctype html" in start else "an XML or HTML document"
    return "JSON" if start[0] in "{[" else "text"


def _as_text(head: bytes) -> str | None:
    """The text that the bytes are, or None; a character cut at the end of what was read does not make them binary."""
    try:
        text = head.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:
            return None
        text = head[: error.start].decode("utf-8-sig", "replace")
    text = text.strip()
    return text if text and all(char.isprintable() or char.isspace() for char in text) else None
