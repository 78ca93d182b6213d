"""Sealing: stored passwords and vendor keys, readable only with a key file that lies outside the database.

AES-256-GCM (NIST SP 800-38D) with a random 96-bit nonce per value. The place of a value (its record's random
uid, table and field) is the additional data, so a sealed value copied to another row or column does not open.

The key file is a ring. One key a line, `id state base64`, blank lines and lines starting with # are kept:

    added ──activate──▶ active ──activate another──▶ retiring ──retire──▶ retired
    opens               seals, opens                  opens                key bytes gone, id remembered

Rotation: add; reload() in every process; activate; reload(); seal every value again; retire. Each step
may be repeated after a stop. Whether anything still needs a key is known by its caller, not by the ring.
The file is 0600 and its owner's; it is replaced whole (written beside, fsync, rename), under a lock.
With random nonces a key is good for 2^32 values (SP 800-38D 8.3); rotate long before.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import fcntl
import os
import secrets
import stat
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple, NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_VERSION = 1
_KEY_BYTES = 32
_NONCE_BYTES = 12
_TAG_BYTES = 16
_HEAD = struct.Struct(">B4s")  # version, key id
_LEAST_BYTES = _HEAD.size + _NONCE_BYTES + _TAG_BYTES
_MOST_FILE_BYTES = 64 * 1024
_INTRO = (
    "# Postroom's key ring: the keys that seal stored passwords. Keep a copy, apart from the database's",
    "# backups: without this file no stored password can be read again. One key a line: id state base64.",
)


class KeyringError(Exception):
    """A key file that cannot be used, or a sealed value that does not open; the text holds no secret."""


class KeyState(StrEnum):
    """What a key of the ring is used for."""

    ADDED = "added"  # opens; waits until every process has it
    ACTIVE = "active"  # seals and opens; exactly one
    RETIRING = "retiring"  # opens, until everything is sealed anew
    RETIRED = "retired"  # gone; only its id is remembered


@dataclass(frozen=True)
class _Key:
    id: str
    state: KeyState
    raw: bytes = field(default=b"", repr=False)

    def line(self) -> str:
        return f"{self.id} {self.state} {base64.b64encode(self.raw).decode() or '-'}"


_Line = str | _Key


class _Keys(NamedTuple):
    active: str
    ciphers: Mapping[str, AESGCM]
    states: Mapping[str, KeyState]


class KeyRing:
    """The keys of one file. Made by `load` or `create`; safe to share between threads."""

    def __init__(self, path: Path, lines: Sequence[_Line]) -> None:
        self._path = path
        self._take(lines)

    @classmethod
    def create(cls, path: Path) -> KeyRing:
        """Make a new key file with one active key. Raises KeyringError when it exists or cannot be made.

        Call it only for a new installation: a fresh key opens nothing that was sealed before.
        """
        lines: list[_Line] = [*_INTRO, _new_key((), KeyState.ACTIVE)]
        try:
            with _written_beside(path, lines) as beside:
                os.link(beside, path)  # unlike rename, never replaces a file that is there
            _sync_folder(path.parent)
        except FileExistsError:
            raise KeyringError(f"the key file {path} exists already") from None
        except OSError as error:
            raise KeyringError(f"the key file {path} cannot be made: {error.strerror}") from error
        return cls(path, lines)

    @classmethod
    def load(cls, path: Path) -> KeyRing:
        """Read a key file. Raises KeyringError, with a sentence for the operator."""
        with _opened(path, os.O_RDONLY) as descriptor:
            return cls(path, _read(path, descriptor))

    def reload(self) -> None:
        """Take over what another process wrote; on KeyringError the keys at hand stay."""
        with _opened(self._path, os.O_RDONLY) as descriptor:
            lines = _read(self._path, descriptor)
        self._take(lines)

    def seal(self, plain: bytes, *, uid: bytes, table: str, field: str) -> bytes:
        """Seal `plain` for one place with the active key.

        uid: the record's random uid, not empty, made before the insert. The result is 33 bytes longer:
        version (1), key id (4), nonce (12), AES-GCM ciphertext and tag (16).
        """
        nonce = secrets.token_bytes(_NONCE_BYTES)
        keys = self._keys
        head = _HEAD.pack(_VERSION, bytes.fromhex(keys.active))
        return head + nonce + keys.ciphers[keys.active].encrypt(nonce, plain, _place(uid, table, field))

    def open(self, sealed: bytes, *, uid: bytes, table: str, field: str) -> bytes:
        """Open a sealed value of this place; KeyringError: it was changed or moved, or its key is absent."""
        key_id = key_id_of(sealed)
        keys = self._keys
        cipher = keys.ciphers.get(key_id)
        if cipher is None:
            if keys.states.get(key_id) is KeyState.RETIRED:
                raise KeyringError(
                    f"a value of {table}.{field} is sealed with key {key_id}, which was retired"
                )
            raise KeyringError(
                f"a value of {table}.{field} is sealed with key {key_id}, which is not in {self._path}; "
                "is this the key file that belongs to the database?"
            )
        nonce, data = sealed[_HEAD.size : _HEAD.size + _NONCE_BYTES], sealed[_HEAD.size + _NONCE_BYTES :]
        try:
            return cipher.decrypt(nonce, data, _place(uid, table, field))
        except InvalidTag:
            raise KeyringError(
                f"a sealed value of {table}.{field} does not open: changed, or moved from another place"
            ) from None

    def add(self) -> str:
        """Put a new key beside the active one, which goes on sealing; its id.

        Where one is waiting already (a rotation that stopped here), that one's id.
        """

        def change(keys: Sequence[_Key]) -> list[_Key]:
            if any(key.state is KeyState.ADDED for key in keys):
                return list(keys)
            return [*keys, _new_key([key.id for key in keys], KeyState.ADDED)]

        self._rewrite(change)
        return next(key_id for key_id, state in self._keys.states.items() if state is KeyState.ADDED)

    def activate(self, key_id: str) -> None:
        """Seal with this key from now on; the active one becomes retiring.

        Every process must have the key already (reload), or it cannot open what the others seal.
        """

        def change(keys: Sequence[_Key]) -> list[_Key]:
            if _found(keys, key_id).state is KeyState.RETIRED:
                raise KeyringError(f"key {key_id} was retired and cannot become active")
            return [_activated(key, key_id) for key in keys]

        self._rewrite(change)

    def retire(self, key_id: str) -> None:
        """Remove a key's bytes for ever; values sealed with it, in backups too, never open again.

        The active key is refused. The caller has made sure that nothing is sealed with this one.
        """

        def change(keys: Sequence[_Key]) -> list[_Key]:
            if _found(keys, key_id).state is KeyState.ACTIVE:
                raise KeyringError(f"key {key_id} is the active one; activate another first")
            return [_Key(key.id, KeyState.RETIRED) if key.id == key_id else key for key in keys]

        self._rewrite(change)

    @property
    def active_id(self) -> str:
        """The key that seals; 8 hex digits."""
        return self._keys.active

    @property
    def states(self) -> dict[str, KeyState]:
        """Every key id of the file, retired ones included, in the file's order."""
        return dict(self._keys.states)

    def __repr__(self) -> str:
        return f"KeyRing({', '.join(f'{key_id} {state}' for key_id, state in self._keys.states.items())})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a KeyRing is not pickled")

    def _take(self, lines: Sequence[_Line]) -> None:
        keys = [line for line in lines if isinstance(line, _Key)]
        active = [key.id for key in keys if key.state is KeyState.ACTIVE]
        if len(active) != 1:
            raise KeyringError(
                f"the key file {self._path} needs exactly one active key, it has {len(active)}"
            )
        # One assignment: a thread that seals meanwhile sees the old keys or the new ones, never some of each.
        self._keys = _Keys(
            active[0],
            {key.id: AESGCM(key.raw) for key in keys if key.state is not KeyState.RETIRED},
            {key.id: key.state for key in keys},
        )

    def _rewrite(self, change: Callable[[Sequence[_Key]], list[_Key]]) -> None:
        """Change the file as it is now, not as it was loaded, and take the result over."""
        path = self._path.resolve()  # a link to the file stays a link
        with _locked(path) as descriptor:
            before = _read(path, descriptor)
            keys = [line for line in before if isinstance(line, _Key)]
            changed = change(keys)
            if changed != keys:
                by_id = {key.id: key for key in changed}
                after: list[_Line] = [
                    by_id.pop(line.id) if isinstance(line, _Key) else line for line in before
                ]
                after += by_id.values()
                try:
                    with _written_beside(path, after) as beside:
                        os.rename(beside, path)
                    _sync_folder(path.parent)
                except OSError as error:
                    raise KeyringError(f"the key file {path} cannot be written: {error.strerror}") from error
                before = after
        self._take(before)


