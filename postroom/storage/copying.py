"""Carrying every row from one database into another, slice by slice: the statements, for both databases.

A table is read in the order of its key. What a slice wrote and how far it got are one commit on the target
(rows `copy` and `copy:TABLE` of `instance`), so a copy that was cut off goes on where it was. Content is
compared by sums of hashes of whole rows, which do not depend on an order that two databases may see
differently.

What is bound to one database is left out: whose turn it is, who holds a session, how the schema stands.
"""

# ruff: noqa: S608 - only names of our own tables are put into statements

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
from sqlalchemy import Table, Text

from postroom.storage.days import BITS, PARTITIONED
from postroom.storage.interface import Rows, Sql, Work, now
from postroom.storage.migrations import FLOOR
from postroom.storage.tables import metadata

ROWS = 2000
BYTES = 16 << 20
COPY, MOVED = "copy", "moved"  # rows of `instance`: on the target while it is filled, on the source since
_SIZES = {
    "contents": "LENGTH(body)",
    "bulk_slices": "LENGTH(body)",
    "bulks": "LENGTH(shared)",
    "subject_blocks": "LENGTH(grams) + LENGTH(subjects)",
    "templates": "COALESCE(LENGTH(html), 0) + COALESCE(LENGTH(text), 0)",
}
_OWN = (COPY, MOVED, FLOOR)
_BOUND = frozenset({"leases", "processes", "slots"})
_NUL, _NUL_SHOWN = "\x00", "\u2400"
_encode = msgspec.msgpack.Encoder().encode

TABLES: tuple[Table, ...] = tuple(
    table for name, table in sorted(metadata.tables.items()) if name not in _BOUND
)


@dataclass(frozen=True)
class Progress:
    """How far a table got: its key last copied, how many rows, the sum of their hashes."""

    after: tuple[Any, ...] | None = None  # Any: integers, texts and bytes
    rows: int = 0
    digest: int = 0
    whole: bool = False


def digest(rows: Rows) -> int:
    """The sum of the rows' hashes. A NUL counts as the character that PostgreSQL stores for it."""
    total = 0
    for row in rows:
        shown = [one.replace(_NUL, _NUL_SHOWN) if one.__class__ is str else one for one in row]
        total += int.from_bytes(hashlib.blake2b(_encode(shown), digest_size=16).digest())
    return total & ((1 << 128) - 1)


def add(a: int, b: int) -> int:
    """Of two sets of rows together."""
    return (a + b) & ((1 << 128) - 1)


# --- reading a table -----------------------------------------------------------------------------------


def _keys(table: Table) -> list[str]:
    return [column.name for column in table.primary_key.columns]


def is_ordered_alike(table: Table) -> bool:
    """Whether both databases see its key in one order: texts each of them sorts in its own."""
    return not any(isinstance(column.type, Text) for column in table.primary_key.columns)


def _where(
    table: Table, after: Sequence[Any] | None, last: Sequence[Any] | None
) -> tuple[str, dict[str, Any]]:
    keys = _keys(table)
    parts: list[str] = []
    params: dict[str, Any] = {}
    for name, sign, values in (("after", ">", after), ("last", "<=", last)):
        if values is not None:
            names = [f"{name}_{number}" for number in range(len(keys))]
            parts.append(f"({', '.join(keys)}) {sign} ({', '.join(':' + one for one in names)})")
            params.update(zip(names, values, strict=True))
    if table.name == "instance":
        parts += [f"name NOT IN ({', '.join(repr(one) for one in _OWN)})", "name NOT LIKE 'copy:%'"]
    return (f" WHERE {' AND '.join(parts)}" if parts else ""), params


def read(
    table: Table, after: Sequence[Any] | None, limit: int = 0, last: Sequence[Any] | None = None
) -> Work[Rows]:
    """The next rows after a key, in its order, ROWS if not `limit`; with `last`, up to that key."""
    limit = limit or ROWS
    if table.name in _SIZES and last is None:
        limit = yield from _fitting(table, after, limit)
    where, params = _where(table, after, last)
    columns = ", ".join(column.name for column in table.columns)
    keys = ", ".join(_keys(table))
    rows = yield Sql(
        f"SELECT {columns} FROM {table.name}{where} ORDER BY {keys} LIMIT :limit", {**params, "limit": limit}
    )
    return [tuple(row) for row in rows]


def _fitting(table: Table, after: Sequence[Any] | None, limit: int) -> Work[int]:
    """How many large rows are within BYTES; one at least."""
    where, params = _where(table, after, None)
    keys, size = ", ".join(_keys(table)), _SIZES[table.name]
    rows = yield Sql(
        f"SELECT {size} FROM {table.name}{where} ORDER BY {keys} LIMIT :limit",
        {**params, "limit": limit},
    )
    total = 0
    for number, (size,) in enumerate(rows):
        total += size
        if total > BYTES:
            return max(1, number)
    return limit


def key_of(table: Table, row: Sequence[Any]) -> tuple[Any, ...]:
    """The key of a row as `read` gives it."""
    names = [column.name for column in table.columns]
    return tuple(row[names.index(key)] for key in _keys(table))


