"""When PostgreSQL's plans are made anew, and which day statements may name so that none is needed."""

from __future__ import annotations

from typing import Any

from postroom.storage import days

# Where a table is nearly empty one index is as good as another, and the server keeps the plan it made then
# until the table is analyzed, a minute later or more: looking a row up by the account alone reads all of it.
# So a session's plans are made anew after this many transactions, and then each time it has had so many times
# as many; and each time all of this process have changed so many times as many rows, which may be sooner.
ANEW, ANEW_TIMES = 25, 4
ANEW_ROWS = 200


class Growth:
    """What all connections of a process know of the tables.

    rows: how many they have changed, roughly. day: the newest of which an attempt was numbered and which has
    partitions of its own; 0: none that is known.
    """

    def __init__(self) -> None:
        self.rows = self.day = self._looked = 0

    def look_again(self) -> None:
        """A partition that was there is not."""
        self.day = self._looked = 0

    async def numbered(self, day: int, driver: Any) -> None:
        """An attempt has a number of this day. A clock that was wrong may have left it without partitions."""
        if day > self._looked:
            there = [f"to_regclass('{days.name_of(table, day)}') IS NOT NULL" for table in days.PARTITIONED]
            if await driver.fetchval(f"SELECT {' AND '.join(there)}"):
                self.day = day
            self._looked = max(self._looked, day)


class PlansAge:
    """How old the plans of one session are."""

    def __init__(self, growth: Growth) -> None:
        self._growth, self._rows_then = growth, growth.rows  # when they were made
        self._begun, self._anew_at = 0, ANEW

    def begun(self) -> None:
        """It begins a transaction."""
        self._begun += 1

    @property
    def are_old(self) -> bool:
        """Whether they are to be made anew."""
        grown = max(ANEW_ROWS, ANEW_TIMES * self._rows_then)
        return self._begun >= self._anew_at or self._growth.rows >= grown

    def thrown_away(self) -> None:
        """They are made anew from here on."""
        if self._begun >= self._anew_at:
            self._anew_at *= ANEW_TIMES
        self._rows_then = self._growth.rows
