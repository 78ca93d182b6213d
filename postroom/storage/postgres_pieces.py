"""What one or several units ask at a moment, as the server gets it: one message there and one back.

A *piece* is a statement that was asked once, or by several units side by side, or with several sets of
parameters. Pieces that do not depend on each other go as one statement, each a part of it:

    SELECT (SELECT array_agg(p0) FROM (SELECT …) p0), (SELECT array_agg(p1) FROM p1), …

with what changes rows in its WITH. A round trip costs 0.1 ms of both sides, an `array_agg` next to nothing.
"""

# ruff: noqa: S608 - only statements of our own are put together

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from enum import Enum
from functools import lru_cache
from typing import Any

import msgspec

from postroom.storage.days import PARTITIONED
from postroom.storage.interface import NewIds, Rows, Sql
from postroom.storage.postgres_batch import PARAMETER, Batch, is_select
from postroom.storage.tables import metadata

NOW = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
_NUL, _NUL_SHOWN = "\x00", "\u2400"
_PLACE = re.compile(r"\$(\d+)")


class Back(Enum):
    """What comes back of a piece."""

    ROWS = "rows"  # of its one run
    NUMBERED = "numbered"  # rows that begin with the number of their run, from 1
    ONE_EACH = "one_each"  # a row for each run, in their order
    IDS = "ids"  # one row of lists, of which each asker gets so many
    NOTHING = "nothing"  # alone: whatever it says


class Piece(msgspec.Struct, frozen=True):
    """One statement with `$1` parameters. askers: for each who asked, its runs by their place, or for IDS how
    many of each list."""

    text: str
    arguments: Sequence[object]
    back: Back
    runs: int
    askers: Sequence[Sequence[int]]

    @property
    def changes(self) -> bool:
        """Whether it changes rows."""
        return not is_select(self.text)

    def share(self, found: Sequence[Any]) -> list[Rows]:  # Any: a driver's rows
        """Its rows among those who asked."""
        if self.back is Back.IDS:
            return self._share_ids(found[0])
        if self.back is Back.NOTHING:
            return [found] * len(self.askers)
        of_runs: Sequence[Rows] = [found]
        if self.back is Back.ONE_EACH:
            of_runs = [[row] for row in found]
        elif self.back is Back.NUMBERED:
            shared: list[list[Any]] = [[] for _ in range(self.runs)]
            for row in found:
                shared[row[0] - 1].append(row[1:])
            of_runs = shared
        return [
            of_runs[own[0]] if len(own) == 1 else [row for run in own for row in of_runs[run]]
            for own in self.askers
        ]

    def _share_ids(self, lists: Sequence[Sequence[int]]) -> list[Rows]:
        shared: list[Rows] = []
        at = [0] * len(lists)
        for counts in self.askers:
            shared.append([ids[start : start + n] for ids, start, n in zip(lists, at, counts, strict=True)])
            at = [start + n for start, n in zip(at, counts, strict=True)]
        return shared


def now_piece(askers: int, clock_us: int | None) -> Piece:
    """The server's time; clock_us: what tests say instead."""
    everybody = [(0,)] * askers
    if clock_us is None:
        return Piece(f"SELECT {NOW}", (), Back.ROWS, 1, everybody)
    return Piece("SELECT $1::bigint", (clock_us,), Back.ROWS, 1, everybody)


def ids_piece(asked: Sequence[NewIds]) -> Piece:
    """Numbers for all of them, which ask for the same tables."""
    tables = tuple(table for table, _ in asked[0].counts)
    counts = [[n for _, n in one.counts] for one in asked]
    sums = [sum(column) for column in zip(*counts, strict=True)]
    return Piece(_ids_text(tables), sums, Back.IDS, 1, counts)


@lru_cache
def _ids_text(tables: tuple[str, ...]) -> str:
    lists = [
        f"ARRAY(SELECT {_new_id(table)} FROM generate_series(1, ${number}::bigint))"
        for number, table in enumerate(tables, 1)
    ]
    return f"SELECT {', '.join(lists)}"


def _new_id(table: str) -> str:
    """What the column has as its default."""
    if column := PARTITIONED.get(table):
        return f"postroom_id('{table}_{column}_seq'::regclass)"
    return f"nextval('{table}_{id_column(table)}_seq')"


@lru_cache
def id_column(table: str) -> str:
    """The column of a table that counts up."""
    (column,) = (one.name for one in metadata.tables[table].primary_key.columns if one.autoincrement is True)
    return column


