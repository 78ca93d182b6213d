"""The instance's own signing keys, sealed; one ring for each kind of token."""

from __future__ import annotations

import secrets

from postroom.keyring import KeyRing, KeyringError
from postroom.storage import generations
from postroom.storage.interface import Sql, Work, now
from postroom.storage.sealed import INSTANCE_KEY_FIELD, rows_by_key
from postroom.storage.tables import instance_keys

CHECK = "check"  # signs nothing: whether it opens says whether the key file is this database's
KEY_BYTES = 32


_OF_KIND = "SELECT key_id, uid, sealed, retired_at FROM instance_keys WHERE kind = :kind ORDER BY key_id"


def exist() -> Work[bool]:
    """Whether anything was ever sealed for this database: the first start makes one."""
    rows = yield Sql("SELECT 1 FROM instance_keys LIMIT 1")
    return bool(rows)


def load(ring: KeyRing, kind: str) -> Work[tuple[int, dict[int, bytes]]]:
    """The active key's id and all keys of a kind, opened; the first is made when there is none.

    Raises KeyringError when one was sealed with another key file.
    """
    rows = yield Sql(_OF_KIND, {"kind": kind})
    if not rows:
        uid, at_us = secrets.token_bytes(16), (yield from now())
        key = secrets.token_bytes(KEY_BYTES)
        yield from generations.hold(generations.KEY_FILE)
        ring.reload()  # another process may have rotated it since we read it
        yield Sql(
            "INSERT INTO instance_keys (kind, key_id, uid, sealed, created_at)"
            " VALUES (:kind, 1, :uid, :sealed, :at) ON CONFLICT (kind, key_id) DO NOTHING",
            {
                "kind": kind,
                "uid": uid,
                "sealed": ring.seal(key, uid=uid, table=instance_keys.name, field=INSTANCE_KEY_FIELD),
                "at": at_us,
            },
        )
        rows = yield Sql(_OF_KIND, {"kind": kind})  # another process may have been quicker
    keys = {
        row[0]: ring.open(row[2], uid=row[1], table=instance_keys.name, field=INSTANCE_KEY_FIELD)
        for row in rows
    }
    active = max((row[0] for row in rows if row[3] is None), default=rows[-1][0])
    return active, keys


def check(ring: KeyRing) -> Work[None]:
    """Whether this ring is the one of this database; known at start, not at the first login.

    Raises KeyringError, with what to do.
    """
    for key_id, tables in (yield from rows_by_key()).items():
        if ring.can_open(key_id):
            continue
        count = sum(tables.values())
        if key_id in ring.states:
            raise KeyringError(
                f"{count} stored secrets are sealed with key {key_id}, which {ring.path} has retired: "
                "put back a copy of the key file from before that, as old as this database"
            )
        raise KeyringError(
            f"{count} stored secrets are sealed with key {key_id}, which is not in {ring.path}: this is the "
            "key file of another database; put the right one there"
        )
    try:
        yield from load(ring, CHECK)
    except KeyringError as error:
        raise KeyringError(f"{ring.path} is not the key file of this database: {error}") from error
