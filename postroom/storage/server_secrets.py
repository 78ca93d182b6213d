"""What of a server's fields is secret, sealed: keys its owner is shown again, passwords in URLs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import delete, select

from postroom.ids import AccountId, KeyId, ServerId
from postroom.storage.interface import Sql, Work
from postroom.storage.tables import keys, server_secrets

SECRETS_TABLE = server_secrets.name
_TOKEN = "token "  # noqa: S105  # a name, no secret


@dataclass(frozen=True)
class ServerSecret:
    """One of them. `uid` and `field`: with the table's name, the place it is sealed for."""

    server_id: ServerId
    field: str
    uid: bytes
    sealed: bytes


def token_field(key_id: KeyId) -> str:
    """The field a key's text is kept under."""
    return f"{_TOKEN}{key_id}"


def put(account_id: AccountId, secret: ServerSecret) -> Work[None]:
    """Store one, in place of what was there."""
    yield Sql(
        "INSERT INTO server_secrets (account_id, server_id, field, uid, sealed)"
        " VALUES (:account_id, :server_id, :field, :uid, :sealed)"
        " ON CONFLICT (server_id, field) DO UPDATE SET uid = excluded.uid, sealed = excluded.sealed",
        {
            "account_id": account_id,
            "server_id": secret.server_id,
            "field": secret.field,
            "uid": secret.uid,
            "sealed": secret.sealed,
        },
    )


def remove(account_id: AccountId, server_id: ServerId, fields: Sequence[str] | None = None) -> Work[None]:
    """Forget these, or with None all of the server's."""
    gone = delete(server_secrets).where(
        server_secrets.c.account_id == account_id, server_secrets.c.server_id == server_id
    )
    yield gone if fields is None else gone.where(server_secrets.c.field.in_(fields))


def list_of(account_id: AccountId, server_ids: Sequence[ServerId]) -> Work[list[ServerSecret]]:
    """Those of these servers; of keys only those in force, oldest first."""
    rows = yield (
        select(keys.c.key_id).where(
            keys.c.account_id == account_id, keys.c.server_id.in_(server_ids), keys.c.revoked_at.is_(None)
        )
    )
    valid = {token_field(row[0]): row[0] for row in rows}
    rows = yield (
        select(server_secrets)
        .where(server_secrets.c.account_id == account_id, server_secrets.c.server_id.in_(server_ids))
        .order_by(server_secrets.c.server_id, server_secrets.c.field)
    )
    found = [ServerSecret(ServerId(row.server_id), row.field, row.uid, row.sealed) for row in rows]
    kept = [one for one in found if one.field in valid or not is_token(one)]
    return sorted(kept, key=lambda one: (one.server_id, valid.get(one.field, 0), one.field))


def is_token(secret: ServerSecret) -> bool:
    """Whether it is the text of a key."""
    return secret.field.startswith(_TOKEN)
