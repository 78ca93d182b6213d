"""The seam between what is to be done in the database and how it is executed.

A *unit of work* is a generator: it yields statements, is sent their rows, and returns a value.

    def rename(server_id: ServerId, name: str) -> Work[bool]:
        rows = yield Sql("UPDATE servers SET name = :name WHERE server_id = :id RETURNING server_id",
                         {"name": name, "id": server_id})
        return bool(rows)

So the same unit runs synchronously in the one writer thread of SQLite and awaited on PostgreSQL, can
call others with `yield from`, and needs no database to be read. A unit is all or nothing. It may be
run again from its beginning (a lost serialisation, a broken connection), so it holds no state of its
own and does nothing but yield and compute.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

import msgspec
from sqlalchemy.sql.base import Executable

T = TypeVar("T")

# A row is a tuple in the order of the statement's columns; rows of Core statements also have names.
# The values are what SQL holds: int, str, bytes, None (Any: a driver's tuple carries no types).
Rows: TypeAlias = Sequence[Any]


class Sql(msgspec.Struct, frozen=True):
    """Plain SQL with `:name` parameters, the same text on both databases.

    With a sequence of parameter sets the statement runs once per set, and the rows of all runs come
    back in that order.

    lock: what a writing unit adds on PostgreSQL, where others write at the same time: `FOR UPDATE`,
    `FOR UPDATE OF r SKIP LOCKED`. On SQLite, and in a unit that only reads, it is left out.
    """

    text: str
    params: Mapping[str, object] | Sequence[Mapping[str, object]] = msgspec.field(default_factory=dict)
    lock: str = ""


class Now(msgspec.Struct, frozen=True):
    """Asks for the database's clock: one row, one column, microseconds since 1970.

    The only place where SQL learns the time. On SQLite it is the process's clock, on PostgreSQL the
    server's, so that all machines mean the same by it; tests move either.
    """


class NewIds(msgspec.Struct, frozen=True):
    """Asks for numbers of rows that are about to be inserted: for each table a row, which holds so many.

    counts: of each table. What is given is nobody else's, unless the unit comes to nothing.
    """

    counts: tuple[tuple[str, int], ...]


# Within the text of a statement with one set of parameters: the same clock, read where it stands there.
CLOCK = "{clock}"
# Within the text, at the end of a subquery: its rows are locked, and those that others hold are passed over.
# Like `Sql.lock`, but for a part that is limited before it is joined.
TAKE = "{take}"
TAKING = "FOR UPDATE SKIP LOCKED"


class Compute(msgspec.Struct, frozen=True):
    """Asks for a value that takes a while to make: one row, one column.

    Where units run on the event loop, what is large (size_bytes, roughly) is made in a thread meanwhile.
    """

    make: Callable[[], object]
    size_bytes: int


class Together(msgspec.Struct, frozen=True):
    """Statements of which none needs what another brings or changes: one round trip on PostgreSQL.

    For each the rows it would get alone come back, in their order. All see what was there before any of them,
    so no two may change one row. What they change is locked in their order.

    ends: the unit yields nothing after it, so that it may be committed with it.
    """

    statements: Sequence[Sql | Now | NewIds]
    ends: bool = False


Statement: TypeAlias = Sql | Now | NewIds | Together | Compute | Executable
Work: TypeAlias = Generator[Statement, Rows, T]


def check_goes_on(before: Statement | None) -> None:
    """For who runs units, when one yields after this. Raises RuntimeError when it had said it would not."""
    if isinstance(before, Together) and before.ends:
        raise RuntimeError("a unit of work went on after the statement that ends it")


class Store(Protocol):
    """Executes units of work."""

    async def read(self, work: Callable[[], Work[T]]) -> T:
        """Run a unit that only reads, on one snapshot of what is committed."""

    async def read_each(self, works: Sequence[Callable[[], Work[T]]]) -> list[T]:
        """The same with several on one snapshot; on PostgreSQL what they ask alike is asked once.

        Raises what any of them raises.
        """

    async def write(self, work: Callable[[], Work[T]], size_bytes: int = 0, *, share: bool = False) -> T:
        """Run a unit and make it durable; returns only after the commit.

        size_bytes: what the unit carries, roughly, for the bound of the waiting room.
        share: the unit locks nothing that others wait for, so on PostgreSQL it may share its commit with
        others of its kind; on SQLite every unit does.
        What the unit raises reaches this caller only, and nothing of the unit stays.
        Raises errors.Unavailable when the waiting room is full or the commit failed; a commit whose
        answer was lost may have been made all the same.
        """

    async def close(self) -> None:
        """Finish what is queued, then close."""


def in_turn(works: Sequence[Callable[[], Work[T]]]) -> Work[list[T]]:
    """Several units as one."""
    found = []
    for work in works:
        found += [(yield from work())]
    return found


def now() -> Work[int]:
    """The database's time, microseconds since 1970."""
    rows = yield Now()
    value: int = rows[0][0]
    return value
