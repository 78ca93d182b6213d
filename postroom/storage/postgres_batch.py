"""Many runs of one statement as one statement: its parameters come as arrays, one row of them a run.

    INSERT INTO t (a, b) VALUES (:a, :b) RETURNING id
    INSERT INTO t (a, b) SELECT q.p1, q.p2 FROM unnest($1::int8[], $2::text[]) … ORDER BY q.run RETURNING id

    SELECT x FROM t WHERE a = :a
    SELECT q.run, s.* FROM unnest(…) AS q CROSS JOIN LATERAL (SELECT x FROM t WHERE a = q.p1) s ORDER BY q.run

One round trip and one plan instead of many. What is not of a shape that surely means the same is left alone.
"""

# ruff: noqa: S608 - only statements of our own are rewritten

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

PARAMETER = re.compile(r"'(?:[^']|'')*'|(?<!:):([A-Za-z_][A-Za-z0-9_]*)")
# With what becomes of a row that is there, unless that needs a parameter too.
_INSERT = re.compile(
    r"INSERT INTO (\w+)\s*\(([\w\s,]+)\)\s*VALUES\s*\(([^()]*)\)"
    r"(\s+RETURNING\s+\w+|\s+ON CONFLICT\s*\(([\w\s,]+)\)\s*DO\s(?:(?!\bRETURNING\b)[^:])*)?\s*",
    re.DOTALL,
)
_UPDATE = re.compile(
    r"UPDATE (\w+)\s+SET\s+((?:(?!\bWHERE\b|\bFROM\b).)*)\s+WHERE\s+((?:(?!\bRETURNING\b).)*)", re.DOTALL
)
_DELETE = re.compile(r"DELETE FROM (\w+)\s+WHERE\s+((?:(?!\bRETURNING\b).)*)", re.DOTALL)
# Of tables partitioned by these. What is compared in a join prunes no partition before each of them is
# locked; the least and the greatest of all runs do. (The array as a whole would too, but every run would look
# all of it up.)
_PARTITION_KEY = re.compile(r"((?:\b\w+\.)?\b(?:attempt_id|content_id|event_id)) = :(\w+)")


# A condition on which no two different sets of values can name one row: each value must be equal.
_EQUAL = re.compile(r"(?:\w+\.)?\w+ = :\w+|[^:]*")


@dataclass(frozen=True)
class Batch:
    """A statement over arrays. names: of the parameters, in order. numbered: rows begin with their run.

    keys: of those, by place, the ones that say which rows change; no two runs may have the same.
    bounded: by place, those whose least and greatest value follow the arrays as parameters.
    once: by place, those that are no array but one value for all runs.
    """

    text: str
    names: tuple[str, ...]
    numbered: bool
    keys: tuple[int, ...] = ()
    bounded: tuple[int, ...] = ()
    once: frozenset[int] = frozenset()

    def fits(self, columns: Sequence[Sequence[object]]) -> bool:
        """Whether runs with these values may be one statement: a row is changed once only in each."""
        if not self.keys:
            return True
        keys = list(zip(*(columns[place] for place in self.keys), strict=True))
        return len(set(keys)) == len(keys)

    def arguments(self, columns: Sequence[Sequence[Any]]) -> list[Any]:  # Any: arrays, then their bounds
        """One array a parameter, of the values in all runs; bounds after them."""
        bounds = [bound(columns[place]) for place in self.bounded for bound in (min, max)]
        if not self.once:
            return [*columns, *bounds]
        given = [one[0] if place in self.once else one for place, one in enumerate(columns)]
        return given + bounds


class Batches:
    """A statement over arrays, in variants.

    What is the same in all runs need be no array: the driver looks at each element of one, and the server
    unpacks it. Which parameters that is depends on the traffic; the variants that come first are kept, and of
    those the one that fits best is used. What says which rows are looked for stays an array: as one value it
    could be mistaken for the better half of a key.
    """

    def __init__(self, text: str, lock: str, types: Mapping[str, str], plain: Batch) -> None:
        """types: of its parameters, as PostgreSQL says. plain: of arrays alone."""
        self._text, self._lock, self._types, self._plain = text, lock, types, plain
        self._variants = {plain.once: plain}
        self._may = () if is_select(text) else [at for at in range(len(plain.names)) if at not in plain.keys]

    @classmethod
    def of(cls, text: str, lock: str, types: Mapping[str, str]) -> Batches | None:
        """None where there is none."""
        plain = batch(text, lock, types)
        return None if plain is None else cls(text, lock, types, plain)

    def for_runs(self, columns: Sequence[Sequence[object]]) -> Batch:
        """The variant for runs with these values."""
        runs = len(columns[0])
        alike = frozenset(place for place in self._may if columns[place].count(columns[place][0]) == runs)
        if len(alike) == len(columns):
            alike -= {0}  # something must say how many runs there are
        found = self._variants.get(alike)
        if found is None:
            if runs >= _SURE_RUNS and len(self._variants) < _MOST_VARIANTS:
                found = self._variants[alike] = self._made(alike)
            else:
                found = max(
                    (one for once, one in self._variants.items() if once <= alike),
                    key=lambda one: len(one.once),
                )
        return found

    def _made(self, once: frozenset[int]) -> Batch:
        made = batch(self._text, self._lock, self._types, once)
        assert made is not None
        return made


