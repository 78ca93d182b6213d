"""Makes accepted bulks into messages, in the background: a slice of each in turn, none waits for another.

What a slice says is in the words of its way in, whose `Reader` makes messages of it; `wiring` says which. Of
several processes on one database one does this at a time; two at once would do work in vain and no harm.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from postroom.actions import bulks
from postroom.actions.bulks import PutOff
from postroom.actions.context import Context
from postroom.actions.submission import Submission
from postroom.core.bulk import Bulk, BulkSlice
from postroom.engine.turn import Turn
from postroom.errors import PostroomError
from postroom.logs import logger

log = logger("bulks")
BULKS = "bulks"  # the name of the turn
_LOOK_S = 2.0
_PAUSE_S = 0.01  # after each round, so that others' writes come first

Reader = Callable[[Context, Bulk, bytes, BulkSlice], Awaitable[Sequence[Submission | PostroomError]]]
"""The messages of a slice, and an error in place of each that cannot be one. Raises Unavailable, NotFound."""


class BulkFeed:
    """Between `start` and `stop`."""

    def __init__(self, ctx: Context, readers: Mapping[str, Reader], turn: Turn | None = None) -> None:
        """readers: by the way in. turn: whose it is, where other processes could do it as well."""
        self._ctx, self._readers, self._turn = ctx, readers, turn
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, with what is left of former runs. Needs a running loop."""
        if self._task is None:
            if self._turn is not None:
                self._turn.start()
            self._task = asyncio.create_task(self._keep_feeding(), name="bulks")

    async def stop(self) -> None:
        """End; a slice that is being written is written, or is made again."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if self._turn is not None:
            await self._turn.stop()

    async def run_once(self) -> int:
        """Make all that can be made now; how many slices that were. Raises Unavailable."""
        slices, put_off = 0, set[int]()
        while made := await self._round(put_off):
            slices += made
            await asyncio.sleep(_PAUSE_S)
        return slices

    async def _round(self, put_off: set[int]) -> int:
        """A slice of each that is open, but for those put off, which it adds to; how many slices."""
        made = last = 0
        while found := await bulks.open_bulks(self._ctx, after=last):
            for bulk in found:
                last = bulk.bulk_id
                if bulk.bulk_id in put_off:
                    continue
                if await self._step(bulk):
                    made += 1
                else:
                    put_off.add(bulk.bulk_id)
        return made

    async def _step(self, bulk: Bulk) -> bool:
        """Make the next slice of one; False: not now."""
        found = await bulks.next_slice(self._ctx, bulk)
        read = self._readers.get(bulk.origin)
        if found is None or read is None:
            return False
        shared, part = found
        try:
            given = await read(self._ctx, bulk, shared, part)
            await bulks.release(self._ctx, bulk, part, given)
        except PutOff as error:
            log.info("a bulk waits", bulk=bulk.public_id, why=str(error))
            return False
        except PostroomError:
            raise
        except Exception:  # of this one only: the others go on
            log.exception("a bulk cannot be gone on with", bulk=bulk.public_id)
            return False
        return True

    async def _keep_feeding(self) -> None:
        while True:
            if self._turn is not None:
                await self._turn.ours()
            self._ctx.bulk_came.clear()
            try:
                await self.run_once()
            except PostroomError as error:
                log.warning("bulks were put off", error=str(error))
            except Exception:  # were it to end here, accepted mail would wait for ever
                log.exception("bulks failed")
            try:
                async with asyncio.timeout(_LOOK_S):
                    await self._ctx.bulk_came.wait()
            except TimeoutError:
                pass
