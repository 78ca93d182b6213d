"""Notices when somebody sets the wall clock.

Room under a cap comes back by the wall clock, so an hour's step forward would let an hour's room through
twice. Grants pause for as long as the step was, and for an hour at most: after that everything sent
before it is out of any window, however far the clock was set. A step backward only makes room come back
later. What else a step means is `clock_steps`' business: this measures, and keeps each step until taken.
"""

from __future__ import annotations

from dataclasses import dataclass

from postroom.clock import MICROS, Clock
from postroom.engine.caps import BUCKET_US, HOUR_US
from postroom.logs import logger

log = logger("engine")
_FORWARD_S = 0.2  # less than the look at two clocks may be apart on a busy machine
_BACKWARD_S = 1.0  # less makes nothing wait that anybody would notice; a leap second may be such a step
_LOUD_S = 2.0
_LONGEST_S = (HOUR_US + BUCKET_US) / MICROS
_LOOKS = 5
_CLOSE_S = 0.001


@dataclass(frozen=True)
class Step:
    """The wall clock was set: what it would have said, and by how much it was moved. Microseconds."""

    before_us: int
    by_us: int


def counts(by_us: int) -> bool:
    """Whether a difference between the clocks is a step and not the noise of looking at them."""
    return not -_BACKWARD_S * MICROS <= by_us <= _FORWARD_S * MICROS


class ClockGuard:
    """Compares the wall clock with the steady one at every look."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._offset_us = self._measure()
        self.paused_until_s = 0.0  # by the steady clock
        self._steps: list[Step] = []

    def latest_us(self) -> int:
        """What the clock may say at most, unless it was set since the last look."""
        return round(self._clock.steady_s() * MICROS) + self._offset_us + round(_FORWARD_S * MICROS)

    @property
    def offset_us(self) -> int:
        """Wall minus steady time as last known: the same until somebody sets the wall clock."""
        return self._offset_us

    def _measure(self) -> int:
        """Of some looks the one that was least disturbed: the two clocks cannot be read at once."""
        best, gap_s = 0, float("inf")
        for _ in range(_LOOKS):
            before_s = self._clock.steady_s()
            wall_us = self._clock.now_us()
            after_s = self._clock.steady_s()
            if after_s - before_s < gap_s:
                best, gap_s = wall_us - round(after_s * MICROS), after_s - before_s
            if gap_s < _CLOSE_S:
                break
        return best

    def look(self) -> None:
        """Compare; to be called every second or so and before each grant.

        Small differences add up until they count, so that many small steps are not overlooked.
        """
        offset_us = self._measure()
        by_us = offset_us - self._offset_us
        if counts(by_us):
            self._offset_us = offset_us
            self._note(Step(self._clock.now_us() - by_us, by_us))

    def was_set(self, step: Step) -> None:
        """The clock was set before this guard began to look."""
        self._note(step)

    def _note(self, step: Step) -> None:
        step_s = step.by_us / MICROS
        self._steps.append(step)
        if step_s > 0:
            now_s = self._clock.steady_s()
            self.pause_until(max(self.paused_until_s, now_s) + step_s)
            if step_s > _LOUD_S:
                log.warning("the clock was set forward; grants under a cap pause", step_s=round(step_s, 1))
        else:
            log.warning("the clock was set back; what waits keeps its waits", step_s=round(step_s, 1))

    def pause_until(self, until_s: float) -> None:
        """Grants pause until then by the steady clock, or as long as it can make a difference."""
        longest_s = self._clock.steady_s() + _LONGEST_S
        self.paused_until_s = max(self.paused_until_s, min(until_s, longest_s))

    def take_steps(self) -> list[Step]:
        """The steps noticed since this was last asked."""
        steps, self._steps = self._steps, []
        return steps

    def paused(self) -> bool:
        """Whether grants pause now."""
        self.look()
        return self._clock.steady_s() < self.paused_until_s

    @property
    def pause_left_s(self) -> float:
        """How long they pause from now on."""
        return max(0.0, self.paused_until_s - self._clock.steady_s())
