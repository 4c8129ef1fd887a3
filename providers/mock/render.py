"""A real, playable MP4 without an encoder: the prompt in large letters, the seed, a clock and a bar that grows.

Picture sizes are chosen to be exactly of the asked shape with even sides, the short side at most the asked resolution:
16:9 is 640x360, 832x468 (not 854x480, which is not 16:9) and 1280x720. Ten pictures per second. Letters are as large as
a budget of raw blocks allows, so a file of 8 s stays under about 300 kB; a prompt beyond the room ends in "...".
"""

from __future__ import annotations

import colorsys
import random
import textwrap
from dataclasses import dataclass

from providers.mock import font, h264, mp4

FRAMES_PER_SECOND = 10
ASPECT_RATIOS = ("16:9", "9:16", "1:1", "4:3", "3:4", "21:9")
RESOLUTIONS = ("360p", "480p", "720p")

_BAR = 16
_CELL_WIDTH = font.WIDTH + 1
_CELL_HEIGHT = font.HEIGHT + 2
_MARGIN = 16
_RAW_BUDGET = 450

Colour = tuple[int, int, int]


def render(prompt: str, *, seed: int, duration: int, aspect_ratio: str = "16:9", resolution: str = "360p") -> bytes:
    """The video's bytes, the same for the same arguments. `duration` in whole seconds, 1 to 60.

    Raises:
        ValueError: an aspect ratio or resolution that is not in the tables above, or a duration out of range.
    """
    if not 1 <= duration <= 60:
        raise ValueError("duration must be 1 to 60 seconds")
    width, height = size_of(aspect_ratio, resolution)
    picture = _Picture(width, height, _Palette.of(seed))
    _draw_prompt(picture, font.plain(prompt))
    samples = _film(picture, duration, f"seed {seed}")
    sps, pps = h264.sps(width, height), h264.pps()
    return mp4.mux(samples, sps=sps, pps=pps, width=width, height=height, frame_ms=1000 // FRAMES_PER_SECOND)


def size_of(aspect_ratio: str, resolution: str) -> tuple[int, int]:
    """Width and height in pixels. Raises ValueError for what is not offered."""
    if aspect_ratio not in ASPECT_RATIOS or resolution not in RESOLUTIONS:
        raise ValueError(f"cannot render {aspect_ratio} at {resolution}")
    across, down = (7, 3) if aspect_ratio == "21:9" else map(int, aspect_ratio.split(":"))
    unit = int(resolution[:-1]) // (2 * min(across, down))
    return 2 * across * unit, 2 * down * unit


@dataclass(frozen=True, slots=True)
class _Palette:
    paper: Colour
    ink: Colour
    track: Colour
    bar: Colour

    @classmethod
    def of(cls, seed: int) -> _Palette:
        hue = random.Random(seed).random()  # noqa: S311 - a colour, not a secret
        return cls(
            paper=_yuv(hue, 0.55, 0.28),
            ink=_yuv(hue, 0.08, 0.97),
            track=_yuv(hue, 0.5, 0.45),
            bar=_yuv(hue + 0.4, 0.7, 0.95),
        )


def _yuv(hue: float, saturation: float, value: float) -> Colour:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    return round(16 + 219 * luma), round(128 + 126.4 * (blue - luma)), round(128 + 159.7 * (red - luma))


class _Picture:
    """Three planes whose sides are whole macroblocks; `cell` reads one macroblock."""

    def __init__(self, width: int, height: int, palette: _Palette) -> None:
        self.width, self.height, self.palette = width, height, palette
        self.across, self.down = h264.blocks(width), h264.blocks(height)
        self.stride = self.across * 16
        areas = (256, 64, 64)
        total = self.across * self.down
        self.planes = [bytearray((c,)) * (area * total) for c, area in zip(palette.paper, areas, strict=True)]
        self.flat = b"".join(bytes((c,)) * area for c, area in zip(palette.paper, areas, strict=True))

    def fill(self, x: int, y: int, width: int, height: int, colour: Colour) -> None:
        """A rectangle; chroma is as coarse as 4:2:0 makes it."""
        for plane, value, half in zip(self.planes, colour, (1, 2, 2), strict=True):
            run, stride = bytes((value,)) * (width // half), self.stride // half
            for row in range(y // half, (y + height) // half):
                start = row * stride + x // half
                plane[start : start + len(run)] = run

    def write(self, x: int, y: int, text: str, scale: int) -> None:
        """One line of text in luma only, so that the letters carry a breath of the paper's colour."""
        shades = bytes((self.palette.paper[0],)) * scale, bytes((self.palette.ink[0],)) * scale
        for row in range(font.HEIGHT):
            bits = "".join(f"{font.GLYPHS[char][row]:05b}0" for char in text)
            pixels = b"".join(shades[bit == "1"] for bit in bits)
            for line in range(scale):
                start = (y + row * scale + line) * self.stride + x
                self.planes[0][start : start + len(pixels)] = pixels

    def cell(self, index: int) -> bytes:
        """The 384 bytes of macroblock `index`."""
        down, across = divmod(index, self.across)
        parts = []
        for plane, side in zip(self.planes, (16, 8, 8), strict=True):
            stride = self.across * side
            start = down * side * stride + across * side
            parts += [plane[at : at + side] for at in range(start, start + side * stride, stride)]
        return b"".join(parts)

    def cells_of(self, x: int, y: int, width: int, height: int) -> set[int]:
        """The indexes of the macroblocks that a rectangle of pixels touches."""
        rows, columns = range(y // 16, h264.blocks(y + height)), range(x // 16, h264.blocks(x + width))
        return {row * self.across + column for row in rows for column in columns} if width else set()


def _draw_prompt(picture: _Picture, text: str) -> None:
    room = picture.width - 2 * _MARGIN, picture.height - 2 * _MARGIN - 5 * _BAR
    scale, lines = _layout(text, *room)
    for number, line in enumerate(lines):
        picture.write(_MARGIN, _MARGIN + number * _CELL_HEIGHT * scale, line, scale)


def _layout(text: str, width: int, height: int) -> tuple[int, list[str]]:
    for scale in range(max(2, height // 40), 1, -1):
        columns, rows = width // (_CELL_WIDTH * scale), height // (_CELL_HEIGHT * scale)
        lines = textwrap.wrap(text, columns) if columns >= 8 else []
        raw = sum(_raw_blocks(len(line), scale) for line in lines)
        if lines and len(lines) <= rows and raw <= _RAW_BUDGET and max(map(len, text.split())) <= columns:
            return scale, lines
    rows = min(rows, _RAW_BUDGET // _raw_blocks(columns, scale))
    return scale, textwrap.wrap(text, columns, max_lines=rows, placeholder=" ...")


def _raw_blocks(characters: int, scale: int) -> int:
    across, down = characters * _CELL_WIDTH * scale / 16 + 1, _CELL_HEIGHT * scale / 16 + 0.5
    return round(across * down)


def _film(picture: _Picture, duration: int, label: str) -> list[bytes]:
    total, blocks = duration * FRAMES_PER_SECOND, picture.across * picture.down
    bar_y = (picture.height // 16 - 2) * 16
    long = picture.width // 16 * 16 - 2 * _MARGIN
    picture.fill(_MARGIN, bar_y, long, _BAR, picture.palette.track)
    samples: list[bytes] = []
    shown: dict[int, bytes] = {}
    filled = 0
    for frame in range(total):
        touched: set[int] = set()
        if frame % FRAMES_PER_SECOND == 0:
            touched |= _write_clock(
                picture, bar_y - 32, f"{label}  {frame // FRAMES_PER_SECOND + 1:2}/{duration} s", long
            )
        until = long * (frame + 1) // total // 2 * 2
        picture.fill(_MARGIN + filled, bar_y, until - filled, _BAR, picture.palette.bar)
        touched |= picture.cells_of(_MARGIN + filled, bar_y, until - filled, _BAR)
        filled = until
        changed = {index: cell for index in sorted(touched) if (cell := picture.cell(index)) != shown.get(index)}
        shown |= changed
        samples.append(h264.next_picture(frame, blocks, changed.items()) if frame else _first(picture))
    return samples


def _write_clock(picture: _Picture, y: int, text: str, room: int) -> set[int]:
    line = text[: room // (_CELL_WIDTH * 2)]
    picture.write(_MARGIN, y, line, 2)
    return picture.cells_of(_MARGIN, y, len(line) * _CELL_WIDTH * 2, font.HEIGHT * 2)


def _first(picture: _Picture) -> bytes:
    cells = [picture.cell(index) for index in range(picture.across * picture.down)]
    return h264.key_picture(picture.across, cells, picture.flat)
