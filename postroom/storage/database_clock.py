"""The database's time, for processes that share one: every machine means the same by an hour.

It is this machine's steady clock plus an offset. Each look at the server's clock says between which two
values the true offset lies; ours is kept while it lies there, so that the way to the server never looks like
a clock that was set. A value outside is one that was.
"""

from __future__ import annotations

from postroom.clock import MICROS, Clock
from postroom.storage.interface import Store, now

_LOOKS = 3


class DatabaseClock:
    """Implements clock.Clock. `measure` it before its first use and now and then."""

    def __init__(self, own: Clock) -> None:
        self._own = own
        self.steady_s = own.steady_s  # asked twenty times for each message
        self._offset_us = own.now_us() - round(own.steady_s() * MICROS)
        self._measured = False

    def now_us(self) -> int:
        return round(self._own.steady_s() * MICROS) + self._offset_us

    def agrees(self, before_s: float, at_us: int, after_s: float) -> bool:
        """Whether the server's clock may have said `at_us` between these two moments of the steady one."""
        low_us, high_us = at_us - after_s * MICROS, at_us - before_s * MICROS
        return self._measured and low_us - 1 <= self._offset_us <= high_us + 1

    def set_by(self, before_s: float, at_us: int, after_s: float) -> None:
        """The server's clock said `at_us` between these two moments: take the middle if ours disagrees."""
        if not self.agrees(before_s, at_us, after_s):
            self._offset_us = round(at_us - (before_s + after_s) / 2 * MICROS)
            self._measured = True


async def measure(store: Store, clock: DatabaseClock) -> None:
    """Look at the server's clock a few times and go by the quickest answer. Raises Unavailable."""
    looks: list[tuple[float, float, int, float]] = []
    for _ in range(_LOOKS):
        before_s = clock.steady_s()
        at_us = await store.read(now)
        after_s = clock.steady_s()
        looks.append((after_s - before_s, before_s, at_us, after_s))
    _, before_s, at_us, after_s = min(looks)
    clock.set_by(before_s, at_us, after_s)
