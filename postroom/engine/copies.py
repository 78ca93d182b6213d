"""The copies of one message: its bytes for each recipient, composed once where only a token differs."""

from __future__ import annotations

from collections.abc import Callable

from postroom.mail.content import Content
from postroom.mail.holes import Holed, cut
from postroom.mail.unsubscribe import Offer, offering

Compose = Callable[[Content], bytes]
Url = Callable[[str], str]


class Copies:
    """Of one content with one offer. `url` makes a link of a token; all tokens have one length."""

    def __init__(self, content: Content, offer: Offer, url: Url, compose: Compose) -> None:
        self._content, self._offer, self._url, self._compose = content, offer, url, compose
        self._first: tuple[str, bytes] | None = None
        self._holed: Holed | None = None
        self._cuttable = True

    def copy(self, token: str) -> bytes:
        """The bytes with this token. The first is composed, the second cuts that one, the rest are filled."""
        if self._first is not None and self._first[0] == token:
            return self._first[1]
        if self._holed is not None:
            return self._holed.filled(token.encode("ascii"))
        if self._first is not None and self._cuttable:
            word, data = self._first
            expected = _occurrences(offering(self._content, self._url(word), self._offer), word)
            self._holed = cut(data, word.encode("ascii"), expected)
            if self._holed is not None:
                return self._holed.filled(token.encode("ascii"))
            self._cuttable = False  # never seen; each is composed by itself then
        composed = self._compose(offering(self._content, self._url(token), self._offer))
        if self._first is None:
            self._first = (token, composed)
        return composed

    @property
    def size_bytes(self) -> int:
        """What it takes to keep."""
        first = 0 if self._first is None else len(self._first[1])
        return first + (0 if self._holed is None else self._holed.size_bytes)


def _occurrences(content: Content, word: str) -> int:
    texts = (content.html or "", content.text or "", *(value for _, value in content.headers))
    return sum(text.count(word) for text in texts)
