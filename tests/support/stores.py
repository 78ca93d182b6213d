"""Databases of tests: a file of SQLite's, or one of PostgreSQL's, and stores on them.

A module whose tests are to run on both says `pytestmark = on_both`; what is about one of them `on_sqlite` or
`on_postgresql`; the others run on SQLite, or on what `pytest --on postgresql` says. Outside of pytest it is
SQLite. Only this module asks which one it is: tests and their support make databases and open stores by the
folder they are in.
"""

from __future__ import annotations

import asyncio
import atexit
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import asyncpg
import pytest

from postroom.clock import Clock
from postroom.storage.interface import Work
from postroom.storage.migrations import postgres as migrations_on_postgres
from postroom.storage.migrations import upgrade
from postroom.storage.postgres import PostgresStore
from postroom.storage.sqlite import Database, SqliteStore
from tests.support.postgres import shared_databases

FILE = "postroom.db"
_URL = "database.url"  # in the folder of a test that has its database on PostgreSQL

OpenStore: TypeAlias = SqliteStore | PostgresStore
Unit: TypeAlias = Callable[[], Work[Any]]  # Any: what it returns is of no interest


class Kind(StrEnum):
    """Which database."""

    SQLITE = "sqlite"
    POSTGRESQL = "postgresql"


# Of a module or of one test in it; the nearest counts.
on_both = pytest.mark.database(*Kind)
on_sqlite = pytest.mark.database(Kind.SQLITE)
on_postgresql = pytest.mark.database(Kind.POSTGRESQL)


class _Now:
    """Where databases are made now, and those of the running test."""

    kind = Kind.SQLITE
    made: list[str] = []  # noqa: RUF012 - there is one test at a time


@contextmanager
def on(kind: Kind) -> Iterator[Kind]:
    """Databases are made there, and those of PostgreSQL's dropped at the end."""
    before, _Now.kind = _Now.kind, kind
    try:
        yield kind
    finally:
        _Now.kind = before
        while _Now.made:
            shared_databases().drop(_Now.made.pop())


def made_on() -> Kind:
    """Where databases are made now."""
    return _Now.kind


async def make_database(folder: Path, clock: Clock, *first: Unit) -> None:
    """One with the whole schema, and in it what these units write."""
    if _Now.kind is Kind.SQLITE:
        file = Database(folder / FILE, clock, durable=False)
        upgrade(file)
        for unit in first:
            file.transact(unit)
        file.close()
        return
    name = await asyncio.to_thread(lambda: shared_databases().create(_template()))
    _Now.made.append(name)
    (folder / _URL).write_text(shared_databases().of(name))
    if first:
        store = open_store(folder, clock)
        for unit in first:
            await store.write(unit)
        await store.close()


def open_store(folder: Path, clock: Clock, *, durable: bool = False) -> OpenStore:
    """On the database that was made in this folder. durable: SQLite with fsync, as in life."""
    url = url_of(folder)
    if url is None:
        return SqliteStore(folder / FILE, clock, durable=durable)
    return PostgresStore(url, clock)


async def make_store(folder: Path, clock: Clock, *first: Unit) -> OpenStore:
    """Both."""
    await make_database(folder, clock, *first)
    return open_store(folder, clock)


def url_of(folder: Path) -> str | None:
    """Of the database that was made in this folder; None: it is a file."""
    noted = folder / _URL
    return noted.read_text() if noted.exists() else None


async def analyse(folder: Path) -> None:
    """Let the planner know what this folder's database holds, as it does after a while in life."""
    url = url_of(folder)
    if url is None:
        with closing(sqlite3.connect(folder / FILE)) as file:
            file.execute("ANALYZE")
        return
    session = await asyncpg.connect(url)
    try:
        await session.execute("VACUUM ANALYZE")
    finally:
        await session.close()


@cache
def _template() -> str:
    """A database with the schema, which the others are copies of; it ends with the process."""
    databases = shared_databases()
    name = databases.create()
    atexit.register(databases.drop, name)
    asyncio.run(migrations_on_postgres.upgrade(databases.of(name), unsafe=True))
    return name
