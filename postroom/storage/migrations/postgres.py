"""The same on PostgreSQL: everything that lacks in one transaction, and one process at a time.

Whoever comes second waits at a lock of the transaction's, finds nothing to do and goes on. Nothing is held
between transactions, so this works through a pooler too.

Others may be sending while a new version comes: a revision that waits for a table makes everybody wait behind
it, so each try waits half a second at most and then lets the others pass.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg
from sqlalchemy.exc import DBAPIError

from postroom.errors import Unavailable
from postroom.storage import days
from postroom.storage.interface import Sql
from postroom.storage.migrations import FLOOR, FOREIGN, OURS, Line, is_fit
from postroom.storage.postgres import called_off
from postroom.storage.postgres_engine import DRIVER_ERRORS, cause_of, engine_for
from postroom.storage.postgres_link import Link

_LOCK = 0x506F_7374_726F_6F6D  # "Postroom"
_OLDEST = 140_000
PATIENCE_S = 120.0
_AGAIN_S = 0.3


@dataclass(frozen=True)
class Status:
    """What a database is at. revision None: it is empty. floor: the oldest version's that works on it."""

    revision: str | None
    floor: str | None
    partitions: dict[str, list[str]]


async def upgrade(
    url: str,
    *,
    pooler: bool = False,
    unsafe: bool = False,
    line: Line = OURS,
    patience_s: float = PATIENCE_S,
) -> bool:
    """Make the schema, or bring it up to date; whether no Postroom ever ran on it.

    unsafe: take a server that may forget what it committed. A newer database is left as it is where this
    version can work beside it. Raises Unavailable when it cannot, when the server cannot be reached or would
    forget, when the database is not ours, or is in use so that nothing can be changed for `patience_s`, with
    nothing changed.
    """
    async with _opened(url, pooler) as link:
        try:
            await _require_durable(link, unsafe=unsafe)
            if not await _is_fit(link, line):
                await _apply(link, line, patience_s)
            await _make_days(link)
            return not await link.execute(Sql("SELECT 1 FROM instance WHERE name = 'id'"))
        except DRIVER_ERRORS as error:
            raise Unavailable(
                f"the database cannot be brought to schema {line.head}: {_said(error)}"
            ) from error


async def look(url: str, *, pooler: bool = False) -> Status:
    """What the database is at; changes nothing. Raises Unavailable."""
    async with _opened(url, pooler) as link:
        try:
            revision = await _revision(link)
            if revision is None:
                return Status(None, None, {})
            await link.begin(write=False)
            partitions = {
                table: [one.name for one in await link.run(days.partitions(table), write=False)]
                for table in days.PARTITIONED
            }
            await link.rollback()
            return Status(revision, await _floor(link), partitions)
        except DRIVER_ERRORS as error:
            raise Unavailable(f"the database cannot be read: {_said(error)}") from error


@asynccontextmanager
async def _opened(url: str, pooler: bool) -> AsyncIterator[Link]:
    engine = engine_for(url, pooler=pooler)
    try:
        try:
            link = await Link.open(engine, None, pooler=pooler)
        except (*DRIVER_ERRORS, TimeoutError, ValueError) as error:
            raise Unavailable(f"the database cannot be reached: {_said(error)}") from error
        try:
            yield link
        finally:
            await link.close()
    finally:
        await engine.dispose()


async def _is_fit(link: Link, line: Line) -> bool:
    found = await _revision(link)
    floor = await _floor(link) if found is not None and not line.knows(found) else None
    return is_fit(found, floor, line)


async def _apply(link: Link, line: Line, patience_s: float) -> None:
    """Raises Unavailable."""
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + patience_s
    while True:
        try:
            await _apply_now(link, line)
        except (Unavailable, asyncpg.PostgresError) as error:
            under = error.__cause__ if isinstance(error, Unavailable) else error
            inner = cause_of(under) if isinstance(under, DBAPIError) else under
            if inner is None or not called_off(inner) or loop.time() >= deadline_s:
                raise
        else:
            return
        await asyncio.sleep(_AGAIN_S)


async def _apply_now(link: Link, line: Line) -> None:
    from postroom.storage.migrations.apply import apply_missing, floor_of

    await link.begin(write=True)
    try:
        await link.driver.execute("SET LOCAL statement_timeout = 0")
        await link.driver.execute("SET LOCAL lock_timeout = 500")
        await link.driver.execute(f"SELECT pg_advisory_xact_lock({_LOCK})")
        if not await _is_fit(link, line):  # again: another process may have been quicker
            found = await _revision(link)
            if found is not None and found < floor_of(line):
                await _require_nobody(link)
            await link.core.run_sync(lambda connection: apply_missing(connection, found, line))
        await link.commit()
    except BaseException:
        await link.rollback()
        raise


async def _require_nobody(link: Link) -> None:
    """What runs now is of a version that could not work any more."""
    rows = await link.execute(
        Sql(
            "SELECT COUNT(*) FROM workers WHERE ended_at IS NULL"
            " AND expires_at > extract(epoch FROM clock_timestamp()) * 1000000"
        )
    )
    if rows[0][0]:
        raise Unavailable(
            f"{rows[0][0]} processes of an older version work on this database and could not go on with the"
            " new schema: stop every `postroom serve` first (one that was killed counts until its lease ends)"
        )


async def _make_days(link: Link) -> None:
    """Today's partitions and those of a week ahead."""
    await link.begin(write=True)
    try:
        await link.run(days.make(), write=True)
        await link.commit()
    except BaseException:
        await link.rollback()
        raise


async def _revision(link: Link) -> str | None:
    rows = await link.execute(
        Sql("SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema()")
    )
    tables = {row[0] for row in rows}
    if not tables:
        return None
    if "alembic_version" not in tables:
        raise Unavailable(FOREIGN)
    found = await link.execute(Sql("SELECT version_num FROM alembic_version"))
    if len(found) != 1:
        raise Unavailable(FOREIGN)
    return str(found[0][0])


async def _floor(link: Link) -> str | None:
    rows = await link.execute(Sql("SELECT value FROM instance WHERE name = :name", {"name": FLOOR}))
    return str(rows[0][0]) if rows else None


async def _require_durable(link: Link, *, unsafe: bool) -> None:
    """A yes of ours is a debt: the server must not forget what it committed."""
    names = ("fsync", "synchronous_commit", "server_encoding", "server_version_num")
    shown = {name: await link.driver.fetchval(f"SHOW {name}") for name in names}
    if int(shown["server_version_num"]) < _OLDEST:
        raise Unavailable("this PostgreSQL is too old; Postroom needs version 14 or newer")
    if shown["server_encoding"] != "UTF8":
        raise Unavailable(f"the database's encoding is {shown['server_encoding']}; Postroom needs UTF8")
    if await link.driver.fetchval("SELECT pg_is_in_recovery()"):
        raise Unavailable("this PostgreSQL is a standby that takes no writes; name the primary")
    for name in ("fsync", "synchronous_commit"):
        if shown[name] == "off" and not unsafe:
            raise Unavailable(
                f"PostgreSQL runs with {name}=off and may forget mail it has taken: set it to on, or set"
                " database_may_forget to true if losing mail does not matter"
            )


def _said(error: BaseException) -> str:
    """In the server's or the system's words; asyncpg's name neither password nor URL."""
    if isinstance(error, asyncpg.PostgresError):
        return f"{error} ({error.sqlstate})"
    if isinstance(error, TimeoutError):
        return "no answer"
    return str(error) or type(error).__name__
