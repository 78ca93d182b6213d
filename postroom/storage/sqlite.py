"""SQLite: one writer thread, group commit, readers beside it.

`Database` is the synchronous half: open, and run units of work. `SqliteStore` is what the rest of
Postroom sees: one thread that writes, with the units of many callers in one commit (BEGIN IMMEDIATE,
a SAVEPOINT each, one fsync for all: WAL with synchronous=FULL), and two that read.

A yes is a debt: a caller is answered only after COMMIT returned. When COMMIT fails, every caller of
that group gets errors.Unavailable and nothing of the group is stored.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from postroom.clock import Clock
from postroom.errors import Unavailable
from postroom.logs import Trouble, logger
from postroom.storage.interface import (
    CLOCK,
    TAKE,
    Compute,
    NewIds,
    Now,
    Rows,
    Sql,
    Statement,
    Together,
    Work,
    check_goes_on,
    in_turn,
)
from postroom.tally import COMMIT_BOUNDS_S, Histogram

T = TypeVar("T")
log = logger("storage")

_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA busy_timeout=5000",
    "PRAGMA cache_size=-32000",
    "PRAGMA temp_store=MEMORY",
    "PRAGMA wal_autocheckpoint=2000",
)
_RAISE_SEQUENCE = "UPDATE sqlite_sequence SET seq = seq + ? WHERE name = ? RETURNING seq"
_BEGIN_SEQUENCE = "INSERT INTO sqlite_sequence (seq, name) VALUES (?, ?) RETURNING seq"


class Database:
    """One connection to the file, used by one thread at a time."""

    def __init__(
        self,
        path: Path | str,
        clock: Clock,
        *,
        read_only: bool = False,
        durable: bool = True,
        frozen: bool = False,
    ) -> None:
        """Open the file (made if absent). `durable=False` is for tests: no fsync.

        frozen: a file that nobody writes is read as it lies there, and nothing is made beside it.
        """
        self._clock = clock
        frozen_url = f"sqlite:///file:{quote(str(Path(path).absolute()))}?mode=ro&immutable=1&uri=true"
        self._engine: Engine = create_engine(
            frozen_url if frozen else f"sqlite:///{path}",
            isolation_level="AUTOCOMMIT",  # we say BEGIN and COMMIT ourselves
            poolclass=NullPool,
            connect_args={"check_same_thread": False, "cached_statements": 512},
        )
        self._core: Connection = self._engine.connect()
        driver = self._core.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        self._driver = driver
        for pragma in () if frozen else _PRAGMAS:
            self._driver.execute(pragma)
        if not durable:
            self._driver.execute("PRAGMA synchronous=OFF")
        if read_only:
            self._driver.execute("PRAGMA query_only=ON")
        self.statements = 0

    @property
    def core(self) -> Connection:
        """SQLAlchemy's connection, for the schema."""
        return self._core

    def execute(self, statement: Statement) -> Rows:
        """Run one statement."""
        if isinstance(statement, Together):
            return [
                [] if isinstance(one, Sql) and not one.params and one.params != {} else self.execute(one)
                for one in statement.statements
            ]
        self.statements += not isinstance(statement, Compute)
        if isinstance(statement, Sql):
            params = statement.params
            if isinstance(params, Mapping):
                text = statement.text.replace(TAKE, "")
                if CLOCK in text:
                    text = text.replace(CLOCK, ":clock_us")
                    params = {**params, "clock_us": self._clock.now_us()}
                return self._driver.execute(text, params).fetchall()
            return self._execute_many(statement.text, params)
        if isinstance(statement, Now):
            return [(self._clock.now_us(),)]
        if isinstance(statement, NewIds):
            return self._new_ids(statement)
        if isinstance(statement, Compute):
            return [(statement.make(),)]
        try:
            result = self._core.execute(statement)
            return result.all() if result.returns_rows else []
        except DBAPIError as error:
            # One kind of error however a statement is written, and none that shows its parameters.
            raise error.orig or error from None

    def _new_ids(self, asked: NewIds) -> Rows:
        """Where SQLite keeps the last number of each table; no row: it has had none."""
        found: list[range] = []
        for table, count in asked.counts:
            rows = self._driver.execute(_RAISE_SEQUENCE, (count, table)).fetchall()
            if not rows:
                rows = self._driver.execute(_BEGIN_SEQUENCE, (count, table)).fetchall()
            last = rows[0][0]
            found.append(range(last - count + 1, last + 1))
        return found

    def _execute_many(self, text: str, params: Sequence[Mapping[str, object]]) -> Rows:
        if "RETURNING" not in text and not text.lstrip().startswith("SELECT"):
            self._driver.executemany(text, params)
            return []
        rows: list[Any] = []
        for one in params:
            rows += self._driver.execute(text, one).fetchall()
        return rows

    def run(self, work: Work[T]) -> T:
        """Drive a unit of work to its end, inside whatever transaction is open."""
        try:
            statement = next(work)
            while True:
                try:
                    rows = self.execute(statement)
                except sqlite3.Error as error:
                    statement = work.throw(error)
                else:
                    before, statement = statement, work.send(rows)
                    check_goes_on(before)
        except StopIteration as stop:
            value: T = stop.value
            return value

    def begin(self, *, write: bool) -> None:
        self._driver.execute("BEGIN IMMEDIATE" if write else "BEGIN")

    @property
    def in_transaction(self) -> bool:
        """Whether one is open; a full disk or an I/O error may have ended it."""
        return self._driver.in_transaction

    def commit(self) -> None:
        self._driver.execute("COMMIT")

    def rollback(self) -> None:
        if self._driver.in_transaction:
            self._driver.execute("ROLLBACK")

    def transact(self, work: Callable[[], Work[T]]) -> T:
        """One unit in a transaction of its own."""
        self.begin(write=True)
        try:
            value = self.run(work())
            self.commit()
        except BaseException:
            self.rollback()
            raise
        return value

    def snapshot(self, work: Callable[[], Work[T]]) -> T:
        """One reading unit on one snapshot."""
        self.begin(write=False)
        try:
            return self.run(work())
        finally:
            self.rollback()

    def savepoint(self, work: Callable[[], Work[T]]) -> T:
        """One unit of several in a transaction: what it did goes if it raises."""
        self._driver.execute("SAVEPOINT unit")
        try:
            value = self.run(work())
        except BaseException:
            if self.in_transaction:  # a full disk may have rolled the whole transaction back
                self._driver.execute("ROLLBACK TO unit")
                self._driver.execute("RELEASE unit")
            raise
        self._driver.execute("RELEASE unit")
        return value

    def close(self) -> None:
        self._core.close()
        self._engine.dispose()


