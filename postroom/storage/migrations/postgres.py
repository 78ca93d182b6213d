"""The same on PostgreSQL: everything that lacks in one transaction, and one process at a time.

Whoever comes second waits at a lock of the transaction's, finds nothing to do and goes on. Nothing is held
between transactions, so this works through a pooler too.
"""

from __future__ import annotations

import asyncpg

from postroom.errors import Unavailable
from postroom.storage import days
from postroom.storage.interface import Sql
from postroom.storage.migrations import FOREIGN, HEAD
from postroom.storage.postgres_link import Link, engine_for

_LOCK = 0x506F_7374_726F_6F6D  # "Postroom"
_OLDEST = 140_000


async def upgrade(url: str, *, pooler: bool = False, unsafe: bool = False) -> bool:
    """Make the schema, or bring it up to date; whether the database was empty.

    unsafe: take a server that may forget what it committed. Raises Unavailable when it cannot be reached,
    would forget, is a newer version's or not ours, with nothing changed.
    """
    engine = engine_for(url, pooler=pooler)
    try:
        link = await Link.open(engine, None)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
        raise Unavailable(f"the database cannot be reached: {_said(error)}") from error
    try:
        await _require_durable(link, unsafe=unsafe)
        found = await _revision(link)
        if found != HEAD:
            await _apply(link)
        await _make_days(link)
        return found is None
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise Unavailable(f"the database cannot be brought to schema {HEAD}: {_said(error)}") from error
    finally:
        await link.close()
        await engine.dispose()


async def _apply(link: Link) -> None:
    from postroom.storage.migrations.apply import apply_missing

    await link.begin(write=True)
    try:
        await link.driver.execute("SET LOCAL statement_timeout = 0")
        await link.driver.execute("SET LOCAL lock_timeout = 0")
        await link.driver.execute(f"SELECT pg_advisory_xact_lock({_LOCK})")
        found = await _revision(link)  # again: another process may have been quicker
        if found != HEAD:
            await link.core.run_sync(lambda connection: apply_missing(connection, found))
        await link.commit()
    except BaseException:
        await link.rollback()
        raise


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
