"""Idempotency rows: written in the commit of the message they name, kept for a day.

The row comes first. Where several processes write, whoever inserts second waits at it for the first one's
commit, and then finds what was accepted; if that one gave up, the name is free and the second goes on.
"""

from __future__ import annotations

from dataclasses import dataclass

from postroom.ids import AccountId, KeyId, MessageId
from postroom.storage.interface import Sql, Work


@dataclass(frozen=True)
class Remembered:
    """A request that was accepted before."""

    fingerprint: bytes
    message_id: MessageId


def begin(
    account_id: AccountId, key_id: KeyId, name: str, fingerprint: bytes, at_us: int, oldest_us: int
) -> Work[Remembered | None]:
    """Take this name for the message that the unit goes on to store; `finish` says which.

    Returns the request that has the name already and is newer than `oldest_us`.
    """
    which = {"account_id": account_id, "key_id": key_id, "name": name}
    while True:
        mine = yield Sql(
            "INSERT INTO idempotency (account_id, key_id, name, fingerprint, message_id, created_at)"
            " VALUES (:account_id, :key_id, :name, :fingerprint, 0, :at)"
            " ON CONFLICT (account_id, key_id, name) DO UPDATE SET fingerprint = excluded.fingerprint,"
            " message_id = 0, created_at = excluded.created_at WHERE idempotency.created_at <= :oldest"
            " RETURNING message_id",
            {**which, "fingerprint": fingerprint, "at": at_us, "oldest": oldest_us},
        )
        if mine:
            return None
        rows = yield Sql(
            "SELECT fingerprint, message_id FROM idempotency"
            " WHERE account_id = :account_id AND key_id = :key_id AND name = :name",
            which,
        )
        if rows:  # else housekeeping took it away between the two
            return Remembered(rows[0][0], rows[0][1])


def finish(account_id: AccountId, key_id: KeyId, name: str, message_id: MessageId) -> Work[None]:
    """This is the message that the name stands for."""
    yield Sql(
        "UPDATE idempotency SET message_id = :message_id"
        " WHERE account_id = :account_id AND key_id = :key_id AND name = :name",
        {"account_id": account_id, "key_id": key_id, "name": name, "message_id": message_id},
    )
