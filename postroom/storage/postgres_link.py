"""One connection to PostgreSQL: how statements of units reach the server, and what its errors mean.

Plain SQL goes to asyncpg's own connection, Core statements through SQLAlchemy on top of that same
connection, so both are in one transaction. A unit of work never sees which.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, NoReturn, TypeVar

import asyncpg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from postroom.clock import Clock
from postroom.storage.interface import Now, Rows, Sql, Statement, Work

T = TypeVar("T")
CONNECT_S = 5.0
_CLOCK = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
# A literal, which is left as it is, or a parameter; `::bigint` is a cast.
_PARAMETER = re.compile(r"'(?:[^']|'')*'|(?<!:):([A-Za-z_][A-Za-z0-9_]*)")
_NUL, _NUL_SHOWN = "\x00", "\u2400"


@lru_cache(maxsize=2000)
def numbered(text: str) -> tuple[str, tuple[str, ...]]:
    """`:name` parameters as `$1`, `$2` …, and their names in that order."""
    names: dict[str, int] = {}

    def replace(found: re.Match[str]) -> str:
        name = found.group(1)
        return found.group(0) if name is None else f"${names.setdefault(name, len(names) + 1)}"

    replaced = _PARAMETER.sub(replace, text)
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


# A client that stops in the middle must not hold its locks for ever, nor a lost one its session.
_SETTINGS = {
    "application_name": "postroom",
    "idle_in_transaction_session_timeout": "10000",
    "lock_timeout": "5000",
    "statement_timeout": "30000",
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
    "jit": "off",
}


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


class Link:
    """An open connection. Used by one unit, or one group of units, at a time."""

    def __init__(self, core: AsyncConnection, driver: Any, clock: Clock | None) -> None:
        """driver: asyncpg's connection (its types are not published). clock: answers `Now`, for tests."""
        self._core, self.driver, self._clock = core, driver, clock
        self.statements = 0

    @classmethod
    async def open(cls, engine: AsyncEngine, clock: Clock | None) -> Link:
        """Connect. Raises OSError, TimeoutError, asyncpg's errors."""
        try:
            core = await engine.connect()
        except DBAPIError as error:
            raise _cause(error) from None
        raw = await core.get_raw_connection()
        driver: Any = raw.driver_connection
        await driver.set_type_codec(
            "numeric", schema="pg_catalog", encoder=str, decoder=_number, format="text"
        )
        return cls(core, driver, clock)

    @property
    def usable(self) -> bool:
        """Whether another transaction may be begun on it."""
        return not self.driver.is_closed() and not self.driver.is_in_transaction()

    async def begin(self, *, write: bool) -> None:
        await self.driver.execute("BEGIN" if write else "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")

    async def commit(self) -> None:
        await self.driver.execute("COMMIT")

    async def rollback(self) -> None:
        """Undo; a connection that cannot is not `usable` any more."""
        with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
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

    async def execute(self, statement: Statement, *, write: bool = True) -> Rows:
        """Run one statement."""
        self.statements += 1
        if isinstance(statement, Sql):
            text, names = numbered(statement.text + statement.lock if write else statement.text)
            params = statement.params
            if isinstance(params, Mapping):
                rows: Rows = await self.driver.fetch(text, *arguments(names, params))
                return rows
            if not params:
                return []
            sets = [arguments(names, one) for one in params]
            if len(sets) == 1:
                rows = await self.driver.fetch(text, *sets[0])
            elif "RETURNING" in text:
                rows = await self.driver.fetchmany(text, sets)
            else:
                await self.driver.executemany(text, sets)
                rows = []
            return rows
        if isinstance(statement, Now):
            if self._clock is not None:
                return [(self._clock.now_us(),)]
            found: Rows = await self.driver.fetch(_CLOCK)
            return found
        try:
            result = await self._core.execute(statement)
            return result.all() if result.returns_rows else []
        except DBAPIError as error:
            _raise_cause(error)

    @property
    def core(self) -> AsyncConnection:
        """SQLAlchemy's connection, for the schema."""
        return self._core

    async def close(self) -> None:
        """Say goodbye, if the server still listens; never raises, never waits long."""
        try:
            await self.driver.close(timeout=1.0)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            self.driver.terminate()
        self._forget()

    def abort(self) -> None:
        """Drop it as it is."""
        self.driver.terminate()
        self._forget()

    def _forget(self) -> None:
        """Tell SQLAlchemy, which has no part in how it ended."""
        raw = self._core.sync_connection
        if raw is not None and not raw.closed:
            raw.detach()
            raw.invalidate()


def _number(text: str) -> int | float:
    """Sums of whole numbers come as `numeric`."""
    try:
        return int(text)
    except ValueError:
        return float(text)


def _cause(error: DBAPIError) -> BaseException:
    """asyncpg's own error under two wrappings; neither shows a statement's parameters."""
    found: BaseException | None = error.orig
    while found is not None and not isinstance(
        found, asyncpg.PostgresError | asyncpg.InterfaceError | OSError
    ):
        found = found.__cause__
    return found or error.orig or error


def _raise_cause(error: DBAPIError) -> NoReturn:
    raise _cause(error) from None