def key_id_of(sealed: bytes) -> str:
    """The id (8 hex digits) of the key a value is sealed with; KeyringError when it is not a sealed value."""
    if len(sealed) < _LEAST_BYTES or sealed[0] != _VERSION:
        raise KeyringError("this is not a value sealed by Postroom, or by a newer version of it")
    key_id: bytes = _HEAD.unpack_from(sealed)[1]
    return key_id.hex()


def _place(uid: bytes, table: str, field: str) -> bytes:
    """The additional data; each part behind its length, so that no two places share it."""
    if not uid:
        raise ValueError("a value is sealed for a record's uid, which is not empty")
    parts = (uid, table.encode(), field.encode())
    return b"".join(struct.pack(">I", len(part)) + part for part in parts)


def _new_key(taken: Sequence[str], state: KeyState) -> _Key:
    # Random ids: a wrong key file is then seen as such instead of as damage to the data.
    while (key_id := secrets.token_hex(4)) in taken:
        continue
    return _Key(key_id, state, secrets.token_bytes(_KEY_BYTES))


def _found(keys: Sequence[_Key], key_id: str) -> _Key:
    for key in keys:
        if key.id == key_id:
            return key
    raise KeyringError(f"there is no key {key_id} in the key file")


def _activated(key: _Key, key_id: str) -> _Key:
    if key.id == key_id:
        return replace(key, state=KeyState.ACTIVE)
    return replace(key, state=KeyState.RETIRING) if key.state is KeyState.ACTIVE else key


