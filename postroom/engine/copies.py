"""The copies of one message: its bytes for each recipient, composed once where only tokens differ."""

from __future__ import annotations

from collections.abc import Callable

from postroom.mail.content import Content
from postroom.mail.holes import Holed, cut, occurrences

Words = tuple[str, ...]


class Copies:
    """Of one content, marked in one way. `content` writes tokens into it; they are as many and as long for
    each copy."""

    def __init__(self, content: Callable[[Words], Content], compose: Callable[[Content], bytes]) -> None:
        self._content, self._compose = content, compose
        self._first: tuple[Words, bytes] | None = None
        self._holed: Holed | None = None
        self._cuttable = True

    def copy(self, words: Words) -> bytes:
        """The bytes with these. The first is composed, the second cuts that one, the rest are filled."""
        if self._first is not None and self._first[0] == words:
            return self._first[1]
        if self._holed is not None:
            return self._holed.filled(_encoded(words))
        if self._first is not None and self._cuttable:
            first, data = self._first
            expected = _occurrences(self._content(first), first)
            self._holed = cut(data, _encoded(first), expected)
            if self._holed is not None:
                return self._holed.filled(_encoded(words))
            self._cuttable = False  # never seen; each is composed by itself then
        composed = self._compose(self._content(words))
        if self._first is None:
            self._first = (words, composed)
        return composed

    @property
    def size_bytes(self) -> int:
        """What it takes to keep."""
        first = 0 if self._first is None else len(self._first[1])
        return first + (0 if self._holed is None else self._holed.size_bytes)


def _encoded(words: Words) -> list[bytes]:
    return [word.encode("ascii") for word in words]


def _occurrences(content: Content, words: Words) -> int:
    texts = (content.html or "", content.text or "", *(value for _, value in content.headers))
    return occurrences("\n".join(texts).encode("utf-8", "replace"), _encoded(words))
