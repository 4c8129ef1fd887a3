"""The part of H.264 that needs no encoder: pictures of raw blocks (I_PCM), repeated flat blocks, and skipped blocks.

Constrained Baseline, level 4.0, 4:2:0, one slice per picture, picture order = decoding order, deblocking off. Sources:
ITU-T H.264 (08/2021) 7.3 for the syntax, 8.3.3 for intra prediction, 9.2.1 for coeff_token.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

SPS_PROFILE = bytes((66, 0xC0, 40))

_COUNT_OF_PCM = 16
_I_VERTICAL, _I_HORIZONTAL, _I_PCM = 1, 2, 25
_P_INTRA_OFFSET = 5


def ue(value: int) -> str:
    """Unsigned Exp-Golomb code as a string of bits."""
    bits = f"{value + 1:b}"
    return "0" * (len(bits) - 1) + bits


def nal(kind: int, payload: bytes) -> bytes:
    """A length-prefixed (avcC style) NAL unit with nal_ref_idc 3; `payload` is given emulation prevention."""
    body = bytes((0x60 | kind,)) + _protect(payload)
    return len(body).to_bytes(4, "big") + body


def sps(width: int, height: int) -> bytes:
    """Sequence parameter set, without its length, for a picture of even `width` and `height` in pixels."""
    across, down = blocks(width), blocks(height)
    crop = (0, (across * 16 - width) // 2, 0, (down * 16 - height) // 2)
    bits = ue(0) + ue(0) + ue(2) + ue(1) + "0" + ue(across - 1) + ue(down - 1) + "11"
    bits += ("1" + "".join(map(ue, crop)) if any(crop) else "0") + "0"
    return bytes((0x67,)) + _protect(SPS_PROFILE + _finish(bits))


def pps() -> bytes:
    """Picture parameter set, without its length: CAVLC, and a slice may switch deblocking off."""
    bits = ue(0) + ue(0) + "00" + ue(0) + ue(0) + ue(0) + "000" + ue(0) * 3 + "100"
    return bytes((0x68,)) + _protect(_finish(bits))


def blocks(pixels: int) -> int:
    """How many macroblocks of 16 pixels cover so many pixels."""
    return -(-pixels // 16)


def key_picture(across: int, cells: Sequence[bytes], flat: bytes) -> bytes:
    """An IDR picture of raw macroblocks (256 luma, 64 + 64 chroma bytes each, in reading order), as one NAL unit.

    A cell equal to `flat`, which must be of one colour, costs a few bits where its left or upper neighbour is flat too.
    """
    writer = _Writer(ue(0) + ue(7) + ue(0) + "0000" + ue(0) + "00" + ue(0) + ue(1))
    raw = [True] * len(cells)
    for index, cell in enumerate(cells):
        left = index - 1 if index % across else None
        above = index - across if index >= across else None
        direction = _direction(cells, flat, left, above) if cell == flat else None
        if direction is None:
            writer.raw(ue(_I_PCM), cell)
            continue
        raw[index] = False
        chroma = 2 if direction == _I_VERTICAL else 1
        writer.bits(ue(direction) + ue(chroma) + "1" + _no_coefficients(raw, left, above))
    return nal(5, writer.finish())


def next_picture(number: int, total: int, changed: Iterable[tuple[int, bytes]]) -> bytes:
    """A picture that repeats the last one but for some raw macroblocks, given as (index, bytes) in rising order."""
    writer = _Writer(ue(0) + ue(5) + ue(0) + f"{number % 16:04b}" + "000" + ue(0) + ue(1))
    done = 0
    for index, cell in changed:
        writer.raw(ue(index - done) + ue(_P_INTRA_OFFSET + _I_PCM), cell)
        done = index + 1
    if done < total:
        writer.bits(ue(total - done))
    return nal(1, writer.finish())


def _direction(cells: Sequence[bytes], flat: bytes, left: int | None, above: int | None) -> int | None:
    if left is not None and cells[left] == flat:
        return _I_HORIZONTAL
    if above is not None and cells[above] == flat:
        return _I_VERTICAL
    return None


def _no_coefficients(raw: Sequence[bool], left: int | None, above: int | None) -> str:
    counts = [_COUNT_OF_PCM * raw[index] for index in (left, above) if index is not None]
    expected = (sum(counts) + 1) // 2 if len(counts) == 2 else counts[0]
    return "1" if expected < 2 else "000011"


class _Writer:
    def __init__(self, header: str) -> None:
        self._done = bytearray()
        self._bits = [header]

    def bits(self, bits: str) -> None:
        self._bits.append(bits)

    def raw(self, bits: str, cell: bytes) -> None:
        pending = "".join(self._bits) + bits
        self._done += _pack(pending + "0" * (-len(pending) % 8)) + cell
        self._bits = []

    def finish(self) -> bytes:
        return bytes(self._done) + _finish("".join(self._bits))


def _finish(bits: str) -> bytes:
    return _pack(bits + "1" + "0" * (-(len(bits) + 1) % 8))


def _pack(bits: str) -> bytes:
    return int(bits, 2).to_bytes(len(bits) // 8, "big") if bits else b""


def _protect(payload: bytes) -> bytes:
    return re.sub(b"\x00\x00(?=[\x00-\x03])", b"\x00\x00\x03", payload)
