"""The figures of the database, asked for at most now and then, however often somebody looks.

An answer is kept for a few seconds, and for a hundred times as long as it took: looking at a queue of many
millions costs at most a hundredth of one core.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from postroom.clock import MICROS, Clock
from postroom.core.message import Purpose
from postroom.storage import figures, pauses
from postroom.storage.figures import LaneDepth, Room
from postroom.storage.interface import Store, Work
from postroom.storage.pauses import Pause

KEPT_S = 5.0
_SHARE = 100.0


@dataclass(frozen=True)
class Figures:
    """As of `at_us`, microseconds since 1970."""

    at_us: int
    lanes: tuple[LaneDepth, ...]
    rooms: tuple[Room, ...]
    pauses: tuple[Pause, ...]


def queue_of(figures: Figures, now_us: int) -> dict[str, object]:
    """What waits, by purpose, as JSON values."""
    found: dict[str, object] = {}
    for purpose in Purpose:
        lanes = [one for one in figures.lanes if one.purpose is purpose]
        first_us = min((one.first_due_us for one in lanes if one.due), default=None)
        found[purpose.value] = {
            "waiting": sum(one.waiting for one in lanes),
            "due": sum(one.due for one in lanes),
            "oldest_s": None if first_us is None else age_s(first_us, now_us),
        }
    return found


def age_s(due_us: int, now_us: int) -> float:
    """For how long it is due."""
    return round(max(0, now_us - due_us) / MICROS, 1)


class FigureBook:
    """Reads figures and keeps them."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock = store, clock
        self._kept: Figures | None = None
        self._until_s = 0.0
        self._asking = asyncio.Lock()

    async def look(self) -> Figures:
        """The figures, a few seconds old at most while the queue is of usual size. Raises Unavailable."""
        async with self._asking:  # who comes meanwhile gets the same answer
            begun_s = self._clock.steady_s()
            if self._kept is None or begun_s >= self._until_s:
                self._kept = await self._store.read(self._read)
                ended_s = self._clock.steady_s()
                self._until_s = ended_s + max(KEPT_S, _SHARE * (ended_s - begun_s))
            return self._kept

    def _read(self) -> Work[Figures]:
        at_us = self._clock.now_us()
        lanes = yield from figures.depths()
        rooms = yield from figures.room()
        paused = yield from pauses.everything()
        return Figures(at_us, tuple(lanes), tuple(rooms), tuple(paused))
