"""The instance's own signing keys, sealed; one ring for each kind of token."""

from __future__ import annotations

import secrets

from postroom.keyring import KeyRing
from postroom.storage.interface import Sql, Work, now

_TABLE, _FIELD = "instance_keys", "key"
KEY_BYTES = 32


def load(ring: KeyRing, kind: str) -> Work[tuple[int, dict[int, bytes]]]:
    """The active key's id and all keys of a kind, opened; the first is made when there is none.

    Raises KeyringError when one was sealed with another key file.
    """
    rows = yield Sql(
        "SELECT key_id, uid, sealed, retired_at FROM instance_keys WHERE kind = :kind ORDER BY key_id",
        {"kind": kind},
    )
    if not rows:
        key, uid = secrets.token_bytes(KEY_BYTES), secrets.token_bytes(16)
        at_us = yield from now()
        yield Sql(
            "INSERT INTO instance_keys (kind, key_id, uid, sealed, created_at)"
            " VALUES (:kind, 1, :uid, :sealed, :at)",
            {
                "kind": kind,
                "uid": uid,
                "sealed": ring.seal(key, uid=uid, table=_TABLE, field=_FIELD),
                "at": at_us,
            },
        )
        return 1, {1: key}
    keys = {row[0]: ring.open(row[2], uid=row[1], table=_TABLE, field=_FIELD) for row in rows}
    active = max((row[0] for row in rows if row[3] is None), default=rows[-1][0])
    return active, keys
