"""One file on disk -> `Video`, or the reason why it is none."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pipeline.media.boxes import Box, Budget, load, top_level
from pipeline.media.faults import InvalidMedia, MediaFault
from pipeline.media.movie import Movie, Track, add_fragment, read_movie


@dataclass(frozen=True, slots=True)
class Video:
    """A playable video.

    `container` is mp4 or mov, `duration` in seconds, `width` and `height` in pixels as displayed, `bytes` the file's
    length, `codec` the sample entry's four characters (avc1, hvc1, av01...), `fps` the mean frame rate.
    """

    container: str
    duration: float
    width: int
    height: int
    bytes: int
    has_audio: bool
    codec: str
    fps: float


def probe(path: Path) -> Video:
    """Look at a file, reading its headers only: a few reads, never its pictures, bounded whatever the file says.

    Blocking: call it from a thread. A fragmented file that ends exactly between two fragments and announces no length
    cannot be told from a shorter video: compare the download's length with what was announced.
    Raises InvalidMedia with a code and a sentence, OSError when the file cannot be read.
    """
    with path.open("rb", buffering=0) as file:
        size = file.seek(0, 2)
        if size == 0:
            raise InvalidMedia(MediaFault.EMPTY, "the file is empty")
        try:
            return _probe(file, size)
        except (struct.error, IndexError):
            raise InvalidMedia(MediaFault.DAMAGED, "a header inside the file is cut short") from None


def _probe(file: BinaryIO, size: int) -> Video:
    budget = Budget()
    movie: Movie | None = None
    container, fragmented = "", False
    for box in top_level(file, size, budget):
        container = container or _container(file, box)
        if box.kind == b"moov" and movie is None:
            movie = read_movie(*load(file, box, budget), budget)
        elif box.kind == b"moof" and movie is not None:
            fragmented = True
            add_fragment(movie, *load(file, box, budget), box.start, budget)
    if movie is None:
        raise InvalidMedia(MediaFault.NO_MOOV, "the file has no moov box: it was cut short or never finished")
    return judge(movie, size, fragmented=fragmented, container=container)


def _container(file: BinaryIO, first: Box) -> str:
    """QuickTime is what says so, or what is older than the brand."""
    if first.kind not in (b"ftyp", b"styp"):
        return "mov"
    file.seek(first.body)
    return "mov" if file.read(4) == b"qt  " else "mp4"


def judge(movie: Movie, size: int, *, fragmented: bool, container: str) -> Video:
    """Turn what the headers say about a file of `size` bytes into a verdict. Pure. Raises InvalidMedia."""
    video = next((track for track in movie.tracks if track.handler == b"vide"), None)
    if video is None:
        raise InvalidMedia(MediaFault.NO_VIDEO, "the file has no video track")
    if video.codec == "encv":
        raise InvalidMedia(MediaFault.ENCRYPTED, "the video track is encrypted")
    if not (video.width and video.height and video.codec):
        raise InvalidMedia(MediaFault.DAMAGED, "the video track does not say its codec or size")
    reach = max(track.reach for track in movie.tracks)
    if reach > size:
        raise InvalidMedia(
            MediaFault.TRUNCATED, f"the file is cut short: its samples reach to byte {reach}, the file has {size}"
        )
    duration = _duration(movie, video, fragmented)
    return Video(
        container=container,
        duration=duration,
        width=video.width,
        height=video.height,
        bytes=size,
        has_audio=any(track.handler == b"soun" for track in movie.tracks),
        codec=video.codec,
        fps=_fps(video, duration),
    )


def _duration(movie: Movie, video: Track, fragmented: bool) -> float:
    if video.samples == 0:
        raise InvalidMedia(MediaFault.NO_DURATION, "the video track has no pictures")
    tracks = max((_seconds(track) for track in movie.tracks), default=0.0)
    duration = tracks if fragmented else movie.duration or tracks
    if duration <= 0:
        raise InvalidMedia(MediaFault.NO_DURATION, "the video lasts 0 seconds")
    if movie.announced > duration * 1.05 + 0.5:
        raise InvalidMedia(
            MediaFault.TRUNCATED,
            f"fragments are missing: {movie.announced:.2f} s announced, {duration:.2f} s are there",
        )
    return duration


def _seconds(track: Track) -> float:
    """What moov holds of a track, and its fragments on top."""
    return track.duration + (track.fragment_ticks / track.timescale if track.timescale else 0.0)


def _fps(video: Track, duration: float) -> float:
    return round(video.samples / (_seconds(video) or duration), 3)
