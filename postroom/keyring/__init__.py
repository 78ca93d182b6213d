"""Sealing: stored passwords and vendor keys, readable only with a key file that lies outside the database.

AES-256-GCM (NIST SP 800-38D) with a random 96-bit nonce per value. The place of a value (its record's random
uid, table and field) is the additional data, so a sealed value copied to another row or column does not open.

The key file (`keyring.file`) is a ring:

    added ──activate──▶ active ──activate another──▶ retiring ──retire──▶ retired
    opens               seals, opens                  opens   └─keep──▶ kept ──┘
                                                                        opens; for older backups

Rotation: add; reload() in every process; activate; reload(); seal every value again; retire or keep. Each
step may be repeated after a stop. Whether anything still needs a key is known by its caller, not by the ring.
A ring never takes over a file in which a key it holds is missing: that file belongs to another database.
With random nonces a key is good for 2^32 values (SP 800-38D 8.3); rotate long before.
"""

from __future__ import annotations

import os
import secrets
import struct
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from postroom.keyring import file
from postroom.keyring.file import Key, KeyringError, KeyState, Line, found, new_key

__all__ = ["KeyRing", "KeyState", "KeyringError", "key_id_of"]

_VERSION = 1
_MOST_RETIRED = 50
_NONCE_BYTES = 12
_TAG_BYTES = 16
_HEAD = struct.Struct(">B4s")  # version, key id
_LEAST_BYTES = _HEAD.size + _NONCE_BYTES + _TAG_BYTES


class _Keys(NamedTuple):
    active: str
    ciphers: Mapping[str, AESGCM]
    all: Mapping[str, Key]