def _parse(path: Path, text: str) -> list[_Line]:
    lines: list[_Line] = []
    seen: set[str] = set()
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            lines.append(line)
            continue
        try:
            key_id, word, encoded = line.split()
            state = KeyState(word)
            raw = b"" if state is KeyState.RETIRED else base64.b64decode(encoded, validate=True)
            if bytes.fromhex(key_id).hex() != key_id or len(key_id) != 8 or key_id in seen:
                raise ValueError
            if len(raw) != (0 if state is KeyState.RETIRED else _KEY_BYTES):
                raise ValueError
        except (ValueError, binascii.Error):
            # Neither the line nor the cause: both may hold key bytes.
            raise KeyringError(
                f"line {number} of the key file {path} is not `id state base64`: its own id (8 hex digits), "
                f"a state ({', '.join(KeyState)}) and {_KEY_BYTES} bytes in base64"
            ) from None
        seen.add(key_id)
        lines.append(_Key(key_id, state, raw))
    return lines


@contextlib.contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
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
def _locked(path: Path) -> Iterator[int]:
    """The file, opened and locked, and still the one that lies at `path` (a rename may win the race)."""
    while True:
        with _opened(path, os.O_RDWR) as descriptor:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                    yield descriptor
                    return


def _read(path: Path, descriptor: int) -> list[_Line]:
    with open(descriptor, "rb", closefd=False) as file:
        data = file.read(_MOST_FILE_BYTES + 1)
    if len(data) > _MOST_FILE_BYTES:
        raise KeyringError(f"the key file {path} is larger than {_MOST_FILE_BYTES} bytes")
    try:
        return _parse(path, data.decode())
    except UnicodeDecodeError:
        raise KeyringError(f"the key file {path} is not UTF-8 text") from None


@contextlib.contextmanager
def _written_beside(path: Path, lines: Sequence[_Line]) -> Iterator[Path]:
    """A complete, durable file in the same folder, to be linked or renamed; gone afterwards."""
    text = "".join((line.line() if isinstance(line, _Key) else line) + "\n" for line in lines)
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


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
