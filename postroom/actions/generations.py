"""What other processes changed: looks at a generation when it is used, half a second apart at least.

So a change anywhere is known here within that time and the length of a look, and who asks nothing of it makes
no statements. Where one process does all there is nothing to look at.
"""

from __future__ import annotations

import asyncio

from postroom.clock import Clock
from postroom.storage import generations
from postroom.storage.interface import Store

LOOK_EVERY_S = 0.5


class Generation:
    """One generation of a database that other processes change as well. Used on one event loop."""

    def __init__(self, store: Store, clock: Clock, name: str, look_every_s: float = LOOK_EVERY_S) -> None:
        self._store, self._clock, self._name, self._every_s = store, clock, name, look_every_s
        self._looking: asyncio.Task[None] | None = None  # one look for all who ask meanwhile
        self._looked_s = float("-inf")  # when the last look that succeeded began
        self._found = 0

    async def now(self) -> int:
        """As it was less than `look_every_s` ago, or later. Raises Unavailable."""
        asked_s = self._clock.steady_s()
        while asked_s - self._looked_s >= self._every_s:
            if self._looking is None or self._looking.done():
                self._looking = asyncio.create_task(self._look())
                self._looking.add_done_callback(_retrieved)
            await asyncio.shield(self._looking)  # whoever goes away leaves it to the others
        return self._found

    async def _look(self) -> None:
        began_s = self._clock.steady_s()
        self._found = await self._store.read(lambda: generations.read(self._name))
        self._looked_s = began_s


def _retrieved(look: asyncio.Task[None]) -> None:
    if not look.cancelled():
        look.exception()  # nobody waits for it any more: no unhandled error
