"""Time as a value that is passed in, so that tests can move it.

Wall time is aware UTC or integer microseconds since 1970 (as stored); steady time is seconds of a
clock that counts suspended time where the platform has one (CLOCK_BOOTTIME), for deadlines.
"""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

MICROS = 1_000_000


class Clock(Protocol):
    """Where now comes from."""

    def now_us(self) -> int:
        """Wall time, microseconds since 1970-01-01 UTC."""

    def steady_s(self) -> float:
        """Seconds of a clock that never steps; only differences mean something."""


class SystemClock:
    """The machine's own clocks."""

    def now_us(self) -> int:
        return time.time_ns() // 1000

    def steady_s(self) -> float:
        return time.clock_gettime(_STEADY)


_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def to_datetime(us: int) -> datetime:
    """Microseconds since 1970 as an aware UTC datetime."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)


def to_iso(us: int | None) -> str | None:
    """`2024-01-01T12:00:00Z`: UTC, whole seconds (RFC 3339), or None."""
    return None if us is None else to_datetime(us).isoformat()[:19] + "Z"


_AGE = re.compile(r"([0-9]{1,9})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def moment_us(text: str, now_us: int) -> int:
    """A moment as people write it, in microseconds since 1970: an age like `90m`, `2h` or `3d`, or a date or
    time like `2024-01-31` or `2024-01-31T12:00:00Z`, in UTC unless it says otherwise. Raises ValueError."""
    text = text.strip()
    age = _AGE.fullmatch(text.lower())
    if age is not None:
        return max(0, now_us - int(age[1]) * _SECONDS[age[2]] * MICROS)
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
