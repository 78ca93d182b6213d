"""Reading a backup: its files are checked against the manifest byte by byte on their way out.

What comes in may be anything: a .tar gives only regular files of the three names, each once, no longer than
the manifest says; no path of it is ever used.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import tarfile
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from postroom.backup.manifest import (
    MANIFEST_NAME,
    MOST_KEY_RING_BYTES,
    MOST_MANIFEST_BYTES,
    Damaged,
    File,
    Manifest,
    decode,
    file_of,
)
from postroom.backup.sealed import require_opens
from postroom.clock import Clock
from postroom.errors import NotFound
from postroom.folder import DATABASE_NAME, KEY_RING_NAME, sync
from postroom.keyring import KeyRing
from postroom.storage import sqlite_files

_PIECE_BYTES = 1 << 20
_CHANGED = "{name} is not what was backed up: its size or its SHA-256 is another"


@dataclass(frozen=True)
class Unpacked:
    """A backup whose files lie in `folder`, each as the manifest says."""

    folder: Path
    manifest: Manifest

    @property
    def database(self) -> Path:
        """The database."""
        return self.folder / DATABASE_NAME

    @property
    def key_file(self) -> Path | None:
        """The key file, if it is part of the backup."""
        return self.folder / KEY_RING_NAME if self.manifest.has_key_file else None


def unpack(source: Path, into: Path) -> Unpacked:
    """Copy a backup's files into an empty folder, durably, comparing sizes and hashes.

    Raises NotFound, Damaged, OSError.
    """
    if not source.exists():
        raise NotFound(f"backup {source}")
    files = _of_folder(source) if source.is_dir() else _of_tar(source)
    try:
        name, content = next(files)
        if name != MANIFEST_NAME:
            raise Damaged(f"{source} is no backup: it does not begin with {MANIFEST_NAME}")
        manifest = decode(content.read(MOST_MANIFEST_BYTES))
        missing = dict(manifest.files)
        for name, content in files:
            expected = missing.pop(name, None)
            if expected is None:
                raise Damaged(f"{source} holds {name[:80]!r}, which its manifest does not name")
            if name == KEY_RING_NAME and expected.size_bytes > MOST_KEY_RING_BYTES:
                raise Damaged(f"{source}: {name} is larger than a key file can be")
            _take(name, content, expected, into / name)
        if missing:
            raise Damaged(f"{source} lacks {', '.join(missing)}")
    except (tarfile.TarError, EOFError) as error:
        raise Damaged(f"{source} is neither a folder nor a whole .tar: {error}") from error
    except StopIteration:
        raise Damaged(f"{source} is no backup: it is empty") from None
    finally:
        files.close()
    sync(into)
    return Unpacked(into, manifest)


def in_place(source: Path) -> Unpacked:
    """The same for a folder, without copying it. Raises NotFound, Damaged, OSError."""
    if not source.exists():
        raise NotFound(f"backup {source}")
    if not (source / MANIFEST_NAME).is_file():
        raise Damaged(f"{source} is no backup: there is no {MANIFEST_NAME} in it")
    with (source / MANIFEST_NAME).open("rb") as content:
        manifest = decode(content.read(MOST_MANIFEST_BYTES))
    for name, expected in manifest.files.items():
        if not (source / name).is_file():
            raise Damaged(f"{source} lacks {name}")
        if file_of(source / name) != expected:
            raise Damaged(_CHANGED.format(name=name))
    return Unpacked(source, manifest)


def verify(backup: Unpacked, key_file: Path | None, clock: Clock) -> int | None:
    """Look over an unpacked backup; how many secrets the key file opens, None where there is none to try.

    key_file: one that lies elsewhere. Raises Damaged, KeyringError.
    """
    if faults := sqlite_files.faults(backup.database, clock, indexes=True):
        raise Damaged(f"the database of the backup is damaged: {'; '.join(faults)}")
    ring_file = key_file or backup.key_file
    if ring_file is None:
        return None
    try:
        return require_opens(backup.database, KeyRing.load(ring_file), clock)
    except sqlite3.Error as error:
        raise Damaged(f"the database of the backup cannot be read: {error}") from error


def _of_folder(source: Path) -> Generator[tuple[str, IO[bytes]], None, None]:
    for name in (MANIFEST_NAME, DATABASE_NAME, KEY_RING_NAME):
        path = source / name
        if not path.is_file():
            if name == MANIFEST_NAME:
                raise Damaged(f"{source} is no backup: there is no {MANIFEST_NAME} in it")
            continue
        with path.open("rb") as content:
            yield name, content


def _of_tar(source: Path) -> Generator[tuple[str, IO[bytes]], None, None]:
    with tarfile.open(source, mode="r:") as packed:
        for member in packed:
            content = packed.extractfile(member) if member.isreg() else None
            if content is None:
                raise Damaged(f"{source} holds {member.name[:80]!r}, which is no plain file")
            with content:
                yield member.name, content


def _take(name: str, content: IO[bytes], expected: File, target: Path) -> None:
    digest, left = hashlib.sha256(), expected.size_bytes
    with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
        while piece := content.read(min(_PIECE_BYTES, left + 1)):
            left -= len(piece)
            if left < 0:
                break
            digest.update(piece)
            file.write(piece)
    if left or digest.hexdigest() != expected.sha256:
        raise Damaged(_CHANGED.format(name=name))
    sync(target)
