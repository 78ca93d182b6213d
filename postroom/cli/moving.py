"""What `postroom db copy` and `db reopen` do: the places opened and locked, the key file, who is told."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from postroom.cli.reach import NoData
from postroom.cli.terminal import Terminal
from postroom.config import Settings
from postroom.control.desk import BY_COMMAND
from postroom.control.lock import COMMAND, FolderLock
from postroom.control.peer import this_user
from postroom.core.actor import Actor
from postroom.errors import Conflict, Invalid, Unavailable
from postroom.folder import DATABASE_NAME, JOURNALS_NAME, KEY_RING_NAME, sync
from postroom.keyring import KeyRing
from postroom.moving import copy as moving
from postroom.moving.copy import Copied, Side
from postroom.of_settings import engine_settings
from postroom.storage.places import PostgresDatabase, SqliteFile

_SCHEMES = ("postgresql:", "postgres:")
_TELL_S = 1.0

Place = SqliteFile | PostgresDatabase


def copy_database(terminal: Terminal, source: str, target: str) -> dict[str, Any]:  # Any: JSON values
    """Raises Invalid, NoData, Conflict, Unavailable, KeyringError."""
    settings = terminal.settings
    places = _of(settings, source), _of(settings, target)
    if isinstance(places[0], SqliteFile) == isinstance(places[1], SqliteFile):
        raise Invalid("to", "must be PostgreSQL where `--from` is a data folder, and the other way round")
    folder = next(place.path.parent for place in places if isinstance(place, SqliteFile))
    if isinstance(places[0], SqliteFile):
        if not places[0].path.exists():
            raise NoData(f"there is no Postroom data in {folder}")
        keys = folder
    else:
        keys = settings.data
        _make_folder(folder, places[1], keys)
    held = FolderLock.take(folder, COMMAND)
    try:
        for place in places:
            place.upgrade()
        ring = KeyRing.load(keys / KEY_RING_NAME)
        if keys != folder:
            _copy_keys(keys / KEY_RING_NAME, folder / KEY_RING_NAME)
        done = asyncio.run(_copy(terminal, places, ring, keys))
    finally:
        held.release()
    where = f"--data {folder}" + (
        f" --database {places[1].name}" if isinstance(places[0], SqliteFile) else ""
    )
    return {
        "from": places[0].name,
        "to": places[1].name,
        "rows": dict(done.rows),
        "secrets": done.secrets,
        "settled": done.settled,
        "went_on": done.went_on,
        "serve": f"postroom serve {where}",
    }


def reopen_database(settings: Settings, place: Place) -> bool:
    """Whether it had been moved as a whole, and is paused now. Raises Conflict, Unavailable."""

    async def run() -> bool:
        async with _side(place) as side:
            return await moving.reopen(side, Actor(BY_COMMAND, this_user()))

    with _locked(place):
        return asyncio.run(run())


def _of(settings: Settings, text: str) -> Place:
    if text.startswith(_SCHEMES):
        return PostgresDatabase(text, settings.database_pooler, settings.database_may_forget)
    if not text:
        raise Invalid("from", "must be a data folder or postgresql://…")
    return SqliteFile(Path(text) / DATABASE_NAME)


def _make_folder(folder: Path, place: Place, keys: Path) -> None:
    """The new data folder and an empty file in it, or those of a copy that was cut off."""
    assert isinstance(place, SqliteFile)
    if folder.exists() and folder.resolve() == keys.resolve():
        raise Conflict(f"{folder} is the data folder of the source; name a new one")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(place.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise Unavailable(f"the data folder {folder} cannot be made: {error.strerror}") from error


@contextmanager
def _locked(place: Place) -> Iterator[None]:
    held = FolderLock.take(place.path.parent, COMMAND) if isinstance(place, SqliteFile) else None
    try:
        yield
    finally:
        if held is not None:
            held.release()


@asynccontextmanager
async def _side(place: Place) -> AsyncIterator[Side]:
    store = await place.open_store()
    try:
        yield Side(place.name, store, isinstance(place, PostgresDatabase))
    finally:
        await store.close()


async def _copy(terminal: Terminal, places: tuple[Place, Place], ring: KeyRing, keys: Path) -> Copied:
    policy = engine_settings(terminal.settings, "").policy
    actor = Actor(BY_COMMAND, this_user())
    async with _side(places[0]) as source, _side(places[1]) as target:
        return await moving.copy(
            source, target, ring, keys / JOURNALS_NAME, policy, actor, _Progress(quiet=terminal.as_json)
        )


class _Progress:
    """Lines on stderr: a table when it is done, and now and then while it is not."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet, self._told_s = quiet, time.monotonic()

    def __call__(self, table: str, rows: int, wanted: int) -> None:
        if self._quiet or not wanted:
            return
        if rows == wanted or time.monotonic() - self._told_s >= _TELL_S:
            self._told_s = time.monotonic()
            print(f"{table}: {rows:,} of {wanted:,}", file=sys.stderr, flush=True)


def _copy_keys(source: Path, target: Path) -> None:
    """The key file goes with the data, durably; one that is there already has to be the same."""
    data = source.read_bytes()
    if target.exists() and target.read_bytes() != data:
        raise Conflict(f"there is another key file at {target}")
    beside = target.with_name(f"{target.name}.new")
    beside.unlink(missing_ok=True)
    with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(data)
    sync(beside)
    beside.rename(target)
    sync(target.parent)
