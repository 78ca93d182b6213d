"""Restoring a backup into a data folder, so that nothing leaves twice unless a person says so.

Everything is made ready in a folder of its own below the data folder: copied, compared, looked over, opened
with its key file, brought to this version's schema, given its new life (`storage.restored`), and what was on
its way settled as unknown. Only then it takes the place of what was there (`backup.placing`), which is moved
aside and never deleted. Whatever fails before changes nothing.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from postroom.backup.manifest import MOST_KEY_RING_BYTES, Damaged, Manifest
from postroom.backup.placing import MARKER_NAME, Placing, finish, place
from postroom.backup.read import Unpacked, unpack, verify
from postroom.clock import Clock, to_datetime
from postroom.core.actor import Actor
from postroom.engine.journal import LOST
from postroom.engine.recover import settle_all
from postroom.engine.retry import Policy
from postroom.errors import Conflict, NotFound, Unavailable
from postroom.folder import DATABASE_BESIDE, DATABASE_NAME, JOURNALS_NAME, KEY_RING_NAME, sync
from postroom.keyring import KeyringError
from postroom.storage import restored, sqlite_files

_STAGE = ".restore-"
_SPARE_BYTES = 16 << 20


class Unsettled(StrEnum):
    """What becomes of mail whose fate the backup does not know."""

    UNVERIFIED = "unverified"  # all that waits or was on its way: counted as sent, never sent again unasked
    READY = "ready"  # what was on its way or unknown: sent again


@dataclass(frozen=True)
class Restored:
    """What was restored. states: deliveries in each, now; aside: where the former files are, if any were.

    marked: how many `Unsettled` was applied to. journals: files of the former instance that are not replayed.
    """

    manifest: Manifest
    instance: str
    states: Mapping[str, int]
    marked: int
    aside: Path | None
    journals: tuple[str, ...]


def restore(
    source: Path,
    folder: Path,
    clock: Clock,
    policy: Policy,
    actor: Actor,
    *,
    key_file: Path | None = None,
    replace: bool = False,
    unsettled: Unsettled | None = None,
) -> Restored:
    """Restore into `folder`, whose lock the caller holds.

    key_file: where it is neither part of the backup nor in the folder. replace: also where a database is,
    which moves aside. Raises NotFound, Conflict, Damaged, KeyringError, Unavailable.
    """
    try:
        finish(folder)
        if (folder / DATABASE_NAME).exists() and not replace:
            raise Conflict(f"{folder} holds data already; with --replace it is moved aside")
        for left in folder.glob(_STAGE + "*"):
            shutil.rmtree(left)
        _require_room(source, folder)
        journals = tuple(sorted(path.name for path in (folder / JOURNALS_NAME).glob("*")))
        stage = folder / (_STAGE + secrets.token_hex(4))
        stage.mkdir(mode=0o700)
        try:
            backup = unpack(source, stage)
            _stage_key_file(backup, folder, key_file, clock)
            preparing = _prepare(backup, clock, policy, actor, source, unsettled)
            instance, states, marked = asyncio.run(preparing)
            _close_up(backup)
            aside = folder / f"before-restore-{to_datetime(clock.now_us()):%Y%m%dT%H%M%SZ}"
            if aside.exists():
                raise Conflict(f"{aside} is there already; try again in a second")
            place(folder, Placing(stage.name, aside.name))
        finally:
            if not (folder / MARKER_NAME).exists():  # else whoever opens the folder next brings it to its end
                shutil.rmtree(stage, ignore_errors=True)
    except (OSError, sqlite3.Error) as error:
        told = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise Unavailable(f"{source} could not be restored: {told}") from error
    return Restored(backup.manifest, instance, states, marked, aside if aside.exists() else None, journals)


def _require_room(source: Path, folder: Path) -> None:
    if not source.exists():
        raise NotFound(f"backup {source}")
    files = [path for path in source.iterdir() if path.is_file()] if source.is_dir() else [source]
    needed = sum(path.stat().st_size for path in files) + _SPARE_BYTES
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise Unavailable(f"the restore needs {needed:,} bytes in {folder}, and {free:,} are free")


def _stage_key_file(backup: Unpacked, folder: Path, given: Path | None, clock: Clock) -> None:
    """Settle which key file it is to be, and that it opens everything; the same one already there stays."""
    staged, there = backup.folder / KEY_RING_NAME, folder / KEY_RING_NAME
    if given is not None:
        data = given.read_bytes()[: MOST_KEY_RING_BYTES + 1]
        staged.unlink(missing_ok=True)
        with open(os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(data)
        sync(staged)
    if not staged.exists() and not there.exists():
        raise KeyringError("the key file is not part of this backup: name a copy of it with --key-file")
    try:
        verify(backup, staged if staged.exists() else there, clock)
    except KeyringError as error:
        raise KeyringError(f"{error}; name the right one with --key-file") from error
    if staged.exists() and there.exists() and staged.read_bytes() == there.read_bytes():
        staged.unlink()


async def _prepare(
    backup: Unpacked,
    clock: Clock,
    policy: Policy,
    actor: Actor,
    source: Path,
    unsettled: Unsettled | None,
) -> tuple[str, Mapping[str, int], int]:
    """Give the copy its new life; instance id, states, and how many were marked."""
    marked = 0
    store = sqlite_files.open_store(backup.database, clock)
    try:
        taken_at_us = backup.manifest.taken_at_us
        instance = await store.write(lambda: restored.new_life(taken_at_us, actor, source.name))
        claimed = await store.read(restored.claimed)
        for worker_id in await store.read(restored.workers):
            # No journal can tell: it would speak of what came after the backup, to another database.
            await settle_all(store, worker_id, LOST, policy)
        if unsettled is Unsettled.UNVERIFIED:
            marked = await store.write(lambda: restored.mark_unverified(actor))
        elif unsettled is Unsettled.READY:
            marked = await store.write(lambda: restored.mark_ready(claimed, actor))
        states = await store.read(restored.waiting)
    finally:
        await store.close()
    return instance, states, marked


def _close_up(backup: Unpacked) -> None:
    """Nothing of the database lies beside it any more, and all of it is on the disk."""
    if left := [name for name in DATABASE_BESIDE if (backup.folder / name).exists()]:
        raise Damaged(f"the restored database could not be closed: {', '.join(left)} is left")
    sync(backup.database)
    sync(backup.folder)