@dataclass(slots=True)
class _Unit:
    work: Callable[[], Work[Any]]  # Any: units of all callers share one queue
    future: asyncio.Future[Any]
    size_bytes: int
    value: Any = None
    error: BaseException | None = None


class SqliteStore:
    """The Store on SQLite. Made and used on one event loop."""

    def __init__(
        self,
        path: Path,
        clock: Clock,
        *,
        queue_units: int = 10_000,
        queue_bytes: int = 256 << 20,
        group_commit_max: int = 200,
        readers: int = 2,
        durable: bool = True,
    ) -> None:
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._queue_units, self._queue_bytes, self._group_max = queue_units, queue_bytes, group_commit_max
        self._waiting: deque[_Unit] = deque()
        self._waiting_bytes = 0
        self._wake = threading.Condition()
        self._closing = False
        self._trouble = Trouble(log)
        self._writer_db = Database(path, clock, durable=durable)
        self._read_dbs: queue.SimpleQueue[Database] = queue.SimpleQueue()
        self._all_readers = [Database(path, clock, read_only=True) for _ in range(readers)]
        for one in self._all_readers:
            self._read_dbs.put(one)
        self._readers = ThreadPoolExecutor(readers, "postroom-read")
        self._writer = threading.Thread(target=self._write_loop, name="postroom-write", daemon=True)
        self._writer.start()
        self.commits = 0
        self.units = 0
        self.failed_commits = 0
        self.commit_s = Histogram(COMMIT_BOUNDS_S)

    @property
    def statements(self) -> int:
        """Statements run by the writer so far, for the benchmark's counter."""
        return self._writer_db.statements

    @property
    def waiting_units(self) -> int:
        """Units of work that wait for the writer now."""
        return len(self._waiting)

    @property
    def waiting_bytes(self) -> int:
        """What those carry."""
        return self._waiting_bytes

    async def read(self, work: Callable[[], Work[T]]) -> T:
        if self._closing:
            raise Unavailable("shutting down")
        return await self._loop.run_in_executor(self._readers, self._read, work)

    async def read_each(self, works: Sequence[Callable[[], Work[T]]]) -> list[T]:
        return await self.read(lambda: in_turn(works))

    def _read(self, work: Callable[[], Work[T]]) -> T:
        database = self._read_dbs.get()
        try:
            return database.snapshot(work)
        except sqlite3.Error as error:
            if not _is_disk_trouble(error):
                raise
            raise _unavailable("read", error) from error
        finally:
            self._read_dbs.put(database)

    async def write(self, work: Callable[[], Work[T]], size_bytes: int = 0, *, share: bool = False) -> T:
        future: asyncio.Future[T] = self._loop.create_future()
        with self._wake:
            if self._closing:
                raise Unavailable("shutting down")
            if len(self._waiting) >= self._queue_units or (
                self._waiting_bytes + size_bytes > self._queue_bytes and self._waiting
            ):
                raise Unavailable("too much is waiting to be written", retry_after_s=2)
            self._waiting.append(_Unit(work, future, size_bytes))
            self._waiting_bytes += size_bytes
            self._wake.notify()
        # Shielded: a caller that goes away does not stop what may already be committed.
        return await asyncio.shield(future)

    def _write_loop(self) -> None:
        while True:
            with self._wake:
                while not self._waiting and not self._closing:
                    self._wake.wait()
                if not self._waiting:
                    return
                group = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._group_max))]
                self._waiting_bytes -= sum(unit.size_bytes for unit in group)
            self._run_group(group)
            self._loop.call_soon_threadsafe(_answer, group)

    def _run_group(self, group: Sequence[_Unit]) -> None:
        database = self._writer_db
        begun_s = time.perf_counter()
        try:
            database.begin(write=True)
            for unit in group:
                self._run_unit(unit)
            database.commit()
            self.commits += 1
            self.units += len(group)
            self.commit_s.observe(time.perf_counter() - begun_s)
            self._trouble.over("the database can be written again")
        except BaseException as error:  # a writer that died would leave every caller waiting for ever
            self.failed_commits += 1
            self._trouble.met("the database cannot be written", error=str(error), units=len(group))
            try:
                database.rollback()
            except sqlite3.Error as again:
                log.error("rollback failed", error=str(again))
            for unit in group:
                unit.error = _unavailable("written", error)

    def _run_unit(self, unit: _Unit) -> None:
        try:
            unit.value = self._writer_db.savepoint(unit.work)
        except Exception as error:
            if not self._writer_db.in_transaction or _is_disk_trouble(error):
                raise  # not this unit alone: the whole group fails
            unit.error = error

    async def close(self) -> None:
        with self._wake:
            self._closing = True
            self._wake.notify()
        await self._loop.run_in_executor(None, self._writer.join)
        self._readers.shutdown(wait=True)
        for database in self._all_readers:
            database.close()
        self._writer_db.close()


_AGAIN_S = 5
_FULL_AGAIN_S = 30  # somebody has to make room
_OWN_FAULTS = (
    sqlite3.IntegrityError,
    sqlite3.ProgrammingError,
    sqlite3.DataError,
    sqlite3.InterfaceError,
    sqlite3.NotSupportedError,
)


def _unavailable(what: str, error: BaseException) -> Unavailable:
    """What a caller is told; the driver's words name neither paths nor statements."""
    full = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
    return Unavailable(
        f"the database cannot be {what}: {error}", _FULL_AGAIN_S if full else _AGAIN_S, no_room=full
    )


def _is_disk_trouble(error: Exception) -> bool:
    """Whether it says something of the database and not of the statement that met it."""
    if not isinstance(error, sqlite3.Error) or isinstance(error, _OWN_FAULTS):
        return False
    return getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_ERROR


def _answer(group: Sequence[_Unit]) -> None:
    for unit in group:
        if unit.future.done():  # the loop is closing
            continue
        if unit.error is not None:
            unit.future.set_exception(unit.error)
            unit.future.exception()  # a caller that went away is no unhandled error
        else:
            unit.future.set_result(unit.value)
