"""The mock's videos are real: their bytes decode, and last, look and measure what was asked."""

import json
import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.mock import font, h264
from providers.mock.render import ASPECT_RATIOS, RESOLUTIONS, render, size_of

needs_ffmpeg = pytest.mark.skipif(
    not (shutil.which("ffmpeg") and shutil.which("ffprobe")), reason="install ffmpeg to decode what was rendered"
)


def probe(data, tmp_path):
    path = tmp_path / "video.mp4"
    path.write_bytes(data)
    command = ["ffprobe", "-v", "error", "-count_frames", "-show_streams", "-show_format", "-of", "json", str(path)]
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)


def decode(data):
    """Every picture's luma and chroma, and what the decoder complained of."""
    command = ["ffmpeg", "-v", "error", "-i", "pipe:0", "-f", "rawvideo", "-pix_fmt", "yuv420p", "pipe:1"]
    done = subprocess.run(command, input=data, capture_output=True, check=True)
    return done.stdout, done.stderr.decode()


@needs_ffmpeg
@pytest.mark.parametrize("aspect_ratio", ASPECT_RATIOS)
def test_a_video_is_baseline_h264_of_the_asked_shape_and_length(aspect_ratio, tmp_path):
    data = render("A fox, 35mm [[429:2]]", seed=7, duration=3, aspect_ratio=aspect_ratio)
    (stream,) = probe(data, tmp_path)["streams"]
    assert (stream["codec_tag_string"], stream["profile"], stream["pix_fmt"]) == (
        "avc1",
        "Constrained Baseline",
        "yuv420p",
    )
    assert float(stream["duration"]) == 3.0
    assert stream["nb_read_frames"] == "30"
    across, down = map(int, aspect_ratio.split(":"))
    assert stream["width"] * down == stream["height"] * across
    assert min(stream["width"], stream["height"]) == 360


@needs_ffmpeg
@pytest.mark.parametrize("resolution", RESOLUTIONS)
def test_every_resolution_decodes_without_a_complaint(resolution):
    pixels, complaints = decode(render("words " * 200, seed=1, duration=2, resolution=resolution))
    width, height = size_of("16:9", resolution)
    assert complaints == ""
    assert len(pixels) == 20 * width * height * 3 // 2


@needs_ffmpeg
def test_pictures_move_and_show_letters_on_paper():
    pixels, _ = decode(render("HELLO", seed=5, duration=1))
    size = 640 * 360 * 3 // 2
    pictures = [pixels[at : at + size] for at in range(0, len(pixels), size)]
    assert len(set(pictures)) == 10
    assert {pictures[0][0]} < set(pictures[0][: 640 * 120])


def test_the_same_arguments_give_the_same_bytes_and_another_seed_others():
    assert render("fox", seed=1, duration=2) == render("fox", seed=1, duration=2)
    assert render("fox", seed=1, duration=2) != render("fox", seed=2, duration=2)


def test_the_index_comes_before_the_data():
    data = render("fox", seed=1, duration=1)
    assert data[4:8] == b"ftyp"
    assert data.index(b"moov") < data.index(b"mdat")


@pytest.mark.parametrize("prompt", ["", "x", "a " * 2000, "y" * 4000, "漢字 Ünïcode — “quoted”"])
def test_any_prompt_fits_into_a_small_file(prompt):
    assert len(render(prompt, seed=0, duration=8, resolution="720p")) < 350_000


@pytest.mark.parametrize(
    "asked",
    [{"duration": 0}, {"duration": 61}, {"duration": 8, "resolution": "8k"}, {"duration": 8, "aspect_ratio": "2:1"}],
)
def test_what_is_not_offered_is_refused(asked):
    with pytest.raises(ValueError, match=r"must be|cannot render"):
        render("fox", seed=0, **asked)


def test_the_font_covers_printable_ascii_with_distinct_glyphs():
    printable = [chr(code) for code in range(32, 127)]
    assert sorted(font.GLYPHS) == printable
    assert len(set(font.GLYPHS.values())) == 95
    assert all(len(rows) == font.HEIGHT and max(rows) < 32 for rows in font.GLYPHS.values())


def test_other_characters_are_spelled_or_marked():
    assert font.plain("Größe  “née”\n漢…") == 'Grosse "nee" ?...'


@given(st.binary(max_size=60).map(lambda data: bytes(byte % 4 for byte in data)))
@settings(max_examples=200, deadline=None)
def test_a_nal_unit_never_holds_a_start_code(payload):
    body = h264.nal(1, payload + b"\x80")[4:]
    assert all(body[at : at + 3] not in {b"\0\0\0", b"\0\0\1", b"\0\0\2"} for at in range(len(body)))
    assert body.replace(b"\0\0\3", b"\0\0")[1:] == payload + b"\x80" or b"\0\0\3" in payload
