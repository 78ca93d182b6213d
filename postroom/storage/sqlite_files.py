"""SQLite files that nobody serves: a copy of one in use, and looks into such a copy.

A copy is one snapshot, taken by a reading connection of its own while another process goes on writing: pages
in small steps, each made durable before the next, so that no commit of the other has to wait for a large
flush (docs/decisions/0017-backup-by-paced-pages.md has the measurement).
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from postroom.clock import Clock
from postroom.errors import Unavailable
from postroom.storage import migrations, sealed
from postroom.storage.interface import Sql, Work
from postroom.storage.sqlite import Database, SqliteStore

T = TypeVar("T")

_STEP_BYTES = 4 << 20
_BUSY_S = 30.0


@dataclass(frozen=True)
class Facts:
    """What a database says of itself. states: how many deliveries are in each."""

    instance: str
    schema: str
    states: Mapping[str, int]
    messages: int
    newest_message_us: int | None
    sealed_with: Mapping[str, int]


def copy(source: Path, target: Path, room: Callable[[int], None]) -> None:
    """Copy a database that may be in use into a file that is not there yet; durable when it returns.

    room: called once with the bytes it will take, before anything is written; it raises where there is no
    room. Raises sqlite3.Error, OSError.
    """
    reading = sqlite3.connect(
        f"file:{quote(str(source.absolute()))}?mode=ro", uri=True, isolation_level=None, timeout=_BUSY_S
    )
    descriptor = -1
    try:
        # One open transaction: without it each step would begin anew after a commit of somebody else.
        reading.execute("BEGIN")
        reading.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
        pages, page_bytes = (
            reading.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size")
        )
        room(pages * page_bytes)
        descriptor = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        writing = sqlite3.connect(target)
        try:
            writing.execute("PRAGMA journal_mode=OFF")
            writing.execute("PRAGMA synchronous=OFF")
            step = max(1, _STEP_BYTES // page_bytes)
            reading.backup(writing, pages=step, progress=lambda *_: os.fdatasync(descriptor))
        finally:
            writing.close()
        os.fsync(descriptor)
    finally:
        if descriptor >= 0:
            os.close(descriptor)
        reading.close()


def look(path: Path, clock: Clock, work: Callable[[], Work[T]]) -> T:
    """Run a reading unit on a file that nobody writes, leaving nothing beside it. Raises sqlite3.Error."""
    database = Database(path, clock, frozen=True)
    try:
        return database.run(work())
    finally:
        database.close()


def faults(path: Path, clock: Clock, *, indexes: bool) -> list[str]:
    """What SQLite finds wrong with the file; nothing where it is whole.

    indexes: compare them with their tables as well, which takes several times as long.
    """

    def work() -> Work[list[str]]:
        rows = yield Sql(f"PRAGMA {'integrity_check' if indexes else 'quick_check'}(5)")
        return [str(row[0]) for row in rows if row[0] != "ok"]

    try:
        return look(path, clock, work)
    except sqlite3.Error as error:
        return [str(error)]


def facts() -> Work[Facts]:
    """A unit that reads `Facts`; over a whole table, so not for every day."""
    instance = yield Sql("SELECT value FROM instance WHERE name = 'id'")
    schema = yield Sql("SELECT version_num FROM alembic_version")
    states = yield Sql("SELECT state, COUNT(*) FROM deliveries GROUP BY state ORDER BY state")
    newest = yield Sql("SELECT COUNT(*), MAX(created_at) FROM messages")
    by_key = yield from sealed.rows_by_key()
    return Facts(
        instance=instance[0][0] if instance else "",
        schema=schema[0][0],
        states=dict(states),
        messages=newest[0][0],
        newest_message_us=newest[0][1],
        sealed_with={key_id: sum(tables.values()) for key_id, tables in by_key.items()},
    )


def open_store(path: Path, clock: Clock) -> SqliteStore:
    """The store of a file, brought to this version's schema. Raises Unavailable, for a newer one too."""
    try:
        database = Database(path, clock)
        try:
            migrations.upgrade(database)
        finally:
            database.close()
        return SqliteStore(path, clock)
    except sqlite3.Error as error:
        raise Unavailable(f"the database {path} cannot be opened: {error}") from error
