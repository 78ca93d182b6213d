"""SMTP replies: bytes of a peer -> values, within limits (RFC 5321 4.2, RFC 2034 and 3463 codes).

A peer's bytes are hostile until read: a line is at most 4 KiB, a reply at most 100 lines and 64 KiB,
and a code outside 200-599 is no reply. Text is made safe to store and show: one line, no control
characters, at most 1,000 characters. No sockets here.
"""

from __future__ import annotations

import re

MOST_LINE_BYTES = 4096
MOST_LINES = 100
MOST_REPLY_BYTES = 65536
MOST_TEXT = 1000
MOST_REMOTE_ID = 200

_ENHANCED = re.compile(r"([245])\.(\d{1,3})\.(\d{1,3})(?=\s|:|$)")
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")
_REMOTE_ID = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"queued as:? ?<?([\w.@+=/-]+)",  # Postfix, SendGrid
        r"\bid[=:] ?<?([\w.@+=/-]{3,})",  # Exim
        r"^(?:2\.\d\.\d )?<([\w.@+=/-]{3,})> .*queued",  # Exchange
        r"^(?:2\.\d\.\d )?(\w{8,}) message accepted",  # Sendmail
        # SES "Ok 0102018f-...", Gmail "OK  1700000000 ab12-... - gsmtp": a word with a digit in it
        r"^(?:2\.\d\.\d )?ok:? +<?((?=[\w.@+=/-]*\d)[\w.@+=/-]{8,})",
    )
)


class ReplyError(Exception):
    """What the peer sent is no SMTP reply, or a reply beyond the limits."""


class Reply:
    """One complete reply: its code, 200-599, and its lines without code and line end."""

    __slots__ = ("_enhanced", "_text", "code", "lines")

    def __init__(self, code: int, lines: list[bytes]) -> None:
        self.code = code
        self.lines = lines
        self._enhanced: str | None = None  # worked out when first asked for, as is the text
        self._text: str | None = None

    def __repr__(self) -> str:
        return f"Reply({self.code}, {self.text[:60]!r})"

    @property
    def kind(self) -> int:
        """The first digit: 2 done, 3 go on, 4 not now, 5 no."""
        return self.code // 100

    @property
    def enhanced(self) -> str:
        """The enhanced status code like "5.1.1", or "" if absent or of another class than the code."""
        if self._enhanced is None:
            self._enhanced = self._find_enhanced()
        return self._enhanced

    @property
    def text(self) -> str:
        """All lines as one, safe to show; the enhanced code stays in front, repeated ones go."""
        if self._text is None:
            self._text = self._join()
        return self._text

    def _find_enhanced(self) -> str:
        for line in self.lines:
            found = _ENHANCED.match(line.decode("ascii", "replace"))
            if found and int(found[1]) == self.kind:
                return found[0]
        return ""

    def _join(self) -> str:
        enhanced = self.enhanced
        parts: list[str] = []
        for line in self.lines:
            part = line.decode("utf-8", "replace").strip()
            if parts and enhanced and part.startswith(enhanced):
                part = part[len(enhanced) :].lstrip()
            parts.append(part)
        return clean_text(" ".join(parts))

    @property
    def remote_id(self) -> str:
        """The peer's own name for the message, if this reply to the final dot tells it, else ""."""
        text = self.text
        for pattern in _REMOTE_ID:
            found = pattern.search(text)
            if found:
                return found[1].rstrip(".")[:MOST_REMOTE_ID]
        return ""


class ReplyReader:
    """Cuts a byte stream into replies, however it arrives."""

    __slots__ = ("_code", "_lines", "_pending", "_size", "error")

    def __init__(self) -> None:
        self.error: ReplyError | None = None  # set once; nothing is read after it
        self._pending = b""  # a line without its end yet
        self._lines: list[bytes] = []  # of a reply without its last line yet
        self._code = 0
        self._size = 0

    @property
    def clean(self) -> bool:
        """Nothing of a next reply has arrived."""
        return not self._pending and not self._lines

    def feed(self, data: bytes) -> list[Reply]:
        """Bytes as they arrive -> the replies they complete, those before an `error` included."""
        replies: list[Reply] = []
        if self.error is not None:
            return replies
        try:
            self._feed(data, replies)
        except ReplyError as error:
            self.error = error
            self._pending = b""
        return replies

    def _feed(self, data: bytes, replies: list[Reply]) -> None:
        if self._pending:
            data = self._pending + data
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            reply = self._line(data[start:end])
            start = end + 1
            if reply is not None:
                replies.append(reply)
        self._pending = data[start:]
        if len(self._pending) > MOST_LINE_BYTES:
            raise ReplyError("a reply line is too long")

    def _line(self, line: bytes) -> Reply | None:
        if len(line) > MOST_LINE_BYTES:
            raise ReplyError("a reply line is too long")
        line = line.removesuffix(b"\r")
        mark = line[3:4]
        if not line[:3].isdigit() or len(line) < 3 or mark not in (b" ", b"-", b""):
            raise ReplyError("what came is no SMTP reply")
        code = int(line[:3])
        if not 200 <= code <= 599:
            raise ReplyError(f"there is no reply code {line[:3].decode('ascii')}")
        if self._lines and code // 100 != self._code // 100:
            raise ReplyError("the lines of a reply have different codes")
        self._code = code
        self._lines.append(line[4:])
        self._size += len(line)
        if len(self._lines) > MOST_LINES or self._size > MOST_REPLY_BYTES:
            raise ReplyError("a reply is too long")
        if mark == b"-":
            return None
        reply = Reply(code, self._lines)
        self._lines = []
        self._size = 0
        return reply


def clean_text(text: str) -> str:
    """Any text -> one line without control characters, at most 1,000 characters."""
    return _UNSAFE.sub(" ", text).strip()[:MOST_TEXT]
