"""The feed by SMTP submission: many sessions, pipelined, until every message has had its 250 read.

The body of a message and the envelope of the next one leave in one packet (RFC 2920 3.1). SMTP has no name
for a request, so a message whose 250 was lost is left as it is and another is sent under another address:
the client's own second message, as docs/smtp.md says.
"""

from __future__ import annotations

import asyncio
import contextlib
from base64 import b64encode
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from drills.feed import AGAIN_S, ANSWER_PATIENCE_S, TEXT, Feed, Told
from drills.post import Post


@dataclass
class _Letter:
    number: int
    tries: int = 0
    dotted: bool = False  # its final dot was sent: whatever happens now, it may have been taken

    @property
    def recipient(self) -> str:
        return f"s{self.number}-{self.tries}@example.net"


class _TurnedAway(Exception):
    """A reply that says later."""


class OverSubmission(Feed):
    """Transactional mail by SMTP from `sender`, each worker with a session of its own."""

    def __init__(self, post: Post, told: Told, key: str, sender: str) -> None:
        super().__init__(post, told)
        self._sender = sender
        self._login = b64encode(f"\0{key}\0{key}".encode()).decode()

    async def run(self, count: int, workers: int, may_go: Callable[[int], bool]) -> None:
        numbers = iter(range(count))
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(self._work(numbers, may_go))

    async def _work(self, numbers: Iterator[int], may_go: Callable[[int], bool]) -> None:
        waiting: deque[_Letter] = deque()

        def take() -> _Letter | None:
            if not may_go(len(self.told.accepted)):
                return None
            if not waiting:
                waiting.extend(_Letter(number) for number in _first(numbers))
            return waiting.popleft() if waiting else None

        while True:
            letter = take()
            if letter is None:
                if may_go(len(self.told.accepted)):
                    return
                await asyncio.sleep(AGAIN_S)
                continue
            await self.post.up.wait()
            session = _Session(self._sender, letter)
            try:
                await session.open(*self.post.smtp, self._login)
                await self._converse(session, letter, take)
            except (OSError, EOFError, TimeoutError):
                pass
            except _TurnedAway:
                self.told.turned_away += 1
            finally:
                session.close()
            waiting.extend(self._again(left) for left in session.unanswered)
            await asyncio.sleep(AGAIN_S)

    def _again(self, letter: _Letter) -> _Letter:
        if not letter.dotted:
            return letter
        self.told.lost_answers += 1
        return _Letter(letter.number, letter.tries + 1)

    async def _converse(self, session: _Session, letter: _Letter, take: Callable[[], _Letter | None]) -> None:
        """Send letter after letter while there are more at once."""
        session.begin()
        current: _Letter | None = letter
        while current is not None:
            await session.envelope_taken()
            following = take()
            session.finish(current, following)
            await session.taken()
            self.told.yes(current.recipient)
            current = following


class _Session:
    """One SMTP session that begins with `first`. unanswered: letters it has read no 250 for, oldest first."""

    def __init__(self, sender: str, first: _Letter) -> None:
        self._sender = sender
        self.unanswered = [first]
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def open(self, host: str, port: int, login: str) -> None:
        self._streams = await asyncio.open_connection(host, port)
        await self._expect("220")
        self._write("EHLO drill.example\r\n")
        await self._expect("250")
        self._write(f"AUTH PLAIN {login}\r\n")
        await self._expect("235")

    def begin(self) -> None:
        """The first envelope, alone."""
        self._write(self._envelope(self.unanswered[0]))

    def finish(self, letter: _Letter, following: _Letter | None) -> None:
        """Its body, and the envelope of the next one in the same packet."""
        letter.dotted = True
        body = TEXT.replace("\n", "\r\n")
        head = f"From: {self._sender}\r\nTo: {letter.recipient}\r\nSubject: Drill {letter.number}\r\n"
        more = "" if following is None else self._envelope(following)
        if following is not None:
            self.unanswered.append(following)
        self._write(f"{head}\r\n{body}.\r\n{more}")

    async def envelope_taken(self) -> None:
        for code in ("250", "250", "354"):
            await self._expect(code)

    async def taken(self) -> None:
        await self._expect("250")
        del self.unanswered[0]

    def _envelope(self, letter: _Letter) -> str:
        return f"MAIL FROM:<{self._sender}>\r\nRCPT TO:<{letter.recipient}>\r\nDATA\r\n"

    def _write(self, text: str) -> None:
        assert self._streams is not None
        self._streams[1].write(text.encode("ascii"))

    async def _expect(self, code: str) -> None:
        """Read one reply. Raises _TurnedAway for 4xx, RuntimeError for others, EOFError, TimeoutError."""
        assert self._streams is not None
        async with asyncio.timeout(ANSWER_PATIENCE_S):
            while True:
                line = (await self._streams[0].readuntil(b"\r\n")).decode("ascii", "replace")
                if line[3:4] != "-":
                    break
        if line.startswith("4"):
            self.unanswered[0].dotted = False  # it was answered: not taken
            raise _TurnedAway
        if not line.startswith(code):
            raise RuntimeError(f"{line.strip()!r} instead of {code}")

    def close(self) -> None:
        if self._streams is not None:
            with contextlib.suppress(OSError):
                self._streams[1].close()


def _first(numbers: Iterator[int]) -> Iterator[int]:
    """The next number alone, if there is one."""
    for number in numbers:
        yield number
        return
