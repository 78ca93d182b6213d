"""Where a database is, a file or on a server, and what can be said and done about its schema either way."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlencode, urlsplit, urlunsplit

from postroom.clock import SystemClock
from postroom.errors import Unavailable
from postroom.storage import migrations
from postroom.storage.migrations import OURS
from postroom.storage.sqlite import Database, SqliteStore

if TYPE_CHECKING:  # asyncpg takes a while to import
    from postroom.storage.postgres import PostgresStore


_SHOWN = frozenset({"host", "port", "user", "dbname", "sslmode"})  # parameters of a URL; never a password


@dataclass(frozen=True)
class Found:
    """A database's schema. revision None: it is empty. floor: the oldest version's that works on it."""

    revision: str | None
    floor: str | None
    partitions: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def works(self) -> bool:
        """Whether this version works on it as it is."""
        return self.revision is not None and OURS.works_on(self.revision, self.floor)


@dataclass(frozen=True)
class SqliteFile:
    """A file that is there."""

    path: Path

    @property
    def name(self) -> str:
        """Where it is."""
        return str(self.path.parent)

    def look(self) -> Found:
        """What it is at. Raises Unavailable."""
        try:
            database = Database(self.path, SystemClock(), read_only=True)
            try:
                revision = migrations.stored_revision(database)
                return Found(revision, migrations.stored_floor(database) if revision else None)
            finally:
                database.close()
        except sqlite3.Error as error:
            raise self._closed(error) from error

    def upgrade(self) -> None:
        """Bring it up to date; the caller holds its folder's lock. Raises Unavailable."""
        try:
            database = Database(self.path, SystemClock())
            try:
                migrations.upgrade(database)
            finally:
                database.close()
        except sqlite3.Error as error:
            raise self._closed(error) from error

    async def open_store(self) -> SqliteStore:
        """Its store; the caller closes it. Raises Unavailable."""
        try:
            return SqliteStore(self.path, SystemClock())
        except sqlite3.Error as error:
            raise self._closed(error) from error

    def _closed(self, error: sqlite3.Error) -> Unavailable:
        return Unavailable(f"the database {self.path} cannot be opened: {error}")


@dataclass(frozen=True)
class PostgresDatabase:
    """A database on a server. pooler, unsafe: as `migrations.postgres.upgrade` has them."""

    url: str = field(repr=False)
    pooler: bool = False
    unsafe: bool = False

    def look(self) -> Found:
        """What it is at. Raises Unavailable."""
        from postroom.storage.migrations import postgres

        found = asyncio.run(postgres.look(self.url, pooler=self.pooler))
        return Found(found.revision, found.floor, found.partitions)

    def upgrade(self) -> None:
        """Make the schema or bring it up to date. Raises Unavailable."""
        from postroom.storage.migrations import postgres

        asyncio.run(postgres.upgrade(self.url, pooler=self.pooler, unsafe=self.unsafe))

    async def open_store(self) -> PostgresStore:
        """Its store, with one connection; the caller closes it."""
        from postroom.storage.postgres import PostgresStore

        return PostgresStore(self.url, pooler=self.pooler, connections=1)

    @property
    def name(self) -> str:
        """Its URL without a password."""
        parts = urlsplit(self.url)
        where = parts.netloc.rpartition("@")
        user = where[0].partition(":")[0]
        query = {key: values for key, values in parse_qs(parts.query).items() if key in _SHOWN}
        shown = parts._replace(
            netloc=f"{user}{where[1]}{where[2]}", query=urlencode(query, doseq=True, safe="/")
        )
        return urlunsplit(shown)
