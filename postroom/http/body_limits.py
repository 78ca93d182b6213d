"""A cap on the body of every request, held while it is read, and on the time it may take.

The application reads through here, so what it meets are errors of our tree, told in its own shape. A body
that nobody read is taken in when it is small, so that the connection can be used again, and otherwise cut
off: an operation that has no body costs nobody a gigabyte. Cut off means: answered, then read and thrown away
for a moment, then closed; closed at once, the client would see a reset and never the answer (RFC 9112 9.6).
"""

from __future__ import annotations

import asyncio
import time

from postroom.errors import TooLarge
from postroom.http.asgi import ASGIApp, Message, Receive, Scope, Send, header_values
from postroom.http.json import Malformed

DRAIN_BYTES = 1 << 20
DRAIN_S = 2.0
LINGER_BYTES = 64 << 20
LINGER_S = 2.0
LINGER_QUIET_S = 0.3  # a client that sends nothing this long has stopped


class BodyTooSlow(Malformed):
    """The body did not arrive in time."""

    def __init__(self) -> None:
        super().__init__("The body did not arrive in time")


async def read_body(receive: Receive, most_bytes: int) -> bytes:
    """The whole body. Raises TooLarge as soon as it is above `most_bytes`; Malformed when it ends early."""
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise Malformed("The body ended early")
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > most_bytes:
            raise TooLarge(most_bytes)
        chunks.append(chunk)
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


class BodyLimit:
    """An application around another. most_bytes: of a body; patience_s: from the first read to its end."""

    def __init__(self, app: ASGIApp, *, most_bytes: int, patience_s: float = 60.0) -> None:
        self._app, self._most_bytes, self._patience_s = app, most_bytes, patience_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        guard = _Guard(scope, receive, send, self._most_bytes, self._patience_s)
        await self._app(scope, guard.receive, guard.send)


class _Guard:
    """One request."""

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, most_bytes: int, patience_s: float
    ) -> None:
        headers = scope["headers"]
        declared = header_values(headers, b"content-length")
        self._declared = int(declared[0]) if declared and declared[0].isdecimal() else 0
        self._complete = not (self._declared or header_values(headers, b"transfer-encoding"))
        self._waits_for_100 = bool(header_values(headers, b"expect"))
        self._receive, self._send = receive, send
        self._most_bytes, self._patience_s = most_bytes, patience_s
        self._read_bytes = 0
        self._deadline_s: float | None = None
        self._cut_off = False

    async def receive(self) -> Message:
        """The next piece of the body. Raises TooLarge, BodyTooSlow."""
        if self._complete:
            return await self._receive()
        if self._declared > self._most_bytes:
            raise TooLarge(self._most_bytes)
        if self._deadline_s is None:
            self._deadline_s = time.monotonic() + self._patience_s
        try:
            message = await self._next(self._deadline_s - time.monotonic())
        except TimeoutError:
            raise BodyTooSlow from None
        if self._read_bytes > self._most_bytes:
            raise TooLarge(self._most_bytes)
        return message

    async def send(self, message: Message) -> None:
        """Pass an answer on; its connection ends with it when a body is left over."""
        if message["type"] == "http.response.start" and not self._complete and not await self._drained():
            self._cut_off = True
            message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
        elif (
            self._cut_off and message["type"] == "http.response.body" and not message.get("more_body", False)
        ):
            await self._send({**message, "more_body": True})
            await self._linger()
            message = {"type": "http.response.body", "body": b""}
        await self._send(message)

    async def _next(self, timeout_s: float) -> Message:
        async with asyncio.timeout(timeout_s):
            message = await self._receive()
        self._waits_for_100 = False
        self._read_bytes += len(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body", False):
            self._complete = True
        return message

    async def _drained(self) -> bool:
        """Whether what is left of the body was small and is now read."""
        if self._waits_for_100 or self._declared > self._read_bytes + DRAIN_BYTES:
            return False
        most, deadline_s = self._read_bytes + DRAIN_BYTES, time.monotonic() + DRAIN_S
        try:
            while not self._complete and self._read_bytes <= most:
                await self._next(deadline_s - time.monotonic())
        except TimeoutError:
            return False
        return self._complete

    async def _linger(self) -> None:
        """Read on while the client still sends, within bounds; what is read is thrown away."""
        most, deadline_s = self._read_bytes + LINGER_BYTES, time.monotonic() + LINGER_S
        try:
            while not self._complete and self._read_bytes <= most:
                await self._next(min(LINGER_QUIET_S, deadline_s - time.monotonic()))
        except TimeoutError:
            pass