_SURE_RUNS, _MOST_VARIANTS = 4, 6


def shape(text: str) -> str:
    """`insert`, `select`, `change` where many runs may be one statement, else nothing."""
    if found := _INSERT.fullmatch(text.strip()):
        into, values, conflict = found[2], found[3], found[5]
        return "insert" if not conflict or _values_of(into, values, conflict) else ""
    if _keys(text):
        return "change"
    return "select" if is_select(text) else ""


@lru_cache(maxsize=2000)
def is_select(text: str) -> bool:
    """Whether it only looks."""
    return text.lstrip().startswith("SELECT")


def batch(text: str, lock: str, types: Mapping[str, str], once: frozenset[int] = frozenset()) -> Batch | None:
    """The statement over arrays; None where there is none. types: of its parameters, as PostgreSQL says.

    once: by place, those that have one value for all runs.
    """
    kind = shape(text)
    names = tuple(types)
    if not kind or not names:
        return None
    several = [(number, name) for number, name in enumerate(names, 1) if number - 1 not in once]
    arrays = ", ".join(f"${number}::{types[name]}[]" for number, name in several)
    columns = ", ".join(f"p{number}" for number, _ in several)
    source = f"unnest({arrays}) WITH ORDINALITY AS q({columns}, run)"
    column_of = {
        name: f"${number}::{types[name]}" if number - 1 in once else f"q.p{number}"
        for number, name in enumerate(names, 1)
    }

    bounds: list[int] = []

    def bounded(where: str) -> str:
        def with_bounds(one: re.Match[str]) -> str:
            bounds.append(names.index(one[2]))
            least = len(names) + 2 * len(bounds) - 1
            kind = types[one[2]]
            return f"{one[0]} AND {one[1]} >= ${least}::{kind} AND {one[1]} <= ${least + 1}::{kind}"

        return _PARTITION_KEY.sub(with_bounds, where)

    def filled(part: str) -> str:
        return PARAMETER.sub(lambda one: column_of[one[1]] if one[1] else one[0], part)

    text = text.strip()
    if kind == "insert":
        found = _INSERT.fullmatch(text)
        assert found is not None
        table, into, values, rest, conflict = found.groups()
        made = f"INSERT INTO {table} ({into}) SELECT {filled(values)} FROM {source} ORDER BY q.run"
        unique = _values_of(into, values, conflict) if conflict else ()
        keys = tuple(names.index(name) for name in unique)
        return Batch(made + (rest or ""), names, False, keys, (), once)
    if kind == "select":
        look = filled(bounded(text)) + lock
        made = f"SELECT q.run, s.* FROM {source} CROSS JOIN LATERAL ({look}) s ORDER BY q.run"
        return Batch(made, names, True, (), tuple(bounds))
    keys = tuple(names.index(name) for name in _keys(text))
    if found := _UPDATE.fullmatch(text):
        table, values, where = found.groups()
        made = f"UPDATE {table} SET {filled(values)} FROM {source} WHERE {filled(bounded(where))}"
        return Batch(made, names, False, keys, tuple(bounds), once)
    if found := _DELETE.fullmatch(text):
        table, where = found.groups()
        made = f"DELETE FROM {table} USING {source} WHERE {filled(bounded(where))}"
        return Batch(made, names, False, keys, tuple(bounds), once)
    return None


def _values_of(into: str, values: str, columns: str) -> tuple[str, ...]:
    """The parameters of these columns of an INSERT; nothing where one gets something else."""
    given = dict(zip(_words(into), _words(values), strict=True))
    found = [PARAMETER.fullmatch(given.get(one, "")) for one in _words(columns)]
    return tuple(one[1] for one in found if one) if all(found) else ()


def _words(text: str) -> list[str]:
    return [one.strip() for one in text.split(",")]


def _keys(text: str) -> tuple[str, ...]:
    """The parameters that say which row an UPDATE or DELETE changes; nothing where that is not certain."""
    text = text.strip()
    found = _UPDATE.fullmatch(text) or _DELETE.fullmatch(text)
    if found is None:
        return ()
    where = found.groups()[-1]
    if any(not _EQUAL.fullmatch(one.strip()) for one in re.split(r"\sAND\s", where)):
        return ()
    return tuple(name for name in PARAMETER.findall(where) if name)
