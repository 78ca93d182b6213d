"""The pulse of a running `serve`: once a second, how late the event loop is and what was counted.

From a minute of these come rates (deliveries a second) and the worst lag. Everything runs on one loop, so a
loop that is late delays everybody: the lag is the first thing to look at when all is slow.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

EVERY_S = 1.0
KEPT = 61  # beats: the spans of a whole minute


@dataclass(frozen=True)
class Beat:
    """One look: when (steady seconds), how late, and the running totals then."""

    at_s: float
    lag_s: float
    sums: Mapping[str, float]


class Pulse:
    """Beats between `start` and `stop`."""

    def __init__(
        self, sums: Callable[[], Mapping[str, float]], time_s: Callable[[], float] | None = None
    ) -> None:
        """sums: running totals by name. time_s: steady seconds; the event loop's own if not given."""
        self._sums, self._time_s = sums, time_s
        self._beats: deque[Beat] = deque(maxlen=KEPT)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin. Needs a running loop."""
        if self._task is None:
            self._time_s = self._time_s or asyncio.get_running_loop().time
            self.beat(0.0)
            self._task = asyncio.create_task(self._run(), name="pulse")

    async def stop(self) -> None:
        """End."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def beat(self, lag_s: float) -> None:
        """Look once."""
        assert self._time_s is not None
        self._beats.append(Beat(self._time_s(), max(0.0, lag_s), self._sums()))

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            wanted_s = loop.time() + EVERY_S
            await asyncio.sleep(EVERY_S)
            self.beat(loop.time() - wanted_s)

    @property
    def worst_lag_s(self) -> float:
        """The longest a timer was late within the last minute."""
        return max((one.lag_s for one in self._beats), default=0.0)

    def rates(self, span_s: float) -> dict[str, float]:
        """A second, over the last `span_s` seconds or as far back as there are beats; 0 before the second."""
        newest = self._beats[-1] if self._beats else None
        if newest is None:
            return dict.fromkeys(self._sums(), 0.0)
        since = next(one for one in self._beats if newest.at_s - one.at_s <= span_s * 1.05)
        took_s = newest.at_s - since.at_s
        return {
            name: (count - since.sums[name]) / took_s if took_s > 0 else 0.0
            for name, count in newest.sums.items()
        }
