"""Every column that holds something sealed, and what a rotation of the key file does with them.

A new sealed column is one more row of `COLUMNS`; a test finds one that is missing. A sealed value names its
key in its bytes 2 to 5 (`postroom.keyring`), so that SQL can count by it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, FromClause, LargeBinary, and_, func, literal, select, tuple_, update
from sqlalchemy.sql.base import Executable
from sqlalchemy.sql.schema import Column, Table

from postroom.keyring import KeyRing
from postroom.storage.interface import Work
from postroom.storage.tables import (
    connection_secrets,
    connections,
    dkim_keys,
    instance_keys,
    server_secrets,
)

INSTANCE_KEY_FIELD = "key"
DKIM_KEY_FIELD = "private"
_SLICE = 500


@dataclass(frozen=True)
class SealedColumn:
    """One sealed column. `uid` and `field`: with the table's name, the place its values are sealed for."""

    column: Column[bytes]
    keys: tuple[Column[Any], ...]  # of a row; Any: integers and texts
    uid: Column[bytes]
    field: ColumnElement[str]
    rows: FromClause

    @property
    def table(self) -> Table:
        """Where it stands."""
        return self.column.table


COLUMNS = (
    SealedColumn(
        connection_secrets.c.sealed,
        (connection_secrets.c.connection_id, connection_secrets.c.field),
        connections.c.uid,
        connection_secrets.c.field,
        connection_secrets.join(
            connections,
            and_(
                connections.c.account_id == connection_secrets.c.account_id,
                connections.c.connection_id == connection_secrets.c.connection_id,
            ),
        ),
    ),
    SealedColumn(
        server_secrets.c.sealed,
        (server_secrets.c.server_id, server_secrets.c.field),
        server_secrets.c.uid,
        server_secrets.c.field,
        server_secrets,
    ),
    SealedColumn(
        instance_keys.c.sealed,
        (instance_keys.c.kind, instance_keys.c.key_id),
        instance_keys.c.uid,
        literal(INSTANCE_KEY_FIELD),
        instance_keys,
    ),
    SealedColumn(
        dkim_keys.c.sealed, (dkim_keys.c.key_id,), dkim_keys.c.uid, literal(DKIM_KEY_FIELD), dkim_keys
    ),
)


@dataclass(frozen=True)
class SealedRow:
    """One sealed value: its row's keys, its place, and the value."""

    keys: tuple[Any, ...]  # Any: integers and texts
    uid: bytes
    field: str
    sealed: bytes


def rows_by_key() -> Work[dict[str, dict[str, int]]]:
    """How many values of each table each key seals: `{"9f0c1a2b": {"connection_secrets": 12}}`."""
    found: dict[str, dict[str, int]] = {}
    for one in COLUMNS:
        key_id = _key_id(one)
        for row in (yield select(key_id, func.count()).select_from(one.table).group_by(key_id)):
            found.setdefault(row[0].hex(), {})[one.table.name] = row[1]
    return found


def not_under(
    one: SealedColumn, key_id: str, after: tuple[Any, ...] | None, limit: int
) -> Work[list[SealedRow]]:
    """The next values of a column that another key seals, behind the row `after`."""
    query = select(*one.keys, one.uid, one.field, one.column).select_from(one.rows)
    query = query.where(_key_id(one) != bytes.fromhex(key_id)).order_by(*one.keys).limit(limit)
    if after is not None:
        query = query.where(tuple_(*one.keys) > tuple_(*after))
    rows = yield query
    count = len(one.keys)
    return [SealedRow(tuple(row[:count]), *row[count:]) for row in rows]


def every(one: SealedColumn, after: tuple[Any, ...] | None, limit: int) -> Work[list[SealedRow]]:
    """The next values of a column, whatever key seals them."""
    return (yield from not_under(one, "", after, limit))


def opens(ring: KeyRing) -> Work[int]:
    """How many sealed values there are, if all open. Raises KeyringError for the first that does not."""
    count = 0
    for one in COLUMNS:
        after: tuple[Any, ...] | None = None  # Any: integers and texts
        while rows := (yield from every(one, after, _SLICE)):
            for row in rows:
                ring.open(row.sealed, uid=row.uid, table=one.table.name, field=row.field)
            count += len(rows)
            after = rows[-1].keys
    return count


def replace(one: SealedColumn, changes: Sequence[tuple[SealedRow, bytes]]) -> Work[int]:
    """Put new values in place of those read, where these still stand there; how many were."""
    done = 0
    for row, sealed in changes:
        statement: Executable = (
            update(one.table)
            .where(*_is(one, row.keys), one.column == row.sealed)
            .values({one.column.name: sealed})
            .returning(one.keys[0])
        )
        done += len((yield statement))
    return done


def _is(one: SealedColumn, keys: Sequence[Any]) -> list[ColumnElement[bool]]:
    return [column == value for column, value in zip(one.keys, keys, strict=True)]


def _key_id(one: SealedColumn) -> ColumnElement[bytes]:
    return func.substr(one.column, 2, 4, type_=LargeBinary)


def describe(one: SealedColumn, row: SealedRow) -> Mapping[str, object]:
    """Which value it is, for people; nothing secret."""
    return {"table": one.table.name, **{c.name: v for c, v in zip(one.keys, row.keys, strict=True)}}