def count(table: Table) -> Work[int]:
    """How many rows there are to carry."""
    where, params = _where(table, None, None)
    rows = yield Sql(f"SELECT COUNT(*) FROM {table.name}{where}", params)
    found: int = rows[0][0]
    return found


def first_filled() -> Work[str | None]:
    """A table that holds anything; None: there is nothing in the database."""
    for table in TABLES:
        if (yield from read(table, None, 1)):
            return table.name
    return None


# --- writing it ----------------------------------------------------------------------------------------


def write(table: Table, rows: Rows, progress: Progress) -> Work[None]:
    """One slice, and that the table is now so far."""
    if rows:
        names = [column.name for column in table.columns]
        values = ", ".join(f":{name}" for name in names)
        yield Sql(
            f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({values})",
            [dict(zip(names, row, strict=True)) for row in rows],
        )
    yield from put(f"{COPY}:{table.name}", _written(progress))


def _written(progress: Progress) -> dict[str, Any]:
    return {
        "after": None if progress.after is None else [_noted(one) for one in progress.after],
        "rows": progress.rows,
        "digest": f"{progress.digest:032x}",
        "whole": progress.whole,
    }


def _noted(part: object) -> object:
    """A part of a key as JSON can hold it."""
    return {"hex": part.hex()} if isinstance(part, bytes) else part


def _read_back(part: Any) -> Any:
    return bytes.fromhex(part["hex"]) if isinstance(part, dict) else part


def progress_of(table: Table) -> Work[Progress]:
    """How far a former run got."""
    found = yield from get(f"{COPY}:{table.name}")
    if found is None:
        return Progress()
    after = None if found["after"] is None else tuple(_read_back(one) for one in found["after"])
    return replace(
        Progress(), after=after, rows=found["rows"], digest=int(found["digest"], 16), whole=found["whole"]
    )


def get(name: str) -> Work[dict[str, Any] | None]:
    """A note in `instance`."""
    rows = yield Sql("SELECT value FROM instance WHERE name = :name", {"name": name})
    return json.loads(rows[0][0]) if rows else None


def put(name: str, value: dict[str, Any]) -> Work[None]:
    """Write a note."""
    yield Sql(
        "INSERT INTO instance (name, value) VALUES (:name, :value)"
        " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        {"name": name, "value": json.dumps(value)},
    )


def forget(name: str) -> Work[None]:
    """Remove a note."""
    yield Sql("DELETE FROM instance WHERE name = :name", {"name": name})


def begin(note: dict[str, Any]) -> Work[None]:
    """An empty target is filled from now on."""
    yield from put(COPY, {**note, "at": (yield from now())})


def finish() -> Work[None]:
    """It is filled, and may be served."""
    yield Sql("DELETE FROM instance WHERE name = :name OR name LIKE 'copy:%'", {"name": COPY})


# --- what counts up ------------------------------------------------------------------------------------


def counted() -> list[tuple[str, str]]:
    """Tables whose key counts up, and that key."""
    return [
        (table.name, column.name)
        for table in TABLES
        for column in table.primary_key.columns
        if column.autoincrement is True
    ]


def sqlite_counters() -> Work[dict[str, int]]:
    """The highest number each table ever gave out."""
    rows = yield Sql("SELECT name, seq FROM sqlite_sequence")
    found = {row[0]: row[1] for row in rows}
    for table, key in counted():
        rows = yield Sql(f"SELECT COALESCE(MAX({key}), 0) FROM {table}")
        found[table] = max(found.get(table, 0), rows[0][0])
    return found


def set_sqlite_counters(found: dict[str, int]) -> Work[None]:
    """Numbers go on after these."""
    for table in metadata.sorted_tables:
        if table.name in found and table.dialect_options["sqlite"]["autoincrement"]:
            params = {"name": table.name, "seq": found[table.name]}
            yield Sql("DELETE FROM sqlite_sequence WHERE name = :name", {"name": table.name})
            yield Sql("INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :seq)", params)


def postgres_counters() -> Work[dict[str, int]]:
    """The same; of tables by day, with today's day above."""
    found = {}
    for table, key in counted():
        rows = yield Sql(f"SELECT COALESCE(pg_sequence_last_value('{table}_{key}_seq'::regclass), 0)")
        last = rows[0][0]
        if table in PARTITIONED:
            rows = yield Sql("SELECT floor(extract(epoch FROM clock_timestamp()) / 86400)::bigint")
            last |= rows[0][0] << BITS
        rows = yield Sql(f"SELECT COALESCE(MAX({key}), 0) FROM {table}")
        found[table] = max(last, rows[0][0])
    return found


def set_postgres_counters(found: dict[str, int]) -> Work[None]:
    """Numbers go on after these; of tables by day, what is below the day."""
    for table, key in counted():
        last = found.get(table, 0)
        if table in PARTITIONED:
            last = last & ((1 << BITS) - 1) if last >> BITS else 0
        if last:
            yield Sql(f"SELECT setval('{table}_{key}_seq', :last)", {"last": last})


def others_connected() -> Work[int]:
    """Sessions of other Postroom processes on a PostgreSQL database."""
    rows = yield Sql(
        "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name = 'postroom' AND pid <> pg_backend_pid()"
    )
    found: int = rows[0][0]
    return found
