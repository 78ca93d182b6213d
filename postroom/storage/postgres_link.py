"""One connection to PostgreSQL: how statements of units reach the server, and what its errors mean.

Plain SQL goes to asyncpg's own connection, Core statements through SQLAlchemy on top of that same
connection, so both are in one transaction. A unit of work never sees which.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import asyncpg
import msgspec
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from postroom.clock import Clock
from postroom.errors import Unavailable
from postroom.storage import contents, days, hot
from postroom.storage.interface import (
    CLOCK,
    TAKE,
    TAKING,
    Compute,
    NewIds,
    Now,
    Rows,
    Sql,
    Statement,
    Together,
    Work,
    check_goes_on,
)
from postroom.storage.postgres_batch import Batches, is_select, shape
from postroom.storage.postgres_engine import CHOOSES, DRIVER_ERRORS, SAID, cause_of
from postroom.storage.postgres_pieces import (
    NOW,
    Piece,
    arguments,
    batch_piece,
    columns_of,
    combined,
    ids_piece,
    now_piece,
    numbered,
    rows_of,
    runs_of,
    single_piece,
)
from postroom.storage.postgres_plans import Growth, PlansAge

T = TypeVar("T")
_LARGE_BYTES = 100_000
# Statements on one table of days, by an id: which, and the id's parameter.
_BY_DAY = {
    hot.OPEN_ATTEMPT: ("attempts", "attempt_id"),
    hot.END_ATTEMPT: ("attempts", "attempt_id"),
    contents.LOOK: ("contents", "content_id"),
}
_MOST_BATCHES = 2000
_BATCHES: dict[tuple[str, str], Batches | None] = {}


@dataclass(frozen=True)
class Raised:
    """What a unit raised instead of returning."""

    error: Exception


class _Plan(msgspec.Struct, frozen=True):
    """Statements that go together, each asked by so many: as pieces, None for what must run one by one."""

    askers: int
    groups: Sequence[Sequence[Statement]]
    pieces: Sequence[Piece | None]
    write: bool

    @property
    def is_one(self) -> bool:
        """Whether it is one statement."""
        return None not in self.pieces and any(piece is not None and piece.runs for piece in self.pieces)


class Link:
    """An open connection. Used by one unit, or one group of units, at a time."""

    def __init__(
        self, core: AsyncConnection, driver: Any, clock: Clock | None, pooler: bool, growth: Growth
    ) -> None:
        """driver: asyncpg's connection (its types are not published). clock: answers `Now`, for tests.
        pooler: as of the engine. growth: of all connections together."""
        self._core, self.driver, self._clock = core, driver, clock
        self._growth = growth
        self._plans = None if pooler else PlansAge(growth)  # behind a pooler none is kept
        self.deciding = False  # a statement is under way that is a transaction of its own
        self.statements = 0

    @classmethod
    async def open(
        cls, engine: AsyncEngine, clock: Clock | None, *, pooler: bool, growth: Growth | None = None
    ) -> Link:
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
        return cls(core, driver, clock, pooler, growth or Growth())

    @property
    def usable(self) -> bool:
        """Whether another transaction may be begun on it."""
        return not self.driver.is_closed() and not self.driver.is_in_transaction()

    @property
    def is_open(self) -> bool:
        """Whether a transaction is."""
        is_open: bool = self.driver.is_in_transaction()
        return is_open

    async def begin(self, *, write: bool) -> None:
        """Begin a transaction; once in a while with plans made anew."""
        self.deciding = False
        begin = "BEGIN" if write else "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
        if self._plans is None:
            await self.driver.execute(begin + SAID)
            return
        self._plans.begun()
        if self._plans.are_old:
            self._plans.thrown_away()
            begin += "; DISCARD PLANS"
        await self.driver.execute(begin + CHOOSES)

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
                    before, statement = statement, work.send(rows)
                    check_goes_on(before)
        except StopIteration as stop:
            value: T = stop.value
            return value

    async def run_together(self, works: Sequence[Work[T]], *, only_reads: bool = False) -> list[T | Raised]:
        """Drive units side by side: where several are at the same statement, it runs once for all of them.
        What one raises that has changed nothing yet is its own; later it ends all.

        A transaction is begun, and left open, when something else than the last statement of all of them
        changes rows; that one alone is a transaction of its own. only_reads: none of them does, and a
        transaction is open.
        """
        write, decided = not only_reads, False
        is_open = only_reads or await self._begun_at_once()
        values: dict[int, T | Raised] = {}
        waiting: dict[object, list[tuple[int, Statement]]] = {}
        changes: dict[object, bool] = {}
        wrote: set[int] = set()

        # Once it is decided nothing may run again, whatever a unit raises then.
        def go_on(number: int, before: Statement | None, rows: Rows | None) -> None:
            work = works[number]
            try:
                statement = next(work) if rows is None else work.send(rows)
                check_goes_on(before)
            except StopIteration as stop:
                values[number] = stop.value
            except Exception as error:
                if number in wrote and not decided:
                    raise
                values[number] = Raised(error)
            else:
                kind = _kind(statement)
                if kind not in changes or isinstance(
                    kind, int
                ):  # a number is another's when this one is gone
                    changes[kind] = _may_change(statement)
                waiting.setdefault(kind, []).append((number, statement))
                if changes[kind]:
                    wrote.add(number)

        for number in range(len(works)):
            go_on(number, None, None)
        while waiting:
            asked = waiting.pop(next(iter(waiting)))
            statements = [statement for _, statement in asked]
            first = statements[0]
            if isinstance(first, Together):
                plan = await self._plan(statements, write)
                last = first.ends and not waiting and plan.is_one
                if not is_open and not last and _may_change(first):
                    is_open = await self._open()
                self.deciding = last and not is_open
                found = await self._carry_out(plan)
                decided, self.deciding = self.deciding, False
            else:
                if not is_open and _may_change(first):
                    is_open = await self._open()
                found = await self._once_for(statements, write=write)
            for (number, statement), rows in zip(asked, found, strict=True):
                go_on(number, statement, rows)
        return [values[number] for number in range(len(works))]

    async def _begun_at_once(self) -> bool:
        """Whether a group's transaction was begun before it needs one: behind a pooler settings are said
        there, and plans are thrown away there."""
        if self._plans is None or self._plans.are_old:
            return await self._open()
        self._plans.begun()
        self.deciding = False
        return False

    async def _open(self) -> bool:
        await self.begin(write=True)
        return True

    async def execute(self, statement: Statement, *, write: bool = True) -> Rows:
        """Run one statement."""
        return (await self._once_for([statement], write=write))[0]

    async def _once_for(self, asked: Sequence[Statement], *, write: bool = True) -> Sequence[Rows]:
        """The rows each gets of one statement that several wait for."""
        first = asked[0]
        if isinstance(first, Together):
            return await self._carry_out(await self._plan(asked, write))
        if isinstance(first, Sql | Now | NewIds):
            return await self._for(asked, write)
        (only,) = asked
        if isinstance(only, Compute):
            large = only.size_bytes > _LARGE_BYTES
            return [[(await asyncio.to_thread(only.make) if large else only.make(),)]]
        assert not isinstance(only, Together | Sql | Now | NewIds)
        self.statements += 1
        try:
            result = await self._core.execute(only)
            return [result.all() if result.returns_rows else []]
        except DBAPIError as error:
            _raise_cause(error)

    async def _plan(self, asked: Sequence[Statement], write: bool) -> _Plan:
        """How to run what these ask together."""
        groups: list[Sequence[Statement]] = list(zip(*(_parts(one) for one in asked), strict=True))
        pieces = [await self._piece(group, write) for group in groups]
        return _Plan(len(asked), groups, pieces, write)

    async def _carry_out(self, plan: _Plan) -> Sequence[Rows]:
        """For each who asked, the rows of each of its statements."""
        columns: list[Sequence[Rows]] = [[[]] * plan.askers for _ in plan.groups]
        for place, piece in enumerate(plan.pieces):
            if piece is None:
                columns[place] = await self._one_by_one(plan.groups[place], plan.write)
        going = [
            (place, piece) for place, piece in enumerate(plan.pieces) if piece is not None and piece.runs
        ]
        if len(going) == 1:
            ((place, piece),) = going
            columns[place] = await self._fetched(piece)
        elif going:
            self.statements += 1
            every = [piece for _, piece in going]
            self._growth.rows += sum(piece.runs for piece in every if piece.changes)
            text, values = combined(every)
            (told,) = await self.driver.fetch(text, *values)
            for (place, piece), rows in zip(going, rows_of(every, told), strict=True):
                columns[place] = piece.share(rows)
        return list(zip(*columns, strict=True)) if columns else [()] * plan.askers

    async def _fetched(self, piece: Piece) -> Sequence[Rows]:
        self.statements += 1
        if piece.changes:
            self._growth.rows += piece.runs
        return piece.share(await self.driver.fetch(piece.text, *piece.arguments))

    async def _for(self, asked: Sequence[Statement], write: bool) -> Sequence[Rows]:
        """Of one statement that is not several."""
        piece = await self._piece(asked, write)
        if piece is None:
            return await self._one_by_one(asked, write)
        if not piece.runs:
            return [[]] * len(asked)
        return await self._fetched(piece)

    async def _piece(self, asked: Sequence[Statement], write: bool) -> Piece | None:
        """What these ask, which differ in their parameters only; None where it cannot be one statement."""
        first = asked[0]
        if isinstance(first, Now):
            return now_piece(len(asked), None if self._clock is None else self._clock.now_us())
        if isinstance(first, NewIds):
            return ids_piece([one for one in asked if isinstance(one, NewIds)])
        assert isinstance(first, Sql)
        runs, askers = runs_of([one for one in asked if isinstance(one, Sql)])
        names = numbered(first.text)[1]
        first = await self._of_its_day(first, runs)
        if len(runs) <= 1:
            values = arguments(names, runs[0]) if runs else ()
            return single_piece(self._text(first, write), values, askers, len(runs))
        if CLOCK in first.text or TAKE in first.text:
            return None
        made = await self._batches(first.text, first.lock if write else "")
        if made is None:
            return None
        columns = columns_of(names, runs)
        variant = made.for_runs(columns)
        return batch_piece(variant, columns, len(runs), askers) if variant.fits(columns) else None

    async def _of_its_day(self, first: Sql, runs: Sequence[Mapping[str, Any]]) -> Sql:
        """The same on the partition where all of it is, if that is of the newest day: to plan one table takes
        the server less, and one plan is good for all values."""
        if first.text == hot.INSERT_ATTEMPT and runs:
            await self._growth.numbered(runs[-1]["attempt_id"] >> days.BITS, self.driver)
        found, day = _BY_DAY.get(first.text), self._growth.day
        if found is None or not day or any(run[found[1]] >> days.BITS != day for run in runs):
            return first
        return msgspec.structs.replace(first, text=days.text_of(first.text, found[0], day))

    def _text(self, statement: Sql, write: bool) -> str:
        """Of a statement with one set of parameters."""
        text = numbered(statement.text + statement.lock if write else statement.text)[0]
        if TAKE in text:
            text = text.replace(TAKE, TAKING if write else "")
        if CLOCK in text:
            text = text.replace(CLOCK, NOW if self._clock is None else str(self._clock.now_us()))
        return text

    async def _one_by_one(self, asked: Sequence[Statement], write: bool) -> Sequence[Rows]:
        """Once for each set of parameters."""
        found: list[Rows] = []
        for one in asked:
            assert isinstance(one, Sql)
            runs, (own,) = runs_of([one])
            names = numbered(one.text)[1]
            values = [arguments(names, run) for run in runs]
            text = self._text(one, write)
            self.statements += 1
            if "RETURNING" not in text and not is_select(text):
                await self.driver.executemany(text, values)
                found.append([])
            else:
                rows = [await self.driver.fetch(text, *run) for run in values]
                found.append([row for run in own for row in rows[run]])
        return found

    async def _batches(self, text: str, lock: str) -> Batches | None:
        """Made once for all connections; the server says of what type the parameters are."""
        if (text, lock) in _BATCHES:
            return _BATCHES[text, lock]
        made = None
        if shape(text):
            plain, names = numbered(text + lock)
            prepared = await self.driver.prepare(plain)
            types = [one.name for one in prepared.get_parameters()]
            made = Batches.of(text, lock, dict(zip(names, types, strict=True)))
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


def _parts(statement: Statement) -> Sequence[Statement]:
    assert isinstance(statement, Together)
    return statement.statements


def _kind(statement: Statement) -> object:
    """What is equal for statements that may run as one."""
    if type(statement) is Sql:
        return statement.text, statement.lock
    if type(statement) is Together:
        return statement.ends, *map(_kind, statement.statements)
    if isinstance(statement, NewIds):
        return tuple(table for table, _ in statement.counts)
    return Now if isinstance(statement, Now) else id(statement)


def _may_change(statement: Statement) -> bool:
    """Whether it may change rows."""
    if isinstance(statement, Together):
        return any(_may_change(one) for one in statement.statements)
    if isinstance(statement, Sql):
        return not is_select(statement.text)
    return not isinstance(statement, Now | NewIds | Compute)


def _number(text: str) -> int | float:
    """Sums of whole numbers come as `numeric`."""
    try:
        return int(text)
    except ValueError:
        return float(text)


def _raise_cause(error: DBAPIError) -> NoReturn:
    raise cause_of(error) from None
