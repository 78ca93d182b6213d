"""Postfix's smtp-sink as the receiver of a benchmark: it costs little, and says how many messages it has."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_COUNT = re.compile(rb"mesg=(\d+)")
_PLACES = "/usr/sbin:/usr/local/sbin"


def tool(name: str) -> str:
    """Where a program of Postfix's is. Raises SystemExit when it is missing."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:{_PLACES}")
    if found is None:
        raise SystemExit(f"{name} is missing: make deps-bench")
    return found


def free_port() -> int:
    """A port of loopback nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


class Sink:
    """A running smtp-sink. count: messages it has taken so far."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self._process, self.port, self.count = process, port, 0
        self._changed = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self._process.stdout is not None
        left = b""
        while data := await self._process.stdout.read(1 << 16):
            left += data
            *whole, left = left.split(b"\r")
            if whole and (found := _COUNT.search(whole[-1])):
                self.count = int(found[1])
                self._changed.set()

    async def until(self, count: int, timeout_s: float) -> None:
        """Wait until it has taken so many. Raises TimeoutError."""
        async with asyncio.timeout(timeout_s):
            while self.count < count:
                self._changed.clear()
                await self._changed.wait()

    async def stop(self) -> None:
        """End it."""
        self._process.terminate()
        await self._process.wait()
        await self._reading


@asynccontextmanager
async def running_sink(backlog: int = 512) -> AsyncIterator[Sink]:
    """An smtp-sink on a free port of loopback."""
    port = free_port()
    user = ["-u", "nobody"] if os.geteuid() == 0 else []
    process = await asyncio.create_subprocess_exec(
        tool("smtp-sink"),
        *user,
        "-c",
        f"127.0.0.1:{port}",
        str(backlog),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    sink = Sink(process, port)
    try:
        await listening(port)
        yield sink
    finally:
        await sink.stop()


async def listening(port: int, timeout_s: float = 30.0) -> None:
    """Wait until somebody listens there. Raises TimeoutError."""
    async with asyncio.timeout(timeout_s):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return
