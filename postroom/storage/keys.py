"""Our own API keys in the database: hashes and hints, never a key itself."""

from __future__ import annotations

from typing import Any

from sqlalchemy import insert, select, update

from postroom.core.key import Key
from postroom.ids import AccountId, KeyId, ServerId
from postroom.storage.interface import Sql, Work
from postroom.storage.tables import keys


def add(
    account_id: AccountId,
    server_id: ServerId | None,
    at_us: int,
    *,
    label: str,
    scopes: frozenset[str],
    hash: bytes,
    hint: str,
) -> Work[Key]:
    """Store a new key."""
    rows = yield (
        insert(keys)
        .values(
            account_id=account_id,
            server_id=server_id,
            label=label,
            scopes=" ".join(sorted(scopes)),
            hash=hash,
            hint=hint,
            created_at=at_us,
        )
        .returning(*keys.c)
    )
    return _key(rows[0])


def by_hash(hash: bytes) -> Work[Key | None]:
    """The key with this hash, unless revoked. The one look-up that names no account: it finds it."""
    rows = yield select(keys).where(keys.c.hash == hash, keys.c.revoked_at.is_(None))
    return _key(rows[0]) if rows else None


def get(account_id: AccountId, key_id: KeyId) -> Work[Key | None]:
    """The key, revoked or not, or None."""
    rows = yield select(keys).where(keys.c.account_id == account_id, keys.c.key_id == key_id)
    return _key(rows[0]) if rows else None


def list_of(account_id: AccountId, server_id: ServerId | None) -> Work[list[Key]]:
    """Keys that are not revoked, oldest first: one server's, or with None all of the account."""
    query = select(keys).where(keys.c.account_id == account_id, keys.c.revoked_at.is_(None))
    if server_id is not None:
        query = query.where(keys.c.server_id == server_id)
    rows = yield query.order_by(keys.c.key_id)
    return [_key(row) for row in rows]


def revoke(account_id: AccountId, key_id: KeyId, at_us: int) -> Work[bool]:
    """From now on the key opens nothing; False when it was revoked before, whose time stays."""
    rows = yield (
        update(keys)
        .where(keys.c.account_id == account_id, keys.c.key_id == key_id, keys.c.revoked_at.is_(None))
        .values(revoked_at=at_us)
        .returning(keys.c.key_id)
    )
    return bool(rows)


def revoke_of_server(account_id: AccountId, server_id: ServerId, at_us: int) -> Work[None]:
    """Revoke every key of a server."""
    yield (
        update(keys)
        .where(keys.c.account_id == account_id, keys.c.server_id == server_id, keys.c.revoked_at.is_(None))
        .values(revoked_at=at_us)
    )


def touch(account_id: AccountId, key_id: KeyId, at_us: int) -> Work[bool]:
    """Note that the key was used; an earlier time never replaces a later one. Whether it is its first use."""
    which = {"at": at_us, "account_id": account_id, "key_id": key_id}
    first = yield Sql(
        "UPDATE keys SET last_used_at = :at WHERE account_id = :account_id AND key_id = :key_id"
        " AND last_used_at IS NULL RETURNING key_id",
        which,
    )
    if not first:
        yield Sql(
            "UPDATE keys SET last_used_at = :at WHERE account_id = :account_id AND key_id = :key_id"
            " AND last_used_at < :at",
            which,
        )
    return bool(first)


def _key(row: Any) -> Key:  # Any: a driver's row carries no types
    return Key(
        key_id=KeyId(row.key_id),
        account_id=AccountId(row.account_id),
        server_id=None if row.server_id is None else ServerId(row.server_id),
        label=row.label,
        scopes=frozenset(row.scopes.split()),
        hint=row.hint,
        created_at_us=row.created_at,
        last_used_at_us=row.last_used_at,
        revoked_at_us=row.revoked_at,
    )
