"""Accepting on a TCP socket that several processes share, so that each gets its part.

asyncio and uvloop accept until nobody waits any more: of eight connections that come at once the process that
wakes first takes most, and keeps them as long as their clients do. Here one is taken at a time, and who has
more of them than another process gives that one a moment to be quicker. How many each has stands in memory
that all of them share.
"""

from __future__ import annotations

import array
import asyncio
import mmap
import os
import socket
import tempfile
from collections.abc import Callable, Sized
from dataclasses import dataclass

from postroom.logs import Trouble, logger

NOBODY = 2**31 - 1  # of a process that accepts nothing now
_MOMENT_S = 0.002
_TOLD_EVERY_S = 0.5
_REST_S = 0.5
_WORD = array.array("i").itemsize

log = logger("serve")


def shared_counts(processes: int, listeners: int) -> int:
    """A descriptor of memory for so many; whoever inherits it makes `Shares` of it."""
    size = processes * listeners * _WORD
    with tempfile.TemporaryFile() as file:
        file.write(array.array("i", [NOBODY] * (processes * listeners)).tobytes())
        file.truncate(size)
        file.flush()
        return os.dup(file.fileno())


class Shares:
    """How many connections each process has of each listener. mine: the number of this process, from 0 on."""

    def __init__(self, descriptor: int, processes: int, mine: int) -> None:
        self._counts = memoryview(mmap.mmap(descriptor, 0)).cast("i")
        self._processes, self.mine = processes, mine

    def tell(self, listener: int, count: int, process: int | None = None) -> None:
        """So many it is now, of this process or another."""
        self._counts[listener * self._processes + (self.mine if process is None else process)] = count

    def is_ahead(self, listener: int, count: int) -> bool:
        """Whether another process has fewer, by more than one."""
        first = listener * self._processes
        return min(self._counts[first : first + self._processes]) + 1 < count

    def leave(self, process: int) -> None:
        """A process is gone, or takes nothing more."""
        for listener in range(len(self._counts) // self._processes):
            self.tell(listener, NOBODY, process)


@dataclass(frozen=True)
class Share:
    """One listener's counts, among those of all."""

    shares: Shares
    listener: int

    def tell(self, count: int) -> None:
        """So many connections this process has now."""
        self.shares.tell(self.listener, count)

    def is_ahead(self, count: int) -> bool:
        """Whether another process has fewer, by more than one."""
        return self.shares.is_ahead(self.listener, count)


class SharedListener:
    """Listens from the start on, with what is used of `asyncio.Server`. The socket is ours to close.

    open_now: the connections that are open.
    """

    def __init__(
        self,
        protocol: Callable[[], asyncio.BaseProtocol],
        listener: socket.socket,
        open_now: Sized,
        share: Share,
    ) -> None:
        self._protocol, self._listener, self._open, self._share = protocol, listener, open_now, share
        self._trouble = Trouble(log)
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._accept(), name="accept"),
            loop.create_task(self._tell(), name="tell of connections"),
        ]

    def close(self) -> None:
        """Accept no more; connections that are open stay."""
        for task in self._tasks:
            task.cancel()
        self._share.tell(NOBODY)

    async def wait_closed(self) -> None:
        """Until nothing is being accepted."""
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._listener.close()

    async def _tell(self) -> None:
        while True:
            self._share.tell(len(self._open))
            await asyncio.sleep(_TOLD_EVERY_S)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._share.tell(len(self._open))
            if self._share.is_ahead(len(self._open)):
                await asyncio.sleep(_MOMENT_S)
            try:
                connection, _ = await loop.sock_accept(self._listener)
            except OSError as error:  # no descriptor left, for example
                self._trouble.met("cannot accept a connection", error=str(error))
                await asyncio.sleep(_REST_S)
                continue
            self._trouble.over("connections are accepted again")
            try:
                await loop.connect_accepted_socket(self._protocol, connection)
            except OSError as error:
                connection.close()
                log.debug("a connection broke as it was accepted", error=str(error))
            except BaseException:
                connection.close()
                raise