def runs_of(asked: Sequence[Sql]) -> tuple[list[Mapping[str, object]], Sequence[Sequence[int]]]:
    """The parameters of each run, and for each who asked the places of its runs.

    A look that several ask alike is one run.
    """
    first = asked[0]
    runs: list[Mapping[str, object]] = []
    askers: list[Sequence[int]] = []
    if not is_select(first.text):
        for one in asked:
            before = len(runs)
            if isinstance(one.params, dict):
                runs.append(one.params)
            else:
                runs.extend(_sets(one.params))
            askers.append(range(before, len(runs)))
        return runs, askers
    names = numbered(first.text)[1]
    places: dict[tuple[object, ...], int] = {}
    for one in asked:
        own: list[int] = []
        for values in (one.params,) if isinstance(one.params, dict) else _sets(one.params):
            place = places.setdefault(tuple([values[name] for name in names]), len(runs))
            if place == len(runs):
                runs.append(values)
            own.append(place)
        askers.append(own)
    return runs, askers


def _sets(
    params: Mapping[str, object] | Sequence[Mapping[str, object]],
) -> Sequence[Mapping[str, object]]:
    return (params,) if isinstance(params, Mapping) else params


def columns_of(names: Sequence[str], runs: Sequence[Mapping[str, object]]) -> list[list[object]]:
    """The values of each parameter in all runs, as asyncpg takes them."""
    return [_plain_column([run[name] for run in runs]) for name in names]


def _plain_column(values: list[object]) -> list[object]:
    kinds = set(map(type, values))
    if kinds <= _AS_THEY_ARE or (kinds == {str} and _NUL not in "".join(values)):  # type: ignore[arg-type]
        return values
    return [_plain(value) for value in values]


_AS_THEY_ARE = {int, bytes, type(None)}


def single_piece(text: str, run: Sequence[object], askers: Sequence[Sequence[int]], runs: int) -> Piece:
    """A statement with one set of parameters, or with none at all."""
    back = Back.ROWS if is_select(text) or "RETURNING" in text else Back.NOTHING
    return Piece(text, run, back, runs, askers)


def batch_piece(
    made: Batch, columns: Sequence[Sequence[object]], runs: int, askers: Sequence[Sequence[int]]
) -> Piece:
    """A statement with several."""
    back = Back.NOTHING
    if made.numbered:
        back = Back.NUMBERED
    elif "RETURNING" in made.text:
        back = Back.ONE_EACH
    return Piece(made.text, made.arguments(columns), back, runs, askers)


def combined(pieces: Sequence[Piece]) -> tuple[str, list[object]]:
    """Several as one statement, which has one row: for each piece an array of its rows, or NULL; for IDS its
    lists, since the driver reads no array within a row."""
    text = _combined(tuple((one.text, len(one.arguments), one.back) for one in pieces))
    return text, [value for one in pieces for value in one.arguments]


def rows_of(pieces: Sequence[Piece], told: Sequence[Any]) -> list[Sequence[Any]]:  # Any: a driver's row
    """What that row says of each piece."""
    found: list[Sequence[Any]] = []
    at = 0
    for one in pieces:
        columns = len(one.arguments) if one.back is Back.IDS else 1
        found.append([told[at : at + columns]] if one.back is Back.IDS else told[at] or [])
        at += columns
    return found


@lru_cache(maxsize=500)
def _combined(pieces: tuple[tuple[str, int, Back], ...]) -> str:
    shown, changes, before = [], [], 0
    for number, (text, count, back) in enumerate(pieces):
        moved = _moved(text, before)
        before += count
        if back is Back.IDS:
            shown.append(moved.removeprefix("SELECT "))
        elif is_select(text):
            shown.append(f"(SELECT array_agg(p{number}) FROM ({moved}) p{number})")
        else:
            changes.append(f"p{number} AS ({moved})")
            shown.append("NULL" if back is Back.NOTHING else f"(SELECT array_agg(p{number}) FROM p{number})")
    # What nothing is read from runs last, and of those the one that was named last first: the order in which
    # rows are locked should be the order in which they were asked for.
    told = f"WITH {', '.join(reversed(changes))} " if changes else ""
    return f"{told}SELECT {', '.join(shown)}"


def _moved(text: str, by: int) -> str:
    """With the numbers of its parameters so much higher."""
    return _PLACE.sub(lambda one: f"${int(one[1]) + by}", text) if by else text


@lru_cache(maxsize=2000)
def numbered(text: str) -> tuple[str, tuple[str, ...]]:
    """`:name` parameters as `$1`, `$2` …, and their names in that order."""
    names: dict[str, int] = {}

    def replace(found: re.Match[str]) -> str:
        name = found.group(1)
        return found.group(0) if name is None else f"${names.setdefault(name, len(names) + 1)}"

    replaced = PARAMETER.sub(replace, text)
    return replaced, tuple(names)


def _plain(value: object) -> object:
    """As asyncpg takes it: flags are numbers in our tables; no text of PostgreSQL's may hold a NUL, so one
    that came in from outside is stored as the character that shows it."""
    if value.__class__ is str and _NUL in value:
        return value.replace(_NUL, _NUL_SHOWN)
    return int(value) if value.__class__ is bool else value


def arguments(names: Sequence[str], params: Mapping[str, object]) -> list[object]:
    """The values in the order of the names."""
    return [_plain(params[name]) for name in names]
