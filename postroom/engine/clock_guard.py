"""Notices when somebody sets the wall clock forward.

Room under a cap comes back by the wall clock, so an hour's step forward would let an hour's room through
twice. Grants pause for as long as the step was, and for an hour at most: after that everything sent
before it is out of any window, however far the clock was set. A step backward only makes room come back
later.
"""

from __future__ import annotations

from postroom.clock import MICROS, Clock
from postroom.engine.caps import BUCKET_US, HOUR_US
from postroom.logs import logger

log = logger("engine")
_TOLERATED_S = 2.0
_LONGEST_S = (HOUR_US + BUCKET_US) / MICROS


class ClockGuard:
    """Compares the wall clock with the steady one at every look."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._offset_s = self._measure()
        self._until_s = 0.0

    def _measure(self) -> float:
        return self._clock.now_us() / MICROS - self._clock.steady_s()

    def look(self) -> None:
        """Compare; to be called every second or so and before each grant."""
        offset = self._measure()
        step_s = offset - self._offset_s
        self._offset_s = offset
        if step_s > _TOLERATED_S:
            log.warning("the clock was set forward; grants under a cap pause", step_s=round(step_s, 1))
            now_s = self._clock.steady_s()
            self._until_s = min(max(self._until_s, now_s) + step_s, now_s + _LONGEST_S)

    def paused(self) -> bool:
        """Whether grants pause now."""
        self.look()
        return self._clock.steady_s() < self._until_s

    @property
    def pause_left_s(self) -> float:
        """How long they pause from now on."""
        return max(0.0, self._until_s - self._clock.steady_s())
