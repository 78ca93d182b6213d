"""Partitions by day, on PostgreSQL: `contents`, `attempts` and `events`, whose ids carry their day.

Partitions are made a week ahead, at every start and by housekeeping. A new one is made as a table of its own
and then attached, which waits for nobody who reads or writes. There is none for "everything else", which
each new day would have to lock: ids keep inside the days there are (`migrations.first_postgres`). What was
copied from SQLite has small ids and lies in the partition `…_before`.

On SQLite ids have no day: `since` is below all of them.
"""

# ruff: noqa: S608 - only names of our own are put into statements

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache

from postroom.storage.interface import Sql, Work

BITS = 36
AHEAD = 7
PARTITIONED = {"contents": "content_id", "attempts": "attempt_id", "events": "event_id"}

_LOCK = 0x506F_7374_6461_7973  # "Postdays"
_1970 = date(1970, 1, 1)
_TODAY = "SELECT floor(extract(epoch FROM clock_timestamp()) / 86400)::bigint"
_BOUNDS = re.compile(r"FOR VALUES FROM \((MINVALUE|'(-?\d+)')\) TO \('(-?\d+)'\)")


@dataclass(frozen=True, order=True)
class Partition:
    """Ids from `first` up to and without `end`. first None: from the lowest."""

    end: int
    first: int | None
    name: str

    @property
    def day(self) -> int | None:
        """Its day, days since 1970; None: it is not one day's."""
        if self.first is None or self.end - self.first != 1 << BITS:
            return None
        return self.first >> BITS


def first_of(day: int) -> int:
    """The lowest id of a day."""
    return day << BITS


def name_of(table: str, day: int) -> str:
    """The partition of a day."""
    return f"{table}_{_1970 + timedelta(days=day):%Y_%m_%d}"


@lru_cache
def text_of(text: str, table: str, day: int) -> str:
    """The same statement on the partition of a day. It names the table once, behind FROM or UPDATE."""
    return re.sub(rf"\b(FROM|UPDATE) {table}\b", rf"\1 {name_of(table, day)}", text, count=1)


def since(content_id: int) -> int:
    """No attempt and no event of the message with this content has a lower id.

    A day less than the content's, for a clock that was set back.
    """
    return first_of((content_id >> BITS) - 1)


def partitions(table: str) -> Work[list[Partition]]:
    """Those there are, oldest first."""
    rows = yield Sql(
        "SELECT c.relname, pg_get_expr(c.relpartbound, c.oid) FROM pg_inherits i"
        f" JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = '{table}'::regclass"
    )
    found = []
    for name, bounds in rows:
        if (match := _BOUNDS.fullmatch(bounds)) is not None:  # else somebody's own; not ours to touch
            found.append(Partition(int(match[3]), int(match[2]) if match[2] else None, name))
    return sorted(found)


def make() -> Work[list[str]]:
    """Make what lacks from yesterday to a week ahead, by the server's clock; the names of those made."""
    yield Sql("SELECT pg_advisory_xact_lock(:lock)", {"lock": _LOCK})
    rows = yield Sql(_TODAY)
    yesterday, last = rows[0][0] - 1, rows[0][0] + AHEAD
    made: list[str] = []
    for table in PARTITIONED:
        there = yield from partitions(table)
        if not there:
            before = Partition(first_of(yesterday), None, f"{table}_before")
            yield from _attach(table, before)
            made.append(before.name)
        for day in range(yesterday, last + 1):
            first = first_of(day)
            if any((one.first is None or one.first <= first) and first < one.end for one in there):
                continue
            name = name_of(table, day)
            yield from _attach(table, Partition(first_of(day + 1), first, name))
            made.append(name)
    yield Sql("SELECT setval('postroom_days', :day)", {"day": last})
    return made


def _attach(table: str, one: Partition) -> Work[None]:
    first = "MINVALUE" if one.first is None else one.first
    yield Sql(f"CREATE TABLE {one.name} (LIKE {table} INCLUDING DEFAULTS INCLUDING STORAGE)")
    yield Sql(f"ALTER TABLE {table} ATTACH PARTITION {one.name} FOR VALUES FROM ({first}) TO ({one.end})")
