"""Texts as they are compared in a search, and a bitmap of which three characters follow each other in them.

A text that has three which the bitmap lacks is in none of them. One that has only such as are there may still
be in none: several share a bit, and each may stand in another text.
"""

from __future__ import annotations

from collections.abc import Sequence
from zlib import crc32

# With the numbers and the stream beside it a row of PostgreSQL's stays below 2 KB, so the bitmap lies in the
# row itself and is read without a second look-up.
BITS = 14_400


def folded(text: str) -> str:
    """As it is compared: in one case, as one line.

    A part of a text is folded to a part of what the text is folded to; lower case would not do that.
    A NUL is what PostgreSQL has in its place.
    """
    return text.casefold().replace("\n", " ").replace("\x00", "\u2400")


def bitmap_of(lines: str) -> bytes:
    """Of folded texts, a line each."""
    found = bytearray(BITS // 8)
    for three in set(zip(lines, lines[1:], lines[2:], strict=False)):
        bit = _bit("".join(three))
        found[bit >> 3] |= 1 << (bit & 7)
    return bytes(found)


def bits_of(text: str) -> Sequence[int]:
    """Those that a bitmap must have, where this folded text is in a line; none of one shorter than three."""
    return list({_bit(text[at : at + 3]) for at in range(len(text) - 2)})


def has(bitmap: bytes, bits: Sequence[int]) -> bool:
    """Whether all of these are set."""
    return all(bitmap[bit >> 3] >> (bit & 7) & 1 for bit in bits)


def _bit(three: str) -> int:
    return crc32(three.encode("utf-8", "surrogatepass")) % BITS
