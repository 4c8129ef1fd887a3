"""A small bitmap font of our own: printable ASCII, five pixels wide, eight high (the last row holds descenders).

A glyph is eight digits in base 32, one per row from the top; a digit's five bits are the pixels from left to right.
"""

from __future__ import annotations

import unicodedata

WIDTH = 5
HEIGHT = 8

_ROWS = r"""
! 44444040 " aaa00000 # aavavaa0 $ 4fke5u40 % op248j30 & 8kk8lid0 ' 44400000 ( 24888420 ) 84222480 * 04letl40
+ 044v4400 , 00000448 - 000v0000 . 00000cc0 / 11248gg0 0 ehjlphe0 1 4c4444e0 2 eh1248v0 3 v2421he0 4 26aiv220
5 vgu11he0 6 68guhhe0 7 v1248880 8 ehhehhe0 9 ehhf12c0 : 0cc0cc00 ; 0cc0c480 < 248g8420 = 00v0v000 > g84248g0
? eh124040 @ ehnlmge0 A ehhvhhh0 B uhhuhhu0 C ehggghe0 D uhhhhhu0 E vgguggv0 F vgguggg0 G ehgnhhf0 H hhhvhhh0
I e44444e0 J 72222ic0 K hikokih0 L ggggggv0 M hrllhhh0 N hhpljhh0 O ehhhhhe0 P uhhuggg0 Q ehhhlid0 R uhhukih0
S fgge11u0 T v4444440 U hhhhhhe0 V hhhhha40 W hhhllla0 X hha4ahh0 Y hhha4440 Z v1248gv0 [ e88888e0 \ gg842110
] e22222e0 ^ 4ah00000 _ 000000v0 ` 84200000 a 00e1fhf0 b ggmphhu0 c 00eggge0 d 11djhhf0 e 00ehvge0 f 698s8880
g 00fhhf1e h ggmphhh0 i 40c444e0 j 206222ic k ggikoki0 l c44444e0 m 00qllll0 n 00mphhh0 o 00ehhhe0 p 00uhhugg
q 00fhhf11 r 00mpggg0 s 00fge1u0 t 88s88960 u 00hhhjd0 v 00hhha40 w 00hllla0 x 00ha4ah0 y 00hhhf1e z 00v248v0
{ 24484420 | 44444444 } 84424480 ~ 008l2000
"""

_SPELLED = str.maketrans({
    "‘": "'", "’": "'", "“": '"', "”": '"', "–": "-", "—": "-", "…": "...", "ß": "ss", "æ": "ae", "Æ": "AE",
    "ø": "o", "Ø": "O", "œ": "oe", "Œ": "OE", "ł": "l", "Ł": "L", "€": "EUR", "×": "x", "·": ".", "«": '"', "»": '"',
})  # fmt: skip


def _read(table: str) -> dict[str, tuple[int, ...]]:
    words = table.split()
    glyphs = zip(words[0::2], words[1::2], strict=True)
    return {" ": (0,) * HEIGHT} | {char: tuple(int(row, 32) for row in rows) for char, rows in glyphs}


GLYPHS = _read(_ROWS)


def plain(text: str) -> str:
    """The text in the characters that the font has: white space runs become one blank, accents go, the rest is `?`."""
    folded = unicodedata.normalize("NFKD", " ".join(text.translate(_SPELLED).split()))
    kept = (char for char in folded if not unicodedata.combining(char))
    return "".join(char if " " <= char <= "~" else "?" for char in kept)
