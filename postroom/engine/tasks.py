"""Background tasks of one owner: kept while they run, told of when they die, ended together."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

from postroom.logs import logger

log = logger("engine")


class Tasks:
    """What an owner started and nobody awaits. `owner`: for the log when one dies."""

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._running: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._running)

    def spawn(self, work: Coroutine[object, object, None]) -> None:
        """Start it."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._finished)

    async def wait(self, timeout_s: float) -> None:
        """Until all are done, or for so long."""
        if self._running:
            await asyncio.wait(self._running, timeout=timeout_s)

    async def cancel(self) -> None:
        """End what still runs."""
        left = list(self._running)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a task died", owner=self._owner, exc_info=task.exception())
