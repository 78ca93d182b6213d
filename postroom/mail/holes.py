"""Composed bytes with holes: copies that differ in one word are composed once and filled for each recipient.

The word (a token of fixed length) is found in the finished bytes of one copy, however its part is encoded:
as it is in headers and 7bit parts, with soft line breaks in quoted-printable (RFC 2045 6.7), and in base64 at
any of the three places it can have in a group (6.8). Letters and digits are the same length in all of them,
so a filled copy has exactly the bytes that composing with the other word would give.
"""

from __future__ import annotations

import binascii
import itertools
import re
from dataclasses import dataclass

_BASE64_LINE = b"\r\n"
_SOFT_BREAK = b"=\r\n"


@dataclass(frozen=True)
class _Hole:
    """What stands for the word between two literals.

    base64: encoded together with the neighbours `before` and `after` that share its groups of three bytes.
    breaks: where, counted in encoded characters, `separator` interrupts it.
    """

    base64: bool = False
    before: bytes = b""
    after: bytes = b""
    breaks: tuple[int, ...] = ()
    separator: bytes = b""

    def written(self, word: bytes) -> bytes:
        if self.base64:
            word = binascii.b2a_base64(self.before + word + self.after, newline=False)
        if not self.breaks:
            return word
        edges = (0, *self.breaks, len(word))
        return self.separator.join(word[a:b] for a, b in itertools.pairwise(edges))


@dataclass(frozen=True)
class Holed:
    """A message with holes. `literals` has one more than `holes`."""

    literals: tuple[bytes, ...]
    holes: tuple[_Hole, ...]

    def filled(self, word: bytes) -> bytes:
        """The copy with this word; as long as the one it was cut with, letters and digits only."""
        pieces = [self.literals[0]]
        for hole, literal in zip(self.holes, self.literals[1:], strict=True):
            pieces += [hole.written(word), literal]
        return b"".join(pieces)

    @property
    def size_bytes(self) -> int:
        """What it takes to keep."""
        return sum(map(len, self.literals))


def cut(data: bytes, word: bytes, count: int) -> Holed | None:
    """`data` with holes where `word` stands; None unless it is found exactly `count` times.

    word: at least ten ASCII letters and digits, and nothing that could stand there by chance.
    """
    found = _plain(data, word)
    if len(found) < count:
        found = sorted(found + _in_base64(data, word), key=lambda one: one[0])
    if len(found) != count:
        return None
    literals, position = [], 0
    for start, end, _ in found:
        literals.append(data[position:start])
        position = end
    return Holed((*literals, data[position:]), tuple(hole for _, _, hole in found))


_Found = list[tuple[int, int, _Hole]]


def _plain(data: bytes, word: bytes) -> _Found:
    """As it is, or with quoted-printable's soft line breaks in it."""
    pattern = b"(?:=\r\n)?".join(bytes((one,)) for one in word)
    return [
        (found.start(), found.end(), _Hole(breaks=_breaks(found[0], _SOFT_BREAK), separator=_SOFT_BREAK))
        for found in re.finditer(pattern, data)
    ]


def _in_base64(data: bytes, word: bytes) -> _Found:
    found: _Found = []
    for lead in range(3):  # characters of the word that share a group with what stands before it
        whole = (len(word) - lead) // 3 * 3
        inner = binascii.b2a_base64(word[lead : lead + whole], newline=False)
        groups = [re.escape(inner[at : at + 4]) for at in range(0, len(inner), 4)]
        first, rest = (lead > 0), (lead + whole < len(word))
        group = rb"[A-Za-z0-9+/]{4}"
        pattern = rb"(?:\r\n)?".join(
            [*([group] if first else ()), *groups, *([rb"[A-Za-z0-9+/]{2}[A-Za-z0-9+/=]{2}"] if rest else ())]
        )
        for one in re.finditer(pattern, data):
            decoded = binascii.a2b_base64(one[0])
            before = 3 - lead if first else 0
            if decoded[before : before + len(word)] == word:
                hole = _Hole(
                    True,
                    decoded[:before],
                    decoded[before + len(word) :],
                    _breaks(one[0], _BASE64_LINE),
                    _BASE64_LINE,
                )
                found.append((one.start(), one.end(), hole))
    return found


def _breaks(text: bytes, separator: bytes) -> tuple[int, ...]:
    places, length = [], 0
    for piece in text.split(separator)[:-1]:
        length += len(piece)
        places.append(length)
    return tuple(places)
