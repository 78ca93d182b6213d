"""Making a backup, beside a running `serve` or without one: nothing of it is asked for and nothing waits.

Everything is written under a temporary name in the target's folder, made durable, looked over, and only then
gets its name; what fails leaves nothing behind. A target that is there is never touched.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import sqlite3
import tarfile
from collections.abc import Iterator
from pathlib import Path

import postroom
from postroom.backup.manifest import FORMAT, MANIFEST_NAME, Damaged, File, Manifest, file_of
from postroom.backup.sealed import require_opens
from postroom.clock import MICROS, Clock, to_iso
from postroom.errors import Conflict, Invalid, Unavailable
from postroom.folder import DATABASE_NAME, KEY_RING_NAME, sync
from postroom.keyring import KeyRing, KeyringError
from postroom.storage import sqlite_files

TAR = ".tar"
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_SPARE_BYTES = 16 << 20  # left free on the target's disk, whatever else is there


def make_backup(data: Path, target: Path, clock: Clock, *, with_key_file: bool) -> Manifest:
    """Back up the data folder `data` as `target`, a folder, or one file where its name ends with .tar.

    Raises Conflict when the target is there or the database is damaged, Invalid, Unavailable (no room,
    cannot be read or written), KeyringError when the key file is asked for and not the database's.
    """
    target = target.absolute()
    _require_free(target)
    try:
        with _stage(target) as stage:
            at_us = clock.now_us()
            sqlite_files.copy(
                data / DATABASE_NAME, stage / DATABASE_NAME, lambda size: _require_room(target, size)
            )
            if with_key_file:
                _copy_key_file(data, stage, clock)
            manifest = _manifest(stage, at_us, clock)
            with open(_new(stage / MANIFEST_NAME), "wb") as file:
                file.write(manifest.encode())
            sync(stage / MANIFEST_NAME)
            sync(stage)
            _name(stage, target, manifest)
            sync(target.parent)
    except (OSError, sqlite3.Error) as error:
        if getattr(error, "sqlite_errorcode", None) in _DAMAGE:
            raise Damaged(f"the database is damaged and was not backed up: {error}") from error
        told = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise Unavailable(f"the backup could not be made: {told}") from error
    return manifest


def _require_free(target: Path) -> None:
    if os.path.lexists(target):
        raise Conflict(f"{target} is there already; a backup never replaces anything")
    if not target.parent.is_dir():
        raise Invalid("target", f"cannot be made: there is no folder {target.parent}")


def _require_room(target: Path, size_bytes: int) -> None:
    needed = size_bytes * (2 if target.suffix == TAR else 1) + _SPARE_BYTES
    free = shutil.disk_usage(target.parent).free
    if free < needed:
        raise Unavailable(f"the backup needs {needed:,} bytes in {target.parent}, and {free:,} are free")


@contextlib.contextmanager
def _stage(target: Path) -> Iterator[Path]:
    stage = target.parent / f".{target.name}.{secrets.token_hex(4)}.partial"
    stage.mkdir(mode=0o700)
    try:
        yield stage
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _new(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)


def _copy_key_file(data: Path, stage: Path, clock: Clock) -> None:
    """The key file, after the database: one that was rotated between the two is told, not stored."""
    KeyRing.load(data / KEY_RING_NAME)
    with open(_new(stage / KEY_RING_NAME), "wb") as file:
        file.write((data / KEY_RING_NAME).read_bytes())
    sync(stage / KEY_RING_NAME)
    try:
        require_opens(stage / DATABASE_NAME, KeyRing.load(stage / KEY_RING_NAME), clock)
    except KeyringError as error:
        raise KeyringError(f"{error}; if the key file is being rotated, back up again afterwards") from error


def _manifest(stage: Path, at_us: int, clock: Clock) -> Manifest:
    database = stage / DATABASE_NAME
    if faults := sqlite_files.faults(database, clock, indexes=False):
        raise Damaged(f"the database is damaged and was not backed up: {'; '.join(faults)}")
    facts = sqlite_files.look(database, clock, sqlite_files.facts)
    files: dict[str, File] = {path.name: file_of(path) for path in sorted(stage.iterdir())}
    return Manifest(
        format=FORMAT,
        postroom=postroom.__version__,
        schema=facts.schema,
        instance=facts.instance,
        taken_at=to_iso(at_us) or "",
        taken_at_us=at_us,
        files=files,
        keys=dict(facts.sealed_with),
        messages=facts.messages,
        newest_message_at=to_iso(facts.newest_message_us),
        deliveries=dict(facts.states),
    )


def _name(stage: Path, target: Path, manifest: Manifest) -> None:
    """Give the finished backup its name, unless somebody took it meanwhile."""
    try:
        if target.suffix != TAR:
            os.rename(stage, target)  # fails where a file or a folder with something in it lies there
            return
        packed = stage / "packed"
        with open(_new(packed), "wb") as file:
            _pack(stage, file.fileno(), manifest)
            file.flush()
            os.fsync(file.fileno())
        os.link(packed, target)  # unlike rename, never replaces a file that is there
    except FileExistsError as error:
        raise Conflict(f"{target} is there already; a backup never replaces anything") from error


def _pack(stage: Path, descriptor: int, manifest: Manifest) -> None:
    """One .tar, the manifest first, so that a reader knows what to expect of the rest."""
    with open(descriptor, "wb", closefd=False) as file, tarfile.open(fileobj=file, mode="w") as packed:
        for name in (MANIFEST_NAME, *manifest.files):
            info = tarfile.TarInfo(name)
            info.size = (stage / name).stat().st_size
            info.mode, info.mtime = 0o600, manifest.taken_at_us // MICROS
            with (stage / name).open("rb") as content:
                packed.addfile(info, content)
