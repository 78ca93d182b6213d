"""Reading what follows DATA: up to CRLF.CRLF and not one byte further, in bounds, dots unstuffed.

RFC 5321 4.1.1.4, 4.5.2 and 2.3.8. What is refused is read to its end without being kept, so that the
session stays in step. A line may be longer than what is read at once.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

_CHUNK_BYTES = 1 << 22  # more than a reader of ours ever holds: a read takes all of it


class Holder(Protocol):
    """Who counts the bytes that all sessions hold."""

    held_bytes: int


class Body:
    """One message being read. Its bytes count in `holder.held_bytes` until `release`."""

    def __init__(self, holder: Holder, size_limit_bytes: int, memory_bytes: int) -> None:
        self._holder, self._size_limit_bytes, self._memory_bytes = holder, size_limit_bytes, memory_bytes
        self._held_bytes = 0
        self.content = b""

    def release(self) -> None:
        """Nothing is held any more. Safe to call twice."""
        self._hold(-self._held_bytes)
        self.content = b""

    def _hold(self, more_bytes: int) -> None:
        self._held_bytes += more_bytes
        self._holder.held_bytes += more_bytes

    async def read(self, reader: asyncio.StreamReader) -> str:
        """Read to the end: `content` is the message; or the reply that refuses it, else ""."""
        read = bytearray()
        refusal = ""
        dots = 0
        tail = b"\r\n"  # what stood before `piece`: at first the end of the DATA command
        ended = False
        while not ended:
            piece = await reader.read(_CHUNK_BYTES)
            if not piece:
                raise asyncio.IncompleteReadError(b"", None)
            piece, rest, ended = _cut(tail, piece)
            if rest:
                reader.feed_data(rest)  # nothing else is in it, so the next command is read first
            dots += (tail[-2:] + piece).count(b"\r\n.")
            tail = (tail + piece)[-4:]
            if refusal:
                continue
            # The end has three bytes, of which its dot is among `dots`; of half an end the CR is too many.
            more = len(piece) - 3 * ended
            size_bytes = len(read) + more - dots + ended - tail.endswith(b"\r\n.\r")
            refusal = self._refuse(size_bytes, more)
            if refusal:
                read = bytearray()
                self.release()
            else:
                read += piece
                self._hold(more)
        return refusal or self._finish(read)

    def _refuse(self, size_bytes: int, more_bytes: int) -> str:
        if size_bytes > self._size_limit_bytes:
            return f"552 5.3.4 Larger than {self._size_limit_bytes} bytes"
        if self._holder.held_bytes + more_bytes > self._memory_bytes:
            return f"452 4.3.1 More than {self._memory_bytes} bytes of mail come in at once, try again later"
        return ""

    def _finish(self, read: bytearray) -> str:
        ends = read.count(b"\r\n")
        if read.count(b"\n") != ends or read.count(b"\r") != ends:
            return "554 5.6.11 A bare CR or LF is not allowed in a message (RFC 5321 2.3.8)"
        del read[-3:]
        if read.startswith(b"."):
            del read[:1]
        if b"\r\n." in read:
            read = read.replace(b"\r\n.", b"\r\n")
        self.content = bytes(read)
        return ""


def _cut(tail: bytes, piece: bytes) -> tuple[bytes, bytes, bool]:
    """(what belongs to the message, what comes after it, whether it ends here)."""
    at = (tail + piece).find(b"\r\n.\r\n")
    if at < 0:
        return piece, b"", False
    end = at + 5 - len(tail)
    return piece[:end], piece[end:], True
