"""The listening end of one connection, pulled from instead of pushed: it reads only when asked to."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Callable
from typing import cast


class Gone(Exception):
    """The conversation is over."""


class Pipe(asyncio.Protocol):
    """Bytes in, bytes out; pull instead of push, so that a hanging server really stops reading."""

    def __init__(self, started: Callable[[Pipe], None]) -> None:
        self._started = started
        self._buffer = bytearray()
        self._arrived = asyncio.Event()
        self._lost = asyncio.Event()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one by duck typing only
        # asyncio does this itself only for sockets it made: without it each small reply waits 40 ms.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._started(self)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._arrived.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost.set()
        self._arrived.set()

    async def some(self) -> None:
        """Wait until there is something to read. Raises Gone at the end."""
        while not self._buffer:
            if self._lost.is_set():
                raise Gone
            self._arrived.clear()
            await self._arrived.wait()

    async def line(self) -> bytes:
        """The next line with its LF."""
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            if self._lost.is_set():
                raise Gone
            self._arrived.clear()
            await self._arrived.wait()
        line = bytes(self._buffer[: end + 1])
        del self._buffer[: end + 1]
        return line

    async def write(self, data: bytes) -> None:
        assert self.transport is not None
        if self._lost.is_set():
            raise Gone
        self.transport.write(data)
        await asyncio.sleep(0)

    async def lost(self) -> None:
        await self._lost.wait()

    def stop_reading(self) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.pause_reading()

    async def start_tls(self, context: ssl.SSLContext) -> None:
        assert self.transport is not None
        if self._buffer:
            raise Gone  # commands before the handshake: a client must not
        try:
            secured = await asyncio.get_running_loop().start_tls(
                self.transport, self, context, server_side=True, ssl_handshake_timeout=5.0
            )
        except OSError as error:
            raise Gone from error
        if secured is None:
            raise Gone
        self.transport = secured

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()

    def cut(self, *, with_reset: bool = False) -> None:
        if self.transport is None:
            return
        # A closed TLS transport cannot be asked for its socket on Python 3.11.
        sock = self.transport.get_extra_info("socket") if with_reset else None
        if sock is not None and sock.fileno() >= 0:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()
