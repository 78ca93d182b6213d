"""The data folder, the database and the key file that goes with it: each made if absent, and opened."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

from postroom.backup.placing import finish
from postroom.clock import Clock
from postroom.config import Settings
from postroom.control.lock import COMMAND, FolderLock
from postroom.errors import Unavailable
from postroom.folder import DATABASE_NAME, KEY_RING_NAME
from postroom.keyring import KeyRing, KeyringError
from postroom.storage import instance_keys, migrations
from postroom.storage.sqlite import Database, SqliteStore

if TYPE_CHECKING:
    from postroom.storage.postgres import PostgresStore


def take_folder(folder: Path, role: str = COMMAND) -> FolderLock:
    """The data folder, made if absent, for this process alone; a restore that was cut off is ended.

    Raises control.lock.Locked, Unavailable.
    """
    make_folder(folder)
    held = FolderLock.take(folder, role)
    try:
        finish(folder)  # a restore that was cut off
    except BaseException:
        held.release()
        raise
    return held


def make_folder(folder: Path) -> None:
    """Raises Unavailable."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise Unavailable(f"the data folder {folder} cannot be made: {error.strerror}") from error


async def open_sqlite(settings: Settings, clock: Clock) -> tuple[SqliteStore, bool, KeyRing]:
    """The database in the data folder, up to date; whether it is new; the key file that goes with it."""
    path = settings.data / DATABASE_NAME
    fresh = not path.exists()
    ring = await asyncio.to_thread(_key_ring, settings.data / KEY_RING_NAME, str(path), fresh=fresh)

    def prepare() -> None:
        if fresh:
            path.touch(mode=0o600)
        database = Database(path, clock)
        try:
            migrations.upgrade(database)
        finally:
            database.close()

    try:
        await asyncio.to_thread(prepare)
        store = SqliteStore(
            path,
            clock,
            queue_units=settings.queue_units,
            queue_bytes=settings.queue_bytes,
            group_commit_max=settings.group_commit_max,
        )
    except (sqlite3.Error, OSError) as error:
        raise Unavailable(f"the database {path} cannot be opened: {error}") from error
    return store, fresh, ring


async def open_postgres(settings: Settings, clock: Clock) -> tuple[PostgresStore, bool, KeyRing]:
    """The same where the setting `database` names PostgreSQL."""
    from postroom.storage.migrations import postgres as on_postgres
    from postroom.storage.postgres import PostgresStore

    url = settings.database.reveal()
    direct = settings.database_direct_url.reveal()
    fresh = await on_postgres.upgrade(
        direct or url,
        pooler=settings.database_pooler and not direct,
        unsafe=settings.database_may_forget,
    )
    store = PostgresStore(
        url,
        pooler=settings.database_pooler,
        connections=settings.database_connections,
        queue_units=settings.queue_units,
        queue_bytes=settings.queue_bytes,
        group_commit_max=settings.group_commit_max,
    )
    try:
        if settings.key_ring:
            return store, fresh, KeyRing.given(settings.key_ring.reveal(), "POSTROOM_KEY_RING")
        unused = not await store.read(instance_keys.exist)  # of several first starts each may make the ring
        path = settings.data / KEY_RING_NAME
        or_else = ", or set key_ring to its content"
        ring = await asyncio.to_thread(_key_ring, path, "the database", fresh=unused, or_else=or_else)
        return store, fresh, ring
    except BaseException:
        await store.close()
        raise


def _key_ring(path: Path, database: str, *, fresh: bool, or_else: str = "") -> KeyRing:
    """Raises KeyringError. or_else: what may be done instead of putting the file there."""
    # The ring comes first, so a database without one has lost it: a new one would open nothing in it.
    if fresh and not path.exists():
        try:
            return KeyRing.create(path)
        except KeyringError:
            if not path.exists():
                raise
    if not path.exists():
        raise KeyringError(
            f"there is no key file at {path}, and {database} holds secrets sealed with one: put a "
            f"copy of it there{or_else}; without it no stored password can be read again"
        )
    return KeyRing.load(path)
