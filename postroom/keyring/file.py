"""The key file: `id state base64 time`, one key a line; read and replaced so that no step of it can be lost.

    # a comment
    9f0c1a2b active q83v… 2026-11-21T09:30:00Z

The time says when the key was made, for people; a line without it is as good. Blank lines and lines that
start with # are kept. The file is 0600 and its owner's; it is replaced whole (written beside, fsync, rename,
fsync of the folder), under a lock on the file that lies there.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import fcntl
import os
import re
import secrets
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

KEY_BYTES = 32
_MOST_FILE_BYTES = 64 * 1024
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
INTRO = (
    "# Postroom's key ring: the keys that seal stored passwords. Keep a copy, apart from the database's",
    "# backups: without this file no stored password can be read again. A line: id state base64 time.",
)


class KeyringError(Exception):
    """A key file that cannot be used, or a sealed value that does not open; the text holds no secret."""


class KeyState(StrEnum):
    """What a key of the ring is used for."""

    ADDED = "added"  # opens; waits until every process has it
    ACTIVE = "active"  # seals and opens; exactly one
    RETIRING = "retiring"  # opens, until everything is sealed anew
    KEPT = "kept"  # opens; nothing of the database needs it, but older backups do
    RETIRED = "retired"  # gone; only its id is remembered


@dataclass(frozen=True)
class Key:
    """One line of the file. created: when it was made, `2026-11-21T09:30:00Z`; "" where nobody noted it."""

    id: str
    state: KeyState
    raw: bytes = field(default=b"", repr=False)
    created: str = ""

    def line(self) -> str:
        """As it stands in the file."""
        encoded = base64.b64encode(self.raw).decode() or "-"
        return f"{self.id} {self.state} {encoded} {self.created}".rstrip()


Line = str | Key


def new_key(taken: Sequence[str], state: KeyState) -> Key:
    """A fresh key. Ids are random: a wrong key file is then seen as such, not as damage to the data."""
    while (key_id := secrets.token_hex(4)) in taken:
        continue
    return Key(key_id, state, secrets.token_bytes(KEY_BYTES), f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}")


def found(keys: Sequence[Key], key_id: str) -> Key:
    """The key with this id. Raises KeyringError."""
    for key in keys:
        if key.id == key_id:
            return key
    raise KeyringError(f"there is no key {key_id} in the key file")


def activated(key: Key, key_id: str) -> Key:
    """The key as it is once `key_id` seals."""
    if key.id == key_id:
        return replace(key, state=KeyState.ACTIVE)
    return replace(key, state=KeyState.RETIRING) if key.state is KeyState.ACTIVE else key


def parse(path: Path, text: str) -> list[Line]:
    """The lines of a key file's text. Raises KeyringError."""
    lines: list[Line] = []
    seen: set[str] = set()
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            lines.append(line)
            continue
        try:
            key_id, word, encoded, *more = line.split()
            state = KeyState(word)
            raw = b"" if state is KeyState.RETIRED else base64.b64decode(encoded, validate=True)
            if bytes.fromhex(key_id).hex() != key_id or len(key_id) != 8 or key_id in seen:
                raise ValueError
            if len(raw) != (0 if state is KeyState.RETIRED else KEY_BYTES):
                raise ValueError
            if len(more) > 1 or not all(map(_TIME.fullmatch, more)):
                raise ValueError
        except (ValueError, binascii.Error):
            # Neither the line nor the cause: both may hold key bytes.
            raise KeyringError(
                f"line {number} of the key file {path} is not `id state base64 time`: its own id (8 hex "
                f"digits), a state ({', '.join(KeyState)}), {KEY_BYTES} bytes in base64 and perhaps a time"
            ) from None
        seen.add(key_id)
        lines.append(Key(key_id, state, raw, *more))
    return lines


@contextlib.contextmanager
def opened(path: Path, flags: int) -> Iterator[int]:
    """An open descriptor of the file, once nobody else can read or own it."""
    try:
        descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO must not hold up the start
    except FileNotFoundError:
        raise KeyringError(f"there is no key file at {path}") from None
    except OSError as error:
        raise KeyringError(f"the key file {path} cannot be opened: {error.strerror}") from error
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise KeyringError(f"the key file {path} is not a regular file")
        if found.st_uid != os.geteuid():
            raise KeyringError(
                f"the key file {path} belongs to user {found.st_uid}, but Postroom runs as user "
                f"{os.geteuid()}; give it to the user that runs Postroom"
            )
        if found.st_mode & 0o077:
            raise KeyringError(
                f"the key file {path} has mode {stat.S_IMODE(found.st_mode):04o}, so others may use it; "
                f"run: chmod 600 {path}"
            )
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[int]:
    """The file, opened and locked, and still the one that lies at `path` (a rename may win the race)."""
    while True:
        with opened(path, os.O_RDWR) as descriptor:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                    yield descriptor
                    return


def read(path: Path, descriptor: int) -> list[Line]:
    """The lines of an open key file. Raises KeyringError."""
    with open(descriptor, "rb", closefd=False) as file:
        data = file.read(_MOST_FILE_BYTES + 1)
    if len(data) > _MOST_FILE_BYTES:
        raise KeyringError(f"the key file {path} is larger than {_MOST_FILE_BYTES} bytes")
    try:
        return parse(path, data.decode())
    except UnicodeDecodeError:
        raise KeyringError(f"the key file {path} is not UTF-8 text") from None


@contextlib.contextmanager
def written_beside(path: Path, lines: Sequence[Line]) -> Iterator[Path]:
    """A complete, durable file in the same folder, to be linked or renamed; gone afterwards."""
    text = "".join((line.line() if isinstance(line, Key) else line) + "\n" for line in lines)
    beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(descriptor)
        yield beside
    finally:
        beside.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make a new name in this folder outlive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
