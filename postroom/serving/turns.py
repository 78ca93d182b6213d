"""Parts that only one of several processes on a data folder may run: whoever comes first, then the next.

The commands' socket and the test inbox belong to one process at a time; a lock that ends with its holder says
whose turn it is. Each process that could tries now and then, so that a dead one is followed within a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from postroom import logs
from postroom.control.lock import Locked
from postroom.errors import Conflict, PostroomError

AGAIN_S = 0.5

log = logs.logger("serve")

Stop = Callable[[], Awaitable[None]]


class Turn:
    """One part. begin: starts it and gives back what stops it; raises Locked, Conflict: another runs it."""

    def __init__(self, what: str, begin: Callable[[], Awaitable[Stop]]) -> None:
        self._what, self._begin = what, begin
        self._end: Stop | None = None
        self._task: asyncio.Task[None] | None = None
        self._trouble = logs.Trouble(log)

    @property
    def ours(self) -> bool:
        """Whether the part runs here."""
        return self._end is not None

    async def start(self) -> None:
        """Try once; if another has it, go on trying until `pass_on`."""
        await self._try()
        if not self.ours:
            self._task = asyncio.create_task(self._wait(), name=self._what)

    async def pass_on(self) -> None:
        """Take it no more; a part that runs goes on until `stop`."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def stop(self) -> None:
        """End the part if it runs here."""
        await self.pass_on()
        end, self._end = self._end, None
        if end is not None:
            await end()

    async def _wait(self) -> None:
        while not self.ours:
            await asyncio.sleep(AGAIN_S)
            await self._try()
        log.info("took over", part=self._what)

    async def _try(self) -> None:
        # Shielded: cut off in the middle, it would leave a part running that nobody stops.
        beginning = asyncio.ensure_future(self._begin())
        try:
            self._end = await asyncio.shield(beginning)
        except asyncio.CancelledError:
            await asyncio.gather(beginning, return_exceptions=True)
            if not beginning.cancelled() and beginning.exception() is None:
                self._end = beginning.result()
            raise
        except (Locked, Conflict):
            return
        except PostroomError as error:
            self._trouble.met(f"{self._what} cannot be begun", error=str(error))
            return
        self._trouble.over(f"{self._what} could be begun")
