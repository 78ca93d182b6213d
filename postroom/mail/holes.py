"""Composed bytes with holes: copies that differ in a few words are composed once and filled for each one.

Each word (a token of fixed length) is found in the finished bytes of one copy, however its part is encoded:
as it is in headers and 7bit parts, with soft line breaks in quoted-printable (RFC 2045 6.7), and in base64 at
any of the three places it can have in a group (6.8). Letters and digits are the same length in all of them,
so a filled copy has exactly the bytes that composing with the other words would give. Words that begin alike,
as the tokens of one delivery do, are looked for together.
"""

from __future__ import annotations

import binascii
import itertools
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_BASE64_LINE = b"\r\n"
_SOFT_BREAK = b"=\r\n"
_ALIKE = 16  # characters


@dataclass(frozen=True)
class _Hole:
    """What stands for a word between two literals. word: which one.

    base64: encoded together with the neighbours `before` and `after` that share its groups of three bytes.
    breaks: where, counted in encoded characters, `separator` interrupts it.
    """

    word: int
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

    def filled(self, words: Sequence[bytes]) -> bytes:
        """The copy with these words: as many and as long as those it was cut with; letters and digits."""
        pieces = [self.literals[0]]
        for hole, literal in zip(self.holes, self.literals[1:], strict=True):
            pieces += [hole.written(words[hole.word]), literal]
        return b"".join(pieces)

    @property
    def size_bytes(self) -> int:
        """What it takes to keep."""
        return sum(map(len, self.literals)) + 200 * len(self.holes)


def cut(data: bytes, words: Sequence[bytes], count: int) -> Holed | None:
    """`data` with holes where `words` stand; None unless they are found exactly `count` times in all.

    words: each at least sixteen ASCII letters and digits, and nothing that could stand there by chance.
    """
    found: _Found = []
    for alike in _alike(words):
        found += _plain(data, *alike)
    if len(found) < count:
        for alike in _alike(words):
            found += _in_base64(data, *alike)
    if len(found) != count:
        return None
    found.sort(key=lambda one: one[0])
    literals, position = [], 0
    for start, end, _ in found:
        literals.append(data[position:start])
        position = end
    return Holed((*literals, data[position:]), tuple(hole for _, _, hole in found))


def occurrences(data: bytes, words: Sequence[bytes]) -> int:
    """How often these words stand in text that is not encoded."""
    return sum(len(_plain(data, *alike)) for alike in _alike(words))


_Found = list[tuple[int, int, _Hole]]


def _alike(words: Sequence[bytes]) -> list[tuple[bytes, int, Mapping[bytes, int]]]:
    """Words with one beginning and one length: these, and which words they are."""
    found: defaultdict[tuple[bytes, int], dict[bytes, int]] = defaultdict(dict)
    for number, word in enumerate(words):
        found[word[:_ALIKE], len(word)][word] = number
    return [(*key, numbers) for key, numbers in found.items()]


def _plain(data: bytes, begin: bytes, length: int, numbers: Mapping[bytes, int]) -> _Found:
    """As it is, or with quoted-printable's soft line breaks in it."""
    letters = [bytes((one,)) for one in begin] + [b"[A-Za-z0-9]"] * (length - len(begin))
    found: _Found = []
    for one in re.finditer(b"(?:=\r\n)?".join(letters), data):
        number = numbers.get(one[0].replace(_SOFT_BREAK, b""))
        if number is not None:
            breaks = _breaks(one[0], _SOFT_BREAK)
            found.append((one.start(), one.end(), _Hole(number, breaks=breaks, separator=_SOFT_BREAK)))
    return found


def _in_base64(data: bytes, begin: bytes, length: int, numbers: Mapping[bytes, int]) -> _Found:
    found: _Found = []
    group, last = rb"[A-Za-z0-9+/]{4}", rb"[A-Za-z0-9+/]{2}[A-Za-z0-9+/=]{2}"
    for lead in range(3):  # characters of the word that share a group with what stands before it
        known = (len(begin) - lead) // 3 * 3
        inner = binascii.b2a_base64(begin[lead : lead + known], newline=False)
        groups = [re.escape(inner[at : at + 4]) for at in range(0, len(inner), 4)]
        whole, rest = divmod(length - lead - known, 3)
        groups = [*([group] if lead else []), *groups, *[group] * whole, *([last] if rest else [])]
        for one in re.finditer(rb"(?:\r\n)?".join(groups), data):
            decoded = binascii.a2b_base64(one[0])
            before = 3 - lead if lead else 0
            number = numbers.get(decoded[before : before + length])
            if number is not None:
                around = decoded[:before], decoded[before + length :]
                breaks = _breaks(one[0], _BASE64_LINE)
                found.append((one.start(), one.end(), _Hole(number, True, *around, breaks, _BASE64_LINE)))
    return found


def _breaks(text: bytes, separator: bytes) -> tuple[int, ...]:
    places, length = [], 0
    for piece in text.split(separator)[:-1]:
        length += len(piece)
        places.append(length)
    return tuple(places)
