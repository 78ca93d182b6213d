"""How many requests a key may make in a minute: an exact sliding window of one-second slots.

It counts in memory, one limiter per process: it protects this process, it is not a quota that is sold.
A refused request does not count.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable
from dataclasses import dataclass, field

from postroom.clock import MICROS, Clock

WINDOW_S = 60
MOST_KEYS = 100_000


@dataclass(frozen=True)
class Allowance:
    """What a key has left. reset_unix: when the oldest counted request leaves the window, unix seconds.

    `retry_after_s` is 0 for a request that may go on, else whole seconds to wait.
    """

    limit: int
    remaining: int
    reset_unix: int
    retry_after_s: int = 0

    def headers(self) -> dict[str, str]:
        """X-RateLimit-Limit, -Remaining and -Reset."""
        return {
            "X-RateLimit-Limit": str(self.limit),
            "X-RateLimit-Remaining": str(self.remaining),
            "X-RateLimit-Reset": str(self.reset_unix),
        }


@dataclass
class _Window:
    total: int = 0
    slots: deque[list[int]] = field(default_factory=deque)  # [second, requests], oldest first


class RateLimiter:
    """Requests of each key in the last minute."""

    def __init__(self, clock: Clock, per_minute: int) -> None:
        """per_minute: 1 or more; where there is no limit there is no limiter."""
        self._clock, self._limit = clock, per_minute
        self._windows: OrderedDict[Hashable, _Window] = OrderedDict()

    def take(self, key: Hashable) -> Allowance:
        """Count one request of this key, if it has one left."""
        second = int(self._clock.steady_s())
        window = self._windows.get(key)
        if window is None:
            window = self._windows[key] = _Window()
            if len(self._windows) > MOST_KEYS:
                self._windows.popitem(last=False)
        else:
            self._windows.move_to_end(key)
        self._forget(window, second)
        slots = window.slots
        allowed = window.total < self._limit
        if allowed:
            window.total += 1
            if slots and slots[-1][0] == second:
                slots[-1][1] += 1
            else:
                slots.append([second, 1])
        wait_s = slots[0][0] + WINDOW_S - second
        reset = self._clock.now_us() // MICROS + wait_s
        return Allowance(self._limit, self._limit - window.total, reset, 0 if allowed else wait_s)

    def wait_s(self, key: Hashable) -> int:
        """How long until this key has one left, without counting; 0: it has."""
        window, second = self._windows.get(key), int(self._clock.steady_s())
        if window is None:
            return 0
        self._forget(window, second)
        return window.slots[0][0] + WINDOW_S - second if window.total >= self._limit else 0

    @staticmethod
    def _forget(window: _Window, second: int) -> None:
        while window.slots and window.slots[0][0] <= second - WINDOW_S:
            window.total -= window.slots.popleft()[1]


def limiter(clock: Clock, setting: int | None, documented: int) -> RateLimiter | None:
    """What `api_rate_per_minute` means: None: the figure the API documents; 0: no limit."""
    per_minute = documented if setting is None else setting
    return RateLimiter(clock, per_minute) if per_minute else None
