"""An HTTP server on loopback whose every answer is scripted, down to the byte and the cut.

A play is an async function of one `Exchange`; the next request met takes the next play, and the default one
once they are used up.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import struct
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from tests.support.loop_turns import abort_accepted, close_listener, until_closed


@dataclass(frozen=True)
class Asked:
    """One request as it came; header names in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """Its body (Any: whatever JSON it is)."""
        return json.loads(self.body)


class Exchange:
    """One request under way. `asked` is there after `request`, and after `head` without its body."""

    def __init__(self, peer: HttpPeer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._peer, self.reader, self.writer = peer, reader, writer
        self.asked: Asked

    async def head(self) -> None:
        """Read the request's head and nothing of its body."""
        text = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = text.rstrip("\r\n").split("\r\n")
        method, target, _ = first.split(" ")
        pairs = (line.split(":", 1) for line in lines)
        headers = {name.lower(): value.strip() for name, value in pairs}
        self.asked = Asked(method, target, headers, b"")

    async def request(self) -> Asked:
        """Read the whole request; it is kept in the peer's `asked`."""
        await self.head()
        body = await self.reader.readexactly(int(self.asked.headers.get("content-length", "0")))
        self.asked = Asked(self.asked.method, self.asked.target, self.asked.headers, body)
        self._peer.asked.append(self.asked)
        return self.asked

    async def send(self, data: bytes) -> None:
        """Exactly these bytes."""
        self.writer.write(data)
        await self.writer.drain()

    async def reply(
        self, status: int, body: bytes | dict[str, Any] | list[Any] = b"", headers: str = ""
    ) -> None:
        """A well-formed reply. headers: whole lines with CRLF."""
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
        await self.send(head.encode("latin-1") + body)

    def cut(self) -> None:
        """Reset the connection."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def hang(self) -> None:
        """Say nothing more until the test is over."""
        await self._peer.over.wait()


Play = Callable[[Exchange], Awaitable[None]]


class HttpPeer:
    """The server. `asked`: whole requests in the order they came. `connections`: how many were made."""

    def __init__(self, default: Play | None = None, *, context: ssl.SSLContext | None = None) -> None:
        self.plays: deque[Play] = deque()
        self.default = default
        self.asked: list[Asked] = []
        self.connections = 0
        self.over = asyncio.Event()
        self.port = 0
        self._context = context
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"{'https' if self._context else 'http'}://localhost:{self.port}"

    async def __aenter__(self) -> HttpPeer:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._context)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.over.set()
        await close_listener(self._server)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in list(self._writers):  # of tasks that never began
            writer.transport.abort()
        abort_accepted(self.port)
        await until_closed()
        await self._server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Not async: a connection that comes right before the end is known here, and closed.
        self.connections += 1
        self._writers.add(writer)
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._more(reader):
                play = self.plays.popleft() if self.plays else self.default
                assert play is not None, "a request came that no play was written for"
                await play(Exchange(self, reader, writer))
                if writer.transport.is_closing():
                    return
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # cancelled: the test is over
        finally:
            writer.transport.abort()
            self._writers.discard(writer)

    async def _more(self, reader: asyncio.StreamReader) -> bool:
        """Wait for the first byte of another request; False when the client closed."""
        while not reader._buffer and not reader.at_eof():  # type: ignore[attr-defined]  # streams cannot peek
            await reader._wait_for_data("more")  # type: ignore[attr-defined]
        return bool(reader._buffer)  # type: ignore[attr-defined]


def says(status: int, body: bytes | dict[str, Any] | list[Any] = b"", headers: str = "") -> Play:
    """Read the request, give this reply."""

    async def play(exchange: Exchange) -> None:
        await exchange.request()
        await exchange.reply(status, body, headers)

    return play


def sends(data: bytes, *, then_close: bool = False) -> Play:
    """Read the request, answer these bytes."""

    async def play(exchange: Exchange) -> None:
        await exchange.request()
        await exchange.send(data)
        if then_close:
            exchange.writer.close()

    return play


async def hangs(exchange: Exchange) -> None:
    """Read the request, say nothing."""
    await exchange.request()
    await exchange.hang()


async def cuts(exchange: Exchange) -> None:
    """Read the request, reset the connection."""
    await exchange.request()
    exchange.cut()


async def cuts_in_the_body(exchange: Exchange) -> None:
    """Read a little of the body, reset the connection."""
    await exchange.head()
    await exchange.reader.readexactly(1000)
    exchange.cut()


async def never_reads(exchange: Exchange) -> None:
    """Read a little of the body, then nothing more."""
    await exchange.head()
    await exchange.hang()


async def never_ends(exchange: Exchange) -> None:
    """A body without end."""
    await exchange.request()
    await exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        await exchange.send(b"10000\r\n" + b"x" * 65_536 + b"\r\n")


async def drips(exchange: Exchange) -> None:
    """A head that comes one byte at a time and never ends."""
    await exchange.request()
    await exchange.send(b"HTTP/1.1 200 OK\r\nX-Drip: ")
    while True:
        await exchange.send(b"x")
        await asyncio.sleep(0.01)
