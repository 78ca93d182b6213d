"""Outcomes on their way into the database: many in one commit, none forgotten.

While one batch is written the next one gathers, and under load it gathers a little longer, so that the
busier it is the larger they get; the journal has what waits. When the database cannot be written the batch
waits and is tried again; its sessions get no new deliveries meanwhile, because a claim counts until it is
settled.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import msgspec

from postroom.engine.journal import Journal
from postroom.engine.retry import Policy
from postroom.engine.settle import Ended, Settled, settle, unrecordable
from postroom.errors import Unavailable
from postroom.logs import Trouble, logger
from postroom.storage.interface import Store

log = logger("engine")
_MOST = 500
_ENOUGH = 100
_APART_S = 0.01  # from the beginning of one batch to that of the next, unless there is enough
_AGAIN_S = 0.5


class _Item(msgspec.Struct):
    ended: Ended
    done: Callable[[], None]


class Settler:
    """Takes what ended and writes it down."""

    def __init__(
        self, store: Store, policy: Policy, journal: Journal, told: Callable[[Settled], None]
    ) -> None:
        """told: called after each commit with what it did."""
        self._store, self._policy, self._journal, self._told = store, policy, journal, told
        self._items: list[_Item] = []
        self._trouble = Trouble(log)
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._hurry = asyncio.Event()
        self._began_s = float("-inf")
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="settler")

    def put(self, ended: Ended, done: Callable[[], None]) -> None:
        """Settle this; `done` is called after its commit."""
        self._items.append(_Item(ended, done))
        self._idle.clear()
        self._arrived.set()
        if len(self._items) >= _ENOUGH:
            self._hurry.set()

    async def flush(self) -> None:
        """Until everything put so far is written."""
        self._hurry.set()
        await self._idle.wait()

    async def stop(self) -> None:
        """Stop; call `flush` before."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await self._arrived.wait()
            await self._gather()
            batch = self._items[:_MOST]
            ended = [item.ended for item in batch]
            try:
                settled = await self._write(ended)
            except Unavailable as error:
                self._trouble.met("outcomes wait to be written", count=len(batch), error=str(error))
                await asyncio.sleep(_AGAIN_S)
                continue
            self._trouble.over("outcomes are written again")
            del self._items[: len(batch)]
            if settled.unexpected:
                log.warning("outcomes of attempts that were settled before", attempts=settled.unexpected)
            for item in batch:
                _hear(item.done)
            _hear(lambda told=settled: self._told(told))  # type: ignore[misc]  # bound at once
            if not self._items:
                self._arrived.clear()
                self._idle.set()

    async def _gather(self) -> None:
        """Right after a batch: wait for what ends meanwhile. The first after a pause goes at once."""
        loop = asyncio.get_running_loop()
        if self._began_s + _APART_S > loop.time():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(self._began_s + _APART_S):
                    await self._hurry.wait()
        self._hurry.clear()
        self._began_s = loop.time()

    async def _write(self, ended: list[Ended]) -> Settled:
        """Settle these. One that cannot be settled is held for a person and stops none of the others.

        Raises Unavailable.
        """
        try:
            settled = await self._store.write(lambda: settle(ended, self._policy))
        except Unavailable:
            raise
        except Exception as error:
            if len(ended) == 1:
                log.exception("an outcome cannot be settled", attempt=ended[0].attempt_id)
                return await self._hold(ended[0], error)
            total = Settled()
            for one in ended:
                total.add(await self._write([one]))
            return total
        self._settled(ended)
        return settled

    async def _hold(self, ended: Ended, error: Exception) -> Settled:
        held = [unrecordable(ended, error)]
        try:
            settled = await self._store.write(lambda: settle(held, self._policy))
        except Unavailable:
            raise
        except Exception:
            log.exception("an outcome is left to the journal", attempt=ended.attempt_id)
            return Settled()
        self._settled(held)
        return settled

    def _settled(self, ended: list[Ended]) -> None:
        try:
            self._journal.settled(one.attempt_id for one in ended)
        except OSError as error:  # a file too many, which goes at the next start
            log.warning("a journal file could not be removed", error=str(error))


def _hear(hearer: Callable[[], None]) -> None:
    """Tell of a commit; what breaks there must not stop the settling of everything else."""
    try:
        hearer()
    except Exception:
        log.exception("who waits for a settled outcome failed")