class KeyRing:
    """The keys of one file, or of a text; from `load`, `create` or `given`. Safe to share between threads."""

    def __init__(self, path: Path, lines: Sequence[Line], *, fixed: bool = False) -> None:
        """fixed: there is no file; `path` says in messages where the keys come from."""
        self._path, self._fixed = path, fixed
        # Who read the file before another thread changed it must not have the last word.
        self._changing = threading.Lock()
        self._keys = _keys_of(path, lines)
        self.generation = 0  # for its user, who counts how often the file was changed

    @classmethod
    def create(cls, path: Path) -> KeyRing:
        """Make a new key file with one active key. Raises KeyringError when it exists or cannot be made.

        Call it only for a new installation: a fresh key opens nothing that was sealed before.
        """
        lines: list[Line] = [*file.INTRO, new_key((), KeyState.ACTIVE)]
        try:
            with file.written_beside(path, lines) as beside:
                os.link(beside, path)  # unlike rename, never replaces a file that is there
            file.sync_folder(path.parent)
        except FileExistsError:
            raise KeyringError(f"the key file {path} exists already") from None
        except OSError as error:
            raise KeyringError(f"the key file {path} cannot be made: {error.strerror}") from error
        return cls(path, lines)

    @classmethod
    def load(cls, path: Path) -> KeyRing:
        """Read a key file. Raises KeyringError, with a sentence for the operator."""
        with file.opened(path, os.O_RDONLY) as descriptor:
            return cls(path, file.read(path, descriptor))

    @classmethod
    def given(cls, text: str, where: str) -> KeyRing:
        """The keys of a text, which stay as they are; `;` may stand for a line's end. Raises KeyringError."""
        place = Path(where)
        return cls(place, file.parse(place, text.replace(";", "\n")), fixed=True)

    def reload(self) -> None:
        """Take over what another process wrote; on KeyringError the keys at hand stay."""
        if self._fixed:
            return
        with self._changing:
            with file.opened(self._path, os.O_RDONLY) as descriptor:
                lines = file.read(self._path, descriptor)
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
            if key_id in keys.all:
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

        def change(keys: Sequence[Key]) -> list[Key]:
            if any(key.state is KeyState.ADDED for key in keys):
                return list(keys)
            return [*_remembered(keys), new_key([key.id for key in keys], KeyState.ADDED)]

        self._rewrite(change)
        return next(key.id for key in self._keys.all.values() if key.state is KeyState.ADDED)

    def activate(self, key_id: str) -> None:
        """Seal with this key from now on; the active one becomes retiring.

        Every process must have the key already (reload), or it cannot open what the others seal.
        """

        def change(keys: Sequence[Key]) -> list[Key]:
            if found(keys, key_id).state is KeyState.RETIRED:
                raise KeyringError(f"key {key_id} was retired and cannot become active")
            return [file.activated(key, key_id) for key in keys]

        self._rewrite(change)

    def retire(self, key_id: str) -> None:
        """Remove a key's bytes for ever; values sealed with it, in backups too, never open again.

        The active key is refused. The caller has made sure that nothing is sealed with this one.
        """

        def change(keys: Sequence[Key]) -> list[Key]:
            if found(keys, key_id).state is KeyState.ACTIVE:
                raise KeyringError(f"key {key_id} is the active one; activate another first")
            return [
                replace(key, state=KeyState.RETIRED, raw=b"") if key.id == key_id else key for key in keys
            ]

        self._rewrite(change)

    def keep(self, key_id: str) -> None:
        """Let a retiring key go on opening, for backups that were made under it."""

        def change(keys: Sequence[Key]) -> list[Key]:
            if found(keys, key_id).state not in (KeyState.RETIRING, KeyState.KEPT):
                raise KeyringError(f"key {key_id} is not retiring")
            return [replace(key, state=KeyState.KEPT) if key.id == key_id else key for key in keys]

        self._rewrite(change)

    @property
    def path(self) -> Path:
        """Where the file lies."""
        return self._path

    @property
    def active_id(self) -> str:
        """The key that seals; 8 hex digits."""
        return self._keys.active

    @property
    def states(self) -> dict[str, KeyState]:
        """Every key id of the file, retired ones included, in the file's order."""
        return {key.id: key.state for key in self._keys.all.values()}

    def knows(self, key_id: str) -> bool:
        """Whether this key stands in the file, retired or not."""
        return key_id in self._keys.all

    def can_open(self, key_id: str) -> bool:
        """Whether a value sealed with this key opens."""
        return key_id in self._keys.ciphers

    @property
    def created(self) -> dict[str, str]:
        """When each key was made, `2026-11-21T09:30:00Z`; "" where the file does not say."""
        return {key.id: key.created for key in self._keys.all.values()}

    def __repr__(self) -> str:
        return f"KeyRing({', '.join(f'{key_id} {state}' for key_id, state in self.states.items())})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a KeyRing is not pickled")

    def _take(self, lines: Sequence[Line]) -> None:
        """Use these keys from now on; KeyringError, and those at hand stay, where one is missing."""
        taken = _keys_of(self._path, lines)
        for key in self._keys.all.values():
            other = taken.all.get(key.id)
            if other is None and key.state is KeyState.RETIRED:
                continue
            if other is None or (other.raw != key.raw and KeyState.RETIRED not in (key.state, other.state)):
                raise KeyringError(
                    f"{self._path} is another key file than the one this process began with: key {key.id} "
                    f"is {'missing' if other is None else 'another one'}; put the right file back"
                )
        # One assignment: a thread that seals meanwhile sees the old keys or the new ones, never some of each.
        self._keys = taken

    def _rewrite(self, change: Callable[[Sequence[Key]], list[Key]]) -> None:
        """Change the file as it is now, not as it was loaded, and take the result over."""
        if self._fixed:
            raise KeyringError(
                f"the keys come from {self._path}, which no command can change: put them into a key file,"
                " change that, and set its content anew wherever Postroom runs"
            )
        with self._changing:
            self._rewrite_alone(change)

    def _rewrite_alone(self, change: Callable[[Sequence[Key]], list[Key]]) -> None:
        path = self._path.resolve()  # a link to the file stays a link
        with file.locked(path) as descriptor:
            before = file.read(path, descriptor)
            self._take(before)  # before anything is written: a file of another database stays as it is
            keys = [line for line in before if isinstance(line, Key)]
            changed = change(keys)
            if changed != keys:
                by_id = {key.id: key for key in changed}
                after: list[Line] = [
                    by_id.pop(line.id) if isinstance(line, Key) else line
                    for line in before
                    if not isinstance(line, Key) or line.id in by_id
                ]
                after += by_id.values()
                try:
                    with file.written_beside(path, after) as beside:
                        os.rename(beside, path)
                    file.sync_folder(path.parent)
                except OSError as error:
                    raise KeyringError(f"the key file {path} cannot be written: {error.strerror}") from error
                before = after
        self._take(before)


def _remembered(keys: Sequence[Key]) -> list[Key]:
    """The keys without the oldest retired ones: the file stays small, however often it is rotated."""
    retired = [key.id for key in keys if key.state is KeyState.RETIRED]
    forgotten = set(retired[:-_MOST_RETIRED])
    return [key for key in keys if key.id not in forgotten]


def _keys_of(path: Path, lines: Sequence[Line]) -> _Keys:
    keys = [line for line in lines if isinstance(line, Key)]
    active = [key.id for key in keys if key.state is KeyState.ACTIVE]
    if len(active) != 1:
        raise KeyringError(f"the key file {path} needs exactly one active key, it has {len(active)}")
    ciphers = {key.id: AESGCM(key.raw) for key in keys if key.state is not KeyState.RETIRED}
    return _Keys(active[0], ciphers, {key.id: key for key in keys})


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
