"""One connection to PostgreSQL: how statements of units reach the server, and what its errors mean.

Plain SQL goes to asyncpg's own connection, Core statements through SQLAlchemy on top of that same
connection, so both are in one transaction. A unit of work never sees which.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NoReturn, TypeVar

import asyncpg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from postroom.clock import Clock
from postroom.errors import Unavailable
from postroom.storage.interface import CLOCK, TAKE, TAKING, Compute, Now, Rows, Sql, Statement, Work
from postroom.storage.postgres_batch import PARAMETER, Batch, batch, is_select, shape

T = TypeVar("T")
CONNECT_S = 5.0
# Whatever asyncpg raises; the third is what it says of a connection whose server died amid something.
DRIVER_ERRORS = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    EOFError,
)
_NOW = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
_LARGE_BYTES = 100_000
_MOST_BATCHES = 2000
_UNKNOWN = Batch("", (), False)
_BATCHES: dict[tuple[str, str], Batch | None] = {}
_NUL, _NUL_SHOWN = "\x00", "\u2400"


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


# A client that stops in the middle must not hold its locks for ever.
_IN_TRANSACTIONS = {
    "idle_in_transaction_session_timeout": "10000",
    "lock_timeout": "5000",
    "statement_timeout": "30000",
    "jit": "off",
    # Every table is looked into by a key; a plan made while one was small must not stay when it is not.
    "enable_seqscan": "off",
}
_SETTINGS = {
    **_IN_TRANSACTIONS,
    "application_name": "postroom",
    # Nor a lost one its session.
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
}
# Where a table is nearly empty one index is as good as another, and the server keeps the plan it made then
# until the table is analyzed, a minute later or more: looking a row up by the account alone reads all of it.
# So a session's plans are made anew after this many transactions, and then each time it has had so many times
# as many.
_PLANS_ANEW, _PLANS_ANEW_TIMES = 25, 4
# Behind a pooler they are said anew in each transaction, in the message that begins it.
_SAID = "".join(f"; SET LOCAL {name} = '{value}'" for name, value in _IN_TRANSACTIONS.items())


def engine_for(url: str, *, pooler: bool) -> AsyncEngine:
    """What makes connections; it keeps none.

    pooler: something between us and the server hands each transaction to another of its sessions, so
    nothing may be kept in one: no prepared statements by name, no settings.
    """

    async def connect() -> asyncpg.Connection:
        return await asyncpg.connect(
            url,
            timeout=CONNECT_S,
            statement_cache_size=0 if pooler else 512,
            server_settings=None if pooler else _SETTINGS,
        )

    return create_async_engine(
        "postgresql+asyncpg://",
        async_creator=connect,
        poolclass=NullPool,
        isolation_level="AUTOCOMMIT",  # we say BEGIN and COMMIT ourselves
        connect_args={"prepared_statement_cache_size": 0} if pooler else {},
    )


@dataclass(frozen=True)
class Raised:
    """What a unit raised instead of returning."""

    error: Exception


class Link:
    """An open connection. Used by one unit, or one group of units, at a time."""

    def __init__(self, core: AsyncConnection, driver: Any, clock: Clock | None, pooler: bool) -> None:
        """driver: asyncpg's connection (its types are not published). clock: answers `Now`, for tests.
        pooler: as of the engine."""
        self._core, self.driver, self._clock = core, driver, clock
        self._said = _SAID if pooler else ""
        self._keeps_plans = not pooler
        self._begun, self._plans_anew_at = 0, _PLANS_ANEW
        self.statements = 0

    @classmethod
    async def open(cls, engine: AsyncEngine, clock: Clock | None, *, pooler: bool) -> Link:
        """Connect. Raises OSError, TimeoutError, asyncpg's errors."""
        try:
            core = await engine.connect()
        except DBAPIError as error:
            raise cause_of(error) from None
        raw = await core.get_raw_connection()
        driver: Any = raw.driver_connection
        await driver.set_type_codec(
            "numeric", schema="pg_catalog", encoder=str, decoder=_number, format="text"
        )
        return cls(core, driver, clock, pooler)

    @property
    def usable(self) -> bool:
        """Whether another transaction may be begun on it."""
        return not self.driver.is_closed() and not self.driver.is_in_transaction()

    async def begin(self, *, write: bool) -> None:
        """Begin a transaction; once in a while with plans made anew."""
        begin = "BEGIN" if write else "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
        self._begun += 1
        if self._begun == self._plans_anew_at and self._keeps_plans:
            self._plans_anew_at *= _PLANS_ANEW_TIMES
            begin += "; DISCARD PLANS"
        await self.driver.execute(begin + self._said)

    async def commit(self) -> None:
        """Raises Unavailable when there was nothing to commit any more: a unit passed over an error."""
        told = await self.driver.execute("COMMIT")
        if told != "COMMIT":
            raise Unavailable("the database undid this after an error", retry_after_s=5)

    async def rollback(self) -> None:
        """Undo; a connection that cannot is not `usable` any more."""
        with suppress(*DRIVER_ERRORS):
            if self.driver.is_in_transaction():
                await self.driver.execute("ROLLBACK")

    async def run(self, work: Work[T], *, write: bool) -> T:
        """Drive a unit to its end, inside the open transaction."""
        try:
            statement = next(work)
            while True:
                try:
                    rows = await self.execute(statement, write=write)
                except asyncpg.PostgresError as error:
                    statement = work.throw(error)
                else:
                    statement = work.send(rows)
        except StopIteration as stop:
            value: T = stop.value
            return value

    async def run_together(self, works: Sequence[Work[T]]) -> list[T | Raised]:
        """Drive units side by side in the open transaction: where several are at the same statement, it runs
        once for all of them. What one raises that has changed nothing yet is its own; later it ends all."""
        values: dict[int, T | Raised] = {}
        waiting: dict[int, Statement] = {}
        wrote: set[int] = set()

        def go_on(number: int, rows: Rows | None) -> None:
            work = works[number]
            try:
                statement = next(work) if rows is None else work.send(rows)
            except StopIteration as stop:
                values[number] = stop.value
            except Exception as error:
                if number in wrote:
                    raise
                values[number] = Raised(error)
            else:
                waiting[number] = statement
                if not isinstance(statement, Now | Compute) and not (
                    isinstance(statement, Sql) and is_select(statement.text)
                ):
                    wrote.add(number)

        for number in range(len(works)):
            go_on(number, None)
        while waiting:
            first = next(iter(waiting.values()))
            together = [number for number, one in waiting.items() if _same(first, one)]
            statements = [waiting.pop(number) for number in together]
            for number, rows in zip(together, await self._once_for(statements), strict=True):
                go_on(number, rows)
        return [values[number] for number in range(len(works))]

    async def _once_for(self, statements: Sequence[Statement]) -> Sequence[Rows]:
        """The rows each gets of one statement that several wait for."""
        first = statements[0]
        if len(statements) == 1:
            return [await self.execute(first)]
        if isinstance(first, Now):
            rows = await self.execute(first)
            return [rows] * len(statements)
        self.statements += 1
        sets: list[Mapping[str, object]] = []
        counts: list[int] = []
        for one in statements:
            assert isinstance(one, Sql)
            own = [one.params] if isinstance(one.params, Mapping) else one.params
            sets += own
            counts.append(len(own))
        assert isinstance(first, Sql)
        runs = await self.runs(first, sets, write=True)
        if runs is None:
            return [[]] * len(statements)
        shared: list[Rows] = []
        at = 0
        for count in counts:
            shared.append([row for found in runs[at : at + count] for row in found])
            at += count
        return shared

    async def execute(self, statement: Statement, *, write: bool = True) -> Rows:
        """Run one statement."""
        self.statements += not isinstance(statement, Compute)
        if isinstance(statement, Sql):
            params = statement.params
            if isinstance(params, Mapping):
                text, names = numbered(statement.text + statement.lock if write else statement.text)
                if TAKE in text:
                    text = text.replace(TAKE, TAKING if write else "")
                if CLOCK in text:
                    text = text.replace(CLOCK, _NOW if self._clock is None else str(self._clock.now_us()))
                rows: Rows = await self.driver.fetch(text, *arguments(names, params))
                return rows
            runs = await self.runs(statement, params, write=write)
            return [row for found in runs for row in found] if runs else []
        if isinstance(statement, Now):
            if self._clock is not None:
                return [(self._clock.now_us(),)]
            found: Rows = await self.driver.fetch(f"SELECT {_NOW}")
            return found
        if isinstance(statement, Compute):
            large = statement.size_bytes > _LARGE_BYTES
            return [(await asyncio.to_thread(statement.make) if large else statement.make(),)]
        try:
            result = await self._core.execute(statement)
            return result.all() if result.returns_rows else []
        except DBAPIError as error:
            _raise_cause(error)

    async def runs(
        self, statement: Sql, params: Sequence[Mapping[str, object]], *, write: bool
    ) -> list[Rows] | None:
        """Run a statement once for each set of parameters, as one statement where it can be.

        Returns the rows of each run; None: it has none.
        """
        if not params:
            return []
        lock = statement.lock if write else ""
        text, names = numbered(statement.text + lock)
        sets = [arguments(names, one) for one in params]
        if len(sets) == 1:
            return [await self.driver.fetch(text, *sets[0])]
        made = await self._batch(statement.text, lock)
        if made is None or not made.fits(sets):
            if "RETURNING" not in text and not is_select(text):
                await self.driver.executemany(text, sets)
                return None
            return [await self.driver.fetch(text, *one) for one in sets]
        found = await self.driver.fetch(made.text, *made.arguments(sets))
        if not made.numbered:
            return [[row] for row in found] if found else None
        shared: list[list[Any]] = [[] for _ in sets]
        for row in found:
            shared[row[0] - 1].append(row[1:])
        return list(shared)

    async def _batch(self, text: str, lock: str) -> Batch | None:
        """Made once for all connections; the server says of what type the parameters are."""
        known = _BATCHES.get((text, lock), _UNKNOWN)
        if known is not _UNKNOWN:
            return known
        made = None
        if shape(text):
            plain, names = numbered(text + lock)
            prepared = await self.driver.prepare(plain)
            types = [one.name for one in prepared.get_parameters()]
            made = batch(text, lock, dict(zip(names, types, strict=True)))
        if len(_BATCHES) < _MOST_BATCHES:
            _BATCHES[text, lock] = made
        return made

    @property
    def core(self) -> AsyncConnection:
        """SQLAlchemy's connection, for the schema."""
        return self._core

    async def close(self) -> None:
        """Say goodbye, if the server still listens; never raises, never waits long."""
        try:
            await self.driver.close(timeout=1.0)
        except (*DRIVER_ERRORS, TimeoutError):
            self.driver.terminate()
        self._forget()

    def abort(self) -> None:
        """Drop it as it is."""
        self.driver.terminate()
        self._forget()

    def _forget(self) -> None:
        """Tell SQLAlchemy, which has no part in how it ended."""
        raw = self._core.sync_connection
        if raw is not None and not raw.closed and not raw.invalidated:
            raw.detach()
            raw.invalidate()


def _same(first: Statement, other: Statement) -> bool:
    """Whether both may run as one."""
    if first is other:
        return True
    if isinstance(first, Sql):
        return isinstance(other, Sql) and (first.text, first.lock) == (other.text, other.lock)
    return isinstance(first, Now) and isinstance(other, Now)


def _number(text: str) -> int | float:
    """Sums of whole numbers come as `numeric`."""
    try:
        return int(text)
    except ValueError:
        return float(text)


def cause_of(error: DBAPIError) -> BaseException:
    """asyncpg's own error under two wrappings; neither shows a statement's parameters."""
    found: BaseException | None = error.orig
    while found is not None and not isinstance(found, DRIVER_ERRORS):
        found = found.__cause__
    return found or error.orig or error


def _raise_cause(error: DBAPIError) -> NoReturn:
    raise cause_of(error) from None
