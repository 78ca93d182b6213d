"""Makes blocks of subjects (`storage.subject_blocks`) of the streams that are searched, in the background.

Nobody pays who never searches by subject. Once a stream is searched, all its blocks are made, oldest first,
each of a few thousand messages, with a pause after each so that the mail's own writes come first. For a day
after the last search it is kept up to date. Where several processes make the same blocks, that is work in
vain and no harm.

What a block misses no search finds, so it is made only of messages that nothing can still come between. On
PostgreSQL a message has its number before its commit, and one with a lower number may be seen later. Writing
takes a caller's patience at most (10 s), before which it may have taken its number as long; so what is a
minute old is safe from all but a COMMIT that waits, for a standby perhaps. Such a transaction is seen, and
waited for.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial

from postroom.actions.context import Context
from postroom.errors import PostroomError
from postroom.logs import logger
from postroom.storage import subject_blocks
from postroom.storage.subject_blocks import StreamKey

log = logger("subjects")


@dataclass(frozen=True)
class BlockSettings:
    """size, characters: of a block; the first that is reached counts. The others are seconds.

    age_s: of the youngest message in a block. open_s: no transaction that writes is older.
    """

    size: int = 5000
    characters: int = 1 << 20
    age_s: float = 60.0
    open_s: float = 30.0
    pause_s: float = 0.02
    every_s: float = 60.0
    keep_s: float = 86_400.0


class SubjectBlocks:
    """Between `start` and `stop`."""

    def __init__(
        self, ctx: Context, settings: BlockSettings | None = None, *, on_postgres: bool = False
    ) -> None:
        self._ctx, self._settings, self._on_postgres = ctx, settings or BlockSettings(), on_postgres
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin. Needs a running loop."""
        if self._task is None:
            self._task = asyncio.create_task(self._keep_making(), name="subjects")

    async def stop(self) -> None:
        """End; a block that is being written is written."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def run_once(self) -> int:
        """Make all that can be made now, a block of each stream in turn; how many. Raises Unavailable."""
        asked_s = self._ctx.clock.steady_s() - self._settings.keep_s
        streams, made = list(self._ctx.subjects.since(asked_s)), 0
        while streams:
            streams = [one for one in streams if await self._make(one)]
            made += len(streams)
        return made

    async def _make(self, stream: StreamKey) -> bool:
        """Make the next block of one; False: not now."""
        settings, store = self._settings, self._ctx.store
        # In a snapshot of its own, before that of the messages: what is over then is seen in that.
        if self._on_postgres and await store.read(partial(subject_blocks.writing_for, settings.open_s)):
            return False
        found = await store.read(
            partial(subject_blocks.next_of, stream, settings.size, settings.characters, settings.age_s)
        )
        if found is None:
            return False
        block = await asyncio.to_thread(subject_blocks.pack, found)
        kept = await store.write(partial(subject_blocks.add, stream, block), len(block.subjects))
        await asyncio.sleep(settings.pause_s)
        return kept

    async def _keep_making(self) -> None:
        came = self._ctx.subjects.came
        while True:
            came.clear()
            try:
                await self.run_once()
            except PostroomError as error:
                log.warning("blocks of subjects were put off", error=str(error))
            except Exception:  # were it to end here, searches would be slow for ever
                log.exception("blocks of subjects failed")
            try:
                async with asyncio.timeout(self._settings.every_s):
                    await came.wait()
            except TimeoutError:
                pass
