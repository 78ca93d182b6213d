"""A clock that stands still until a test moves it."""

from __future__ import annotations

from postroom.clock import MICROS

START_US = 1_790_000_000 * MICROS


class FakeClock:
    """Wall and steady time of a test; both move together unless `step` moves the wall alone."""

    def __init__(self, start_us: int = START_US) -> None:
        self._wall_us = start_us
        self._steady_s = 1000.0

    def now_us(self) -> int:
        return self._wall_us

    def steady_s(self) -> float:
        return self._steady_s

    def advance(self, seconds: float) -> None:
        """Time passes."""
        self._wall_us += int(seconds * MICROS)
        self._steady_s += seconds

    def step(self, seconds: float) -> None:
        """Somebody sets the wall clock."""
        self._wall_us += int(seconds * MICROS)
