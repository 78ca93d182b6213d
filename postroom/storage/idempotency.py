"""Idempotency rows: written in the commit of the message they name, kept for a day."""

from __future__ import annotations

from dataclasses import dataclass

from postroom.ids import AccountId, KeyId, MessageId
from postroom.storage.interface import Sql, Work


@dataclass(frozen=True)
class Remembered:
    """A request that was accepted before."""

    fingerprint: bytes
    message_id: MessageId


def get(account_id: AccountId, key_id: KeyId, name: str, oldest_us: int) -> Work[Remembered | None]:
    """The request of this name that is not older than `oldest_us`."""
    rows = yield Sql(
        "SELECT fingerprint, message_id FROM idempotency WHERE account_id = :account_id"
        " AND key_id = :key_id AND name = :name AND created_at > :oldest",
        {"account_id": account_id, "key_id": key_id, "name": name, "oldest": oldest_us},
    )
    return Remembered(rows[0][0], rows[0][1]) if rows else None


def put(
    account_id: AccountId, key_id: KeyId, name: str, fingerprint: bytes, message_id: MessageId, at_us: int
) -> Work[None]:
    """Remember a request; one of the same name that is too old is replaced."""
    yield Sql(
        "INSERT INTO idempotency (account_id, key_id, name, fingerprint, message_id, created_at)"
        " VALUES (:account_id, :key_id, :name, :fingerprint, :message_id, :at)"
        " ON CONFLICT (account_id, key_id, name) DO UPDATE SET fingerprint = excluded.fingerprint,"
        " message_id = excluded.message_id, created_at = excluded.created_at",
        {
            "account_id": account_id,
            "key_id": key_id,
            "name": name,
            "fingerprint": fingerprint,
            "message_id": message_id,
            "at": at_us,
        },
    )
