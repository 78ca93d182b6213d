"""One SMTP connection's bytes: commands out, replies in, backpressure, STARTTLS, finite waits.

An asyncio Protocol rather than streams, for speed: a reply is parsed where it arrives and wakes its
waiter directly. The wire counts the replies it is owed; one that nobody asked for is a breach of the
protocol (RFC 2920 and RFC 5321 4.3.1) and ends the connection, so that a reply sent early can never
pass for the answer to something later. What a reply means is left to `smtp_outcomes`.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from typing import cast

from postroom.transports.smtp_reply import Reply, ReplyReader

Buffer = bytes | memoryview


class WireTrouble(Exception):
    """The conversation cannot go on. `reply`: what the peer said unasked, if that was the trouble."""

    def __init__(self, text: str, reply: Reply | None = None) -> None:
        self.text = text
        self.reply = reply
        super().__init__(text)


class Wire(asyncio.Protocol):
    """Both directions of one connection. One task at a time may wait on it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, greeting: bool = True) -> None:
        """greeting: the peer speaks first, so one reply is owed from the start."""
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._reader = ReplyReader()
        self._replies: deque[Reply] = deque()
        self._owed = 1 if greeting else 0
        self._waiter: asyncio.Future[None] | None = None
        self._paused = False
        self._trouble: WireTrouble | None = None
        self._lost = False
        self.aborted = False  # by us, while nothing else was wrong

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._trouble is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        for reply in self._reader.feed(data):
            if not self._owed:
                self._fail(WireTrouble("a reply came that nobody asked for", reply))
                return
            self._owed -= 1
            self._replies.append(reply)
        if self._reader.error is not None:
            self._fail(WireTrouble(str(self._reader.error)))
        elif self._replies:
            self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._fail(WireTrouble("the connection was lost"))

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._wake()

    # What the session calls.

    @property
    def alive(self) -> bool:
        """Nothing has gone wrong so far."""
        return self._trouble is None

    @property
    def quiet(self) -> bool:
        """Alive, and neither a reply nor a part of one is under way."""
        return self._trouble is None and not self._owed and not self._replies and self._reader.clean

    @property
    def owed(self) -> int:
        """Replies still to be read with `reply`."""
        return self._owed + len(self._replies)

    @property
    def tls_version(self) -> str:
        """Like "TLSv1.3", or "" for clear text."""
        tls = self._transport.get_extra_info("ssl_object") if self._transport else None
        return (tls.version() or "") if isinstance(tls, ssl.SSLObject) else ""

    def check(self) -> None:
        """Raise WireTrouble if anything has gone wrong."""
        if self._trouble is not None:
            raise self._trouble

    def send(self, data: Buffer, replies: int) -> None:
        """Hand bytes to the socket; `replies` are owed for them. Raises WireTrouble, nothing written."""
        if self._trouble is not None:
            raise self._trouble
        assert self._transport is not None
        self._owed += replies
        self._transport.write(data)

    async def drain(self, timeout_s: float) -> None:
        """Wait until the socket takes more. Raises WireTrouble."""
        if not self._paused:
            await asyncio.sleep(0)  # a peer that answers in mid-body is heard between two blocks
        while self._paused and self._trouble is None and not self._replies:
            await self._wait(timeout_s, "the peer took no data")
        self.check()

    async def reply(self, timeout_s: float) -> Reply:
        """The next reply that is owed. Raises WireTrouble, after which the wire is dead."""
        while not self._replies:
            self.check()
            await self._wait(timeout_s, "no reply")
        return self._replies.popleft()

    async def start_tls(self, context: ssl.SSLContext, name: str, timeout_s: float, quit_s: float) -> None:
        """Secure the connection (RFC 3207), certificate judged for `name`. Raises WireTrouble, OSError.

        Whatever came in clear text after the 220 is an injection: nothing of it is used.
        """
        if not self.quiet or self._transport is None:
            raise WireTrouble("clear text came after the reply to STARTTLS")
        if self._transport.is_closing():
            raise WireTrouble("the connection was lost")
        # The handshake's own limit only counts once the handshake has begun.
        async with asyncio.timeout(timeout_s):
            secured = await self._loop.start_tls(
                self._transport,
                self,
                context,
                server_hostname=name,
                ssl_handshake_timeout=timeout_s,
                ssl_shutdown_timeout=quit_s,
            )
        if secured is None:
            raise WireTrouble("the connection was lost")
        self._transport = secured

    def abort(self) -> None:
        """Cut the connection now, on our own decision; what is buffered is not sent."""
        self.aborted = self._trouble is None
        self._fail(WireTrouble("we cut the connection"))

    async def close(self, timeout_s: float) -> None:
        """Close and wait for it, cutting after `timeout_s`. Never raises WireTrouble."""
        if self._transport is None:
            return
        if self._trouble is None:
            self._trouble = WireTrouble("the session is closed")
            if not self._transport.is_closing():  # before Python 3.11.5 a TLS one closed twice cannot be cut
                self._transport.close()
        deadline = self._loop.time() + timeout_s
        while not self._lost and (left_s := deadline - self._loop.time()) > 0:
            await self._wait(left_s, "closing took too long")
        self._transport.abort()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _wait(self, timeout_s: float, what: str) -> None:
        # A timer and a bare future: asyncio.timeout() costs several times as much, for each reply.
        waiter = self._waiter = self._loop.create_future()
        timer = self._loop.call_later(timeout_s, self._expire, f"{what} within {timeout_s:g} s")
        try:
            await waiter
        finally:
            timer.cancel()
            self._waiter = None

    def _expire(self, text: str) -> None:
        self._fail(WireTrouble(text))

    def _fail(self, trouble: WireTrouble) -> None:
        if self._trouble is None:
            self._trouble = trouble
        if self._transport is not None:
            self._transport.abort()
        self._wake()
