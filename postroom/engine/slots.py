"""Session slots of one worker: a session is opened only with one.

Where there is one process its own counting is enough. Of many, each takes slots from the database, so that
all together keep within a connection's bound: one short statement before a session is opened, none where a
slot is at hand, and those that were not needed for a second are given back together.
"""

from __future__ import annotations

from typing import Protocol

from postroom.clock import Clock
from postroom.engine.claim import Worker
from postroom.errors import PostroomError
from postroom.ids import ConnectionId
from postroom.storage import slots
from postroom.storage.interface import Store

_KEEP_S = 1.0


class Slots(Protocol):
    """The slots one worker has."""

    async def take(self, connection_id: ConnectionId, most: int) -> int | None:
        """A slot numbered at most so, before connecting; None: all are taken. Raises PostroomError."""

    def give(self, connection_id: ConnectionId, n: int) -> None:
        """Its session is closed."""

    async def look(self, *, everything: bool = False) -> None:
        """Let the others have what is not needed. Raises PostroomError."""


class OwnSlots:
    """Nobody else opens any: the runner's own count is the bound."""

    async def take(self, connection_id: ConnectionId, most: int) -> int | None:
        return 0

    def give(self, connection_id: ConnectionId, n: int) -> None:
        """It was counted by the runner."""

    async def look(self, *, everything: bool = False) -> None:
        """There are no others."""


class SharedSlots:
    """One worker's part of what all processes share."""

    def __init__(self, store: Store, clock: Clock, worker: Worker) -> None:
        self._store, self._clock, self._worker = store, clock, worker
        self._used: set[tuple[ConnectionId, int]] = set()
        self._spare: dict[tuple[ConnectionId, int], float] = {}  # since when
        self._takes = 0  # begun so far
        self._taking = 0
        self._doubtful = False  # the database may have given us one and we did not hear of it

    async def take(self, connection_id: ConnectionId, most: int) -> int | None:
        near = [n for connection, n in self._spare if connection == connection_id and n <= most]
        if near:
            n = min(near)
            del self._spare[connection_id, n]
            self._used.add((connection_id, n))
            return n
        worker = self._worker
        self._takes += 1
        self._taking += 1
        try:
            found = await self._store.write(
                lambda: slots.take(connection_id, worker.worker_id, worker.epoch, most)
            )
        except PostroomError:
            self._doubtful = True
            raise
        finally:
            self._taking -= 1
        if found is not None:
            self._used.add((connection_id, found))
        return found

    def give(self, connection_id: ConnectionId, n: int) -> None:
        self._used.discard((connection_id, n))
        self._spare[connection_id, n] = self._clock.steady_s()

    async def look(self, *, everything: bool = False) -> None:
        await self._clear_doubt()
        now_s = self._clock.steady_s()
        going = {one: since for one, since in self._spare.items() if everything or now_s - since >= _KEEP_S}
        if not going:
            return
        for one in going:
            del self._spare[one]
        try:
            await self._store.write(lambda: slots.give(self._worker.worker_id, sorted(going)))
        except PostroomError:
            self._spare.update(going)
            raise

    async def _clear_doubt(self) -> None:
        if not self._doubtful or self._taking:
            return
        takes = self._takes
        held = await self._store.read(lambda: slots.held_by(self._worker.worker_id))
        if takes != self._takes:  # one of these may be on its way to us: at the next look
            return
        self._doubtful = False
        now_s = self._clock.steady_s()
        for one in held:
            if one not in self._used:
                self._spare.setdefault(one, now_s)
