"""Times as the product writes and reads them: in the United States' Eastern time, with its offset.

Written `2014-02-17T07:25:01.4178645-05:00`, streams without the fraction. Read from queries as days or times
of that zone, both ends included.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from postroom.clock import MICROS
from postroom.dialects.postmark.errors import ApiError
from postroom.dialects.postmark.fields import Fields

EASTERN = ZoneInfo("America/New_York")
_DATE = re.compile(
    r"(\d{4})-(\d{1,2})-(\d{1,2})"
    r"(?:[T ](\d{1,2}):(\d{1,2})(?::(\d{1,2})(?:\.(\d{1,9}))?)?\s?(Z|[+ -]\d{2}:?\d{2})?)?",
    re.IGNORECASE,
)


def to_wire(at_us: int) -> str:
    """A moment, with the seven digits the product has."""
    second, offset = _second(at_us // MICROS)
    return f"{second}.{at_us % MICROS:06d}0{offset}"


def to_seconds(at_us: int) -> str:
    """A moment without a fraction, as streams have it."""
    return "".join(_second(at_us // MICROS))


def to_day(at_us: int) -> str:
    """The Eastern day of a moment."""
    return f"{datetime.fromtimestamp(at_us // MICROS, UTC).astimezone(EASTERN):%Y-%m-%d}"


def span(text: str) -> tuple[int, int] | None:
    """The first moment of what a text names, and the first one after it; None when it names no time.

    A day is 23 to 25 hours; a time is the second or minute it names.
    """
    found = _DATE.fullmatch(text.strip())
    if found is None:
        return None
    year, month, day, hour, minute, second, fraction, offset = found.groups()
    try:
        begins = datetime(int(year), int(month), int(day), tzinfo=EASTERN)
        if hour is None:
            return _us(begins), _us(begins + timedelta(days=1))
        begins = begins.replace(hour=int(hour), minute=int(minute), second=int(second or 0))
        micros = int(f"{fraction or '':0<6}"[:6])
        at = _us(begins) + micros
        if offset is not None:
            at = _us(begins.replace(tzinfo=UTC)) - _offset_us(offset) + micros
    except (ValueError, OverflowError):
        return None
    if fraction is not None:
        return at, at + 1
    return at, at + (MICROS if second is not None else 60 * MICROS)


def moments(asked: Fields, name: str, code: int) -> tuple[int, int] | None:
    """The span a query names, or None. Raises ApiError(code) for what is no time."""
    text = asked.text(name)
    found = None if text is None else span(text)
    if text is not None and found is None:
        raise ApiError(code, name)
    return found


@lru_cache(maxsize=256)  # what is accepted or shown is mostly of a few seconds
def _second(at_s: int) -> tuple[str, str]:
    """A second, and its offset."""
    local = datetime.fromtimestamp(at_s, UTC).astimezone(EASTERN)
    return f"{local:%Y-%m-%dT%H:%M:%S}", _offset(local)


def _us(moment: datetime) -> int:
    return int(moment.timestamp()) * MICROS


def _offset_us(text: str) -> int:
    if text.upper() == "Z":
        return 0
    digits = text[1:].replace(":", "")  # a `+` may have become a blank on its way
    return (-1 if text[0] == "-" else 1) * (int(digits[:2]) * 3600 + int(digits[2:]) * 60) * MICROS


def _offset(local: datetime) -> str:
    text = f"{local:%z}"
    return f"{text[:3]}:{text[3:]}"
