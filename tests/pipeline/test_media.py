"""What is a playable video and what is not: files made by ffmpeg (tests/videos), and stranger ones built box by box."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.media import InvalidMedia, MediaFault, Video, probe

DATA = Path(__file__).parent.parent / "videos"
FIXTURES = ("normal.mp4", "moov-last.mp4", "fragmented.mp4", "audio.mp4")
ffprobe = pytest.mark.skipif(shutil.which("ffprobe") is None, reason="ffprobe is not there: install ffmpeg")
ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not there: install ffmpeg")


def box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def full(kind: bytes, *parts: bytes, version: int = 0) -> bytes:
    return box(kind, struct.pack(">I", version << 24), *parts)


def numbers(*values: int) -> bytes:
    return struct.pack(f">{len(values)}I", *values)


FTYP = box(b"ftyp", b"isom", numbers(512), b"isomavc1")


def header(*, ticks: int = 2000, version: int = 0) -> bytes:
    times = struct.pack(">QQIQ", 0, 0, 1000, ticks) if version else numbers(0, 0, 1000, ticks)
    return full(b"mvhd", times, bytes(80), version=version)


def track(
    *,
    handler: bytes = b"vide",
    codec: bytes = b"avc1",
    ticks: int = 2000,
    offset: int = 0,
    sizes: tuple[int, ...] = (100,) * 20,
    chunk: int = 20,
    wide: bool = False,
    matrix: tuple[int, int] = (0x10000, 0),
) -> bytes:
    entry = box(codec, bytes(6), struct.pack(">H", 1), bytes(16), struct.pack(">HH", 64, 48), bytes(50))
    chunks = -(-len(sizes) // chunk)
    offsets = [offset + sum(sizes[: index * chunk]) for index in range(chunks)]
    places = (
        full(b"co64", numbers(chunks), struct.pack(f">{chunks}Q", *offsets))
        if wide
        else full(b"stco", numbers(chunks, *offsets))
    )
    table = box(
        b"stbl",
        full(b"stsd", numbers(1), entry),
        full(b"stts", numbers(1, len(sizes), 100)),
        full(b"stsc", numbers(1, 1, chunk, 1)),
        full(b"stsz", numbers(0, len(sizes), *sizes)),
        places,
    )
    media = box(
        b"mdia",
        full(b"mdhd", numbers(0, 0, 1000, ticks, 0)),
        full(b"hdlr", numbers(0), handler, bytes(13)),
        box(b"minf", table),
    )
    tkhd = full(b"tkhd", numbers(0, 0, 1, 0, ticks), bytes(16), struct.pack(">ii", *matrix), bytes(36))
    return box(b"trak", tkhd, media)


def movie(*tracks: bytes, mvhd: bytes | None = None) -> bytes:
    return box(b"moov", mvhd or header(), *(tracks or (track(offset=40),)))


GOOD = FTYP + box(b"mdat", bytes(2000)) + movie()


@pytest.fixture
def check(tmp_path: Path):
    def look(data: bytes) -> Video:
        path = tmp_path / "video"
        path.write_bytes(data)
        return probe(path)

    return look


@pytest.mark.parametrize("name", FIXTURES)
def test_files_of_ffmpeg_are_understood(name: str) -> None:
    size = (DATA / name).stat().st_size
    assert probe(DATA / name) == Video("mp4", 2.0, 96, 64, size, name == "audio.mp4", "avc1", 10.0)


@ffprobe
@pytest.mark.parametrize("name", FIXTURES)
def test_ffprobe_agrees(name: str) -> None:
    command = [
        "ffprobe",
        "-v",
        "error",
        "-show_entries",
        "format=duration:stream=codec_type,width,height",
        "-of",
        "json",
    ]
    answer = json.loads(subprocess.run([*command, str(DATA / name)], check=True, capture_output=True).stdout)
    video = probe(DATA / name)
    assert video.duration == pytest.approx(float(answer["format"]["duration"]), abs=0.05)
    assert (video.width, video.height) == (answer["streams"][0]["width"], answer["streams"][0]["height"])
    assert video.has_audio == any(stream["codec_type"] == "audio" for stream in answer["streams"])


@ffmpeg
@pytest.mark.parametrize(
    ("options", "container"),
    [
        (["-movflags", "+frag_keyframe", "-g", "7", "fragments-after-samples.mp4"], "mp4"),
        (["-movflags", "+dash+global_sidx", "dash.mp4"], "mp4"),
        (["-metadata:s:v", "title=x", "movie.mov"], "mov"),
        (["-movflags", "+faststart", "-t", "0.5", "short.mp4"], "mp4"),
    ],
)
def test_what_ffmpeg_makes_now_is_understood(options: list[str], container: str, tmp_path: Path) -> None:
    path = tmp_path / options[-1]
    source = ["-f", "lavfi", "-i", "testsrc=size=64x48:rate=25:duration=2", "-pix_fmt", "yuv420p"]
    subprocess.run(["ffmpeg", "-v", "error", *source, *options[:-1], str(path)], check=True, stdin=subprocess.DEVNULL)
    video = probe(path)
    assert (video.container, video.width, video.height) == (container, 64, 48)
    assert video.duration == pytest.approx(0.5 if "-t" in options else 2.0, abs=0.05)
    assert video.fps == pytest.approx(25, abs=0.5)


def test_a_movie_built_by_hand_is_understood(check) -> None:
    assert check(GOOD) == Video("mp4", 2.0, 64, 48, len(GOOD), False, "avc1", 10.0)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("64-bit size", FTYP + struct.pack(">I4sQ", 1, b"mdat", 2016) + bytes(2000) + movie(track(offset=48))),
        ("64-bit offsets", FTYP + box(b"mdat", bytes(2000)) + movie(track(offset=40, wide=True))),
        ("64-bit times", FTYP + box(b"mdat", bytes(2000)) + movie(mvhd=header(version=1))),
        (
            "last box to the end of the file",
            FTYP + movie(track(offset=800)) + struct.pack(">I4s", 0, b"mdat") + bytes(3000),
        ),
        ("unknown duration in mvhd", FTYP + box(b"mdat", bytes(2000)) + movie(mvhd=header(ticks=0xFFFFFFFF))),
        ("many chunks", FTYP + box(b"mdat", bytes(2000)) + movie(track(offset=40, chunk=3))),
        ("padding after the end", GOOD + bytes(1000)),
    ],
)
def test_lawful_but_rare_forms_are_understood(check, name: str, data: bytes) -> None:
    video = check(data)
    assert (video.duration, video.width, video.height, video.fps) == (2.0, 64, 48, 10.0), name


def test_a_turned_picture_has_its_displayed_size(check) -> None:
    video = check(FTYP + box(b"mdat", bytes(2000)) + movie(track(offset=40, matrix=(0, 0x10000))))
    assert (video.width, video.height) == (48, 64)


@pytest.mark.parametrize(
    ("data", "code", "words"),
    [
        (b"", MediaFault.EMPTY, "empty"),
        (b"<!DOCTYPE html><html><body>Not found", MediaFault.TEXT, "HTML page .* '<!DOCTYPE html><html>"),
        (
            b"\xef\xbb\xbf  <?xml version='1.0'?><Error><Code>AccessDenied",
            MediaFault.TEXT,
            "XML .*<Error><Code>AccessDenied",
        ),
        (b'{"error": {"code": 403}}', MediaFault.TEXT, 'JSON .*{"error"'),
        ("nicht gefunden: überall".encode()[:-1], MediaFault.TEXT, "text .*nicht gefunden"),
        (b"\x1aE\xdf\xa3" + bytes(100), MediaFault.CONTAINER, "WebM"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), MediaFault.CONTAINER, "PNG"),
        (bytes(100), MediaFault.CONTAINER, "00 00 00 00"),
        (FTYP, MediaFault.NO_MOOV, "no moov"),
        (FTYP + box(b"mdat", bytes(2000)), MediaFault.NO_MOOV, "no moov"),
        (
            FTYP + struct.pack(">I4s", 5000, b"mdat") + bytes(2000),
            MediaFault.TRUNCATED,
            "mdat .* 5024, the file has 2032",
        ),
        (FTYP + struct.pack(">I4s", 4, b"mdat") + bytes(2000), MediaFault.DAMAGED, "4 bytes long"),
        (FTYP + struct.pack(">I4sQ", 1, b"mdat", 2**64 - 1) + bytes(99), MediaFault.TRUNCATED, "cut short"),
        (FTYP + movie(track(offset=800)), MediaFault.TRUNCATED, "samples reach to byte 2800"),
        (FTYP + movie(track(offset=2**40, wide=True)), MediaFault.TRUNCATED, "samples reach"),
        (FTYP + movie(track(handler=b"soun")), MediaFault.NO_VIDEO, "no video track"),
        (FTYP + box(b"moov", header()), MediaFault.NO_VIDEO, "no video track"),
        (FTYP + box(b"moov"), MediaFault.DAMAGED, "mvhd"),
        (FTYP + movie(track(sizes=())), MediaFault.NO_DURATION, "no pictures"),
        (
            FTYP + movie(track(ticks=0), mvhd=header(ticks=0)) + bytes(3000),
            MediaFault.NO_DURATION,
            "0 seconds",
        ),
        (FTYP + movie(track(codec=b"encv")) + bytes(3000), MediaFault.ENCRYPTED, "encrypted"),
        (FTYP + movie(track(codec=b"\x00\x00\x00\x00"))[:-8], MediaFault.TRUNCATED, "cut short"),
    ],
)
def test_what_is_no_video_says_why(check, data: bytes, code: MediaFault, words: str) -> None:
    with pytest.raises(InvalidMedia, match=words) as caught:
        check(data)
    assert caught.value.code is code
    assert caught.value.reason == str(caught.value)


def fragment(count: int, *, data_offset: int = 200) -> bytes:
    """A moof of the simplest kind: every sample by the defaults of trex."""
    run = full(b"trun", struct.pack(">Ii", count, data_offset)).replace(
        bytes(4) + struct.pack(">I", count), numbers(1, count), 1
    )
    return box(b"moof", full(b"mfhd", numbers(1)), box(b"traf", full(b"tfhd", numbers(1)), run))


def fragmented(*parts: bytes, announced: int | None = None) -> bytes:
    mehd = b"" if announced is None else full(b"mehd", numbers(announced))
    extends = box(b"mvex", mehd, full(b"trex", numbers(1, 1, 100, 50, 0)))
    return FTYP + box(b"moov", header(ticks=0), track(sizes=(), ticks=0), extends) + b"".join(parts)


def test_fragments_by_defaults_count(check) -> None:
    part = fragment(10) + box(b"mdat", bytes(1000))
    assert check(fragmented(part, part, announced=2000)).duration == 2.0


def test_missing_fragments_are_noticed(check) -> None:
    part = fragment(10) + box(b"mdat", bytes(1000))
    with pytest.raises(InvalidMedia, match="fragments are missing") as caught:
        check(fragmented(part, part, announced=9000))
    assert caught.value.code is MediaFault.TRUNCATED
    with pytest.raises(InvalidMedia, match="samples reach"):
        check(fragmented(part, fragment(10)))


def test_a_flood_of_boxes_ends(check) -> None:
    with pytest.raises(InvalidMedia, match="more boxes"):
        check(FTYP + box(b"free") * 400_001)


def test_a_moov_that_claims_gigabytes_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.write(FTYP + struct.pack(">I4s", 3_000_000_000, b"moov"))
        file.truncate(3_000_000_032 + 100)
    with pytest.raises(InvalidMedia, match="headers are larger"):
        probe(path)


@pytest.mark.parametrize("name", ["normal.mp4", "moov-last.mp4", "audio.mp4"])
def test_no_beginning_of_a_video_is_a_video(check, name: str) -> None:
    whole = (DATA / name).read_bytes()
    for length in range(0, len(whole), 37):
        with pytest.raises(InvalidMedia):
            check(whole[:length])


seeds = st.sampled_from([*((DATA / name).read_bytes() for name in FIXTURES), GOOD, fragmented(fragment(10))])
edits = st.lists(st.tuples(st.integers(0, 9000), st.binary(min_size=1, max_size=8)), max_size=6)


@settings(max_examples=300, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=seeds, edits=edits, length=st.integers(0, 9000))
def test_whatever_the_bytes_the_answer_is_a_video_or_a_reason(check, seed: bytes, edits, length: int) -> None:
    data = bytearray(seed)
    for position, patch in edits:
        data[position % len(data) : position % len(data) + len(patch)] = patch
    with suppress(InvalidMedia):
        video = check(bytes(data[:length]) if length % 3 == 0 else bytes(data))
        assert min(video.duration, video.width, video.height) > 0
