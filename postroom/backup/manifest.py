"""The manifest of a backup, and what is wrong with one."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import msgspec

from postroom.errors import Conflict
from postroom.folder import DATABASE_NAME, KEY_RING_NAME

MANIFEST_NAME = "manifest.json"
FORMAT = 1
MOST_MANIFEST_BYTES = 1 << 20
MOST_KEY_RING_BYTES = 64 << 10
_PIECE_BYTES = 1 << 20


class Damaged(Conflict):
    """This is no backup, or not what was once backed up."""


class File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of a backup."""

    size_bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """manifest.json. keys: how many secrets of the database each key of the key file seals."""

    format: int
    postroom: str
    schema: str
    instance: str
    taken_at: str
    taken_at_us: int
    files: dict[str, File]
    keys: dict[str, int]
    messages: int
    newest_message_at: str | None
    deliveries: dict[str, int]

    @property
    def database(self) -> File:
        """The database's size and hash."""
        return self.files[DATABASE_NAME]

    @property
    def has_key_file(self) -> bool:
        """Whether the key file is in it."""
        return KEY_RING_NAME in self.files

    def encode(self) -> bytes:
        """As it is written."""
        return json.dumps(msgspec.to_builtins(self), indent=2).encode() + b"\n"


def decode(data: bytes) -> Manifest:
    """A manifest that was read. Raises Damaged, for one of a newer format too."""
    try:
        found = msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise Damaged(f"{MANIFEST_NAME} is not a backup's manifest: {error}") from error
    if found.format != FORMAT:
        raise Damaged(
            f"this backup is of format {found.format}, made by Postroom {found.postroom}; this is older"
        )
    if DATABASE_NAME not in found.files or set(found.files) - {DATABASE_NAME, KEY_RING_NAME}:
        raise Damaged(f"{MANIFEST_NAME} names other files than a backup has")
    return found


def file_of(path: Path) -> File:
    """A file's size and hash. Raises OSError."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
            size += len(piece)
    return File(size, digest.hexdigest())
