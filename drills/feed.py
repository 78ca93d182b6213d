"""The feed: sends until its yes is read, whatever happens to `serve` meanwhile; remembers every yes.

Transactional mail goes over HTTP to Broadcast's API, one message a request; a request whose answer was lost
is sent again with its Idempotency-Key. Broadcast mail goes through the control socket, which knows no such
key: a request whose answer was lost is left as it is, and another is sent under another address. The feed by
SMTP is in `drills.submission`.
"""

from __future__ import annotations

import asyncio
import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from drills.post import Post
from postroom.control.client import NotListening
from postroom.core.message import Purpose
from postroom.errors import Unavailable

ANSWER_PATIENCE_S = 30.0
AGAIN_S = 0.02
TEXT = "A short text, as a reset of a password has it.\n" * 6


@dataclass
class Told:
    """What the senders know: `accepted` has the recipient of every message whose yes was read."""

    accepted: set[str] = field(default_factory=set)
    lost_answers: int = 0
    turned_away: int = 0  # busy or starting: asked again
    fuse: tuple[int, Callable[[], None]] | None = None  # at that many a yes: call this once

    def yes(self, recipient: str) -> None:
        """A yes was read."""
        self.accepted.add(recipient)
        if self.fuse is not None and len(self.accepted) >= self.fuse[0]:
            call, self.fuse = self.fuse[1], None
            call()


class Feed(ABC):
    """Sends numbered messages to `<prefix><number>@example.net`."""

    def __init__(self, post: Post, told: Told, text: str = TEXT) -> None:
        """text: of every message."""
        self.post, self.told, self.text = post, told, text

    @abstractmethod
    async def run(self, count: int, workers: int, may_go: Callable[[int], bool]) -> None:
        """Send `count` messages; `may_go` says whether so many accepted are not too far ahead.

        Raises RuntimeError for a no that asking again cannot change.
        """


class OneByOne(Feed):
    """A feed whose every message is a request of its own."""

    async def run(self, count: int, workers: int, may_go: Callable[[int], bool]) -> None:
        numbers = iter(range(count))

        async def work() -> None:
            try:
                for number in numbers:
                    while not may_go(len(self.told.accepted)):
                        await asyncio.sleep(AGAIN_S)
                    await self.send(number)
            finally:
                self.close()

        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(work())

    @abstractmethod
    async def send(self, number: int) -> None:
        """Send one until its yes is read. Raises RuntimeError for a no that asking again cannot change."""

    def close(self) -> None:
        """No more is sent: nothing to do where nothing stays open."""
        return


class OverHttp(OneByOne):
    """Transactional mail through Broadcast's API."""

    def __init__(self, post: Post, told: Told, key: str, text: str = TEXT) -> None:
        super().__init__(post, told, text)
        self._key = key
        self._idle: list[HttpConnection] = []

    async def send(self, number: int) -> None:
        recipient = f"t{number}@example.net"
        html = f"<p>{self.text}</p>"
        body = json.dumps({"to": recipient, "subject": f"Drill {number}", "body": html}).encode()
        headers = {
            "Authorization": f"Bearer {self._key}",
            "Content-Type": "application/json",
            "Idempotency-Key": f"drill-{number}",
        }
        while True:
            await self.post.up.wait()
            connection = self._idle.pop() if self._idle else HttpConnection()
            try:
                async with asyncio.timeout(ANSWER_PATIENCE_S):
                    url = self.post.url
                    status, answer = await connection.request(
                        url, "POST", "/api/v1/transactionals", headers, body
                    )
            except (OSError, EOFError, TimeoutError):
                connection.close()
                self.told.lost_answers += 1
                await asyncio.sleep(AGAIN_S)
                continue
            self._idle.append(connection)
            if status == 201:
                self.told.yes(recipient)
                return
            if status not in (409, 503):
                raise RuntimeError(f"HTTP {status} to message {number}: {answer[:300]!r}")
            self.told.turned_away += 1
            await asyncio.sleep(AGAIN_S)

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()


class OverControlSocket(OneByOne):
    """Broadcast mail, as `postroom message send --purpose broadcast` hands it to `serve`."""

    async def send(self, number: int) -> None:
        tries = 0
        while True:
            await self.post.up.wait()
            recipient = f"b{number}-{tries}@example.net"
            try:
                async with asyncio.timeout(ANSWER_PATIENCE_S):
                    await self.post.ask(
                        "message.send",
                        to=[recipient],
                        purpose=Purpose.BROADCAST.value,
                        subject=f"Drill {number}",
                        text=self.text,
                    )
            except NotListening:
                self.told.turned_away += 1
                await asyncio.sleep(AGAIN_S)
            except (Unavailable, OSError, TimeoutError):
                self.told.lost_answers += 1
                tries += 1
                await asyncio.sleep(AGAIN_S)
            else:
                self.told.yes(recipient)
                return


class HttpConnection:
    """One connection of an HTTP/1.1 client that stays open between requests (RFC 9112).

    `head`: the last answer's status line and fields, as they came.
    """

    def __init__(self) -> None:
        self.head = b""
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._url = ""

    async def request(
        self, url: str, method: str, path: str, headers: dict[str, str], body: bytes = b""
    ) -> tuple[int, bytes]:
        """Status and body. Raises OSError or EOFError when no whole answer came."""
        if self._streams is None or self._url != url:
            self.close()
            where = urlsplit(url)
            self._streams = await asyncio.open_connection(where.hostname, where.port)
            self._url = url
        reader, writer = self._streams
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        host = urlsplit(url).netloc
        start = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{head}Content-Length: {len(body)}\r\n\r\n"
        writer.write(start.encode() + body)
        await writer.drain()
        self.head = await reader.readuntil(b"\r\n\r\n")
        lines = self.head.decode("latin-1").split("\r\n")
        fields = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
        answer = await reader.readexactly(int(fields.get("content-length", "0")))
        if fields.get("connection") == "close":
            self.close()
        return int(lines[0].split(" ")[1]), answer

    def close(self) -> None:
        """Close it; the next request opens another."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None
