"""One HTTP/1.1 connection's bytes: out with backpressure, in with a bound, every wait finite.

An asyncio Protocol that keeps what came until it is asked for. What the bytes mean is `http_client`'s.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import cast

MOST_BYTES = 2 << 20  # that one reply may have with its head, compressed or not, however it is framed


class WireTrouble(Exception):
    """The conversation cannot go on."""


class HttpWire(asyncio.Protocol):
    """Both directions of one connection. One task at a time may wait on it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._taken = 0  # bytes handed on since `begin`
        self._ended = False
        self._paused = False
        self._trouble: WireTrouble | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._lost = False

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._taken + len(self._received) > MOST_BYTES:
            self._fail("the reply is too large")
        self._wake()

    def eof_received(self) -> None:
        self._ended = True
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = self._ended = True
        if exc is not None and self._trouble is None:
            self._trouble = WireTrouble("the connection was lost")
        self._wake()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._wake()

    # What the connection calls.

    @property
    def alive(self) -> bool:
        """Neither closed by the peer nor broken."""
        return self._trouble is None and not self._ended

    @property
    def quiet(self) -> bool:
        """Alive, and nothing has come that was not read."""
        return self.alive and not self._received

    @property
    def heard(self) -> bool:
        """The peer has said something that was not read yet, or closed."""
        return bool(self._received) or self._ended or self._trouble is not None

    @property
    def tls_version(self) -> str:
        """Like "TLSv1.3", or "" for clear text."""
        tls = self._transport.get_extra_info("ssl_object") if self._transport else None
        return (tls.version() or "") if isinstance(tls, ssl.SSLObject) else ""

    def begin(self) -> None:
        """A request begins: what its reply may have is counted from here. Raises WireTrouble."""
        if self._received:
            self._fail("something came that nobody asked for")
        self.check()
        if self._ended:
            raise WireTrouble("the connection was closed")
        self._taken = 0

    def check(self) -> None:
        """Raise WireTrouble if anything has gone wrong."""
        if self._trouble is not None:
            raise self._trouble

    def send(self, data: bytes | memoryview) -> None:
        """Hand bytes to the socket."""
        assert self._transport is not None
        self._transport.write(data)

    async def drain(self, timeout_s: float) -> None:
        """Wait until the socket takes more, or the peer says something. Raises WireTrouble."""
        if not self._paused:
            await asyncio.sleep(0)
        while self._paused and not self.heard:
            await self._wait(timeout_s, "the peer took no data")
        self.check()

    async def receive(self, deadline_s: float, limit_s: float) -> bytes:
        """What came; b"" once the peer has closed. Raises WireTrouble.

        deadline_s: by the loop's clock. limit_s: the whole wait it ends, for the text.
        """
        while not self._received and not self._ended:
            self.check()
            left_s = deadline_s - self._loop.time()
            await self._wait(max(0.0, left_s), "no complete reply", limit_s)
        if not self._received:
            self.check()
        data = bytes(self._received)
        self._taken += len(data)
        self._received.clear()
        return data

    def abort(self) -> None:
        """Cut the connection now."""
        self._fail("we cut the connection")

    async def close(self, timeout_s: float) -> None:
        """Close and wait for it, cutting after `timeout_s`. Never raises WireTrouble."""
        if self._transport is None:
            return
        self._trouble = self._trouble or WireTrouble("the connection is closed")
        self._transport.close()
        deadline = self._loop.time() + timeout_s
        while not self._lost and (left_s := deadline - self._loop.time()) > 0:
            await self._wait(left_s, "closing took too long")
        self._transport.abort()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _wait(self, timeout_s: float, what: str, limit_s: float | None = None) -> None:
        waiter = self._waiter = self._loop.create_future()
        text = f"{what} within {timeout_s if limit_s is None else limit_s:g} s"
        timer = self._loop.call_later(timeout_s, self._fail, text)
        try:
            await waiter
        finally:
            timer.cancel()
            self._waiter = None

    def _fail(self, text: str) -> None:
        if self._trouble is None:
            self._trouble = WireTrouble(text)
        if self._transport is not None:
            self._transport.abort()
        self._wake()
