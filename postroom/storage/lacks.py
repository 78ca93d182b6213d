"""What connections were found to lack: what their peers cannot carry, until it is tried again."""

from __future__ import annotations

from dataclasses import dataclass

from postroom.ids import AccountId, ConnectionId
from postroom.storage.interface import Sql, Work


@dataclass(frozen=True)
class Lack:
    """A connection that cannot carry what has this need (`core.need`), until then."""

    connection_id: ConnectionId
    need: str
    until_us: int


def record(account_id: AccountId, lack: Lack, text: str) -> Work[None]:
    """A peer could not carry a message; `text`: in words."""
    yield Sql(
        "INSERT INTO lacks (account_id, connection_id, need, until, text)"
        " VALUES (:account_id, :connection_id, :need, :until, :text)"
        " ON CONFLICT (connection_id, need) DO UPDATE SET until = excluded.until, text = excluded.text",
        {
            "account_id": account_id,
            "connection_id": lack.connection_id,
            "need": lack.need,
            "until": lack.until_us,
            "text": text,
        },
    )


def of_account(account_id: AccountId, at_us: int) -> Work[list[Lack]]:
    """What is known of an account's connections now."""
    rows = yield Sql(
        "SELECT connection_id, need, until FROM lacks WHERE account_id = :account_id AND until > :now",
        {"account_id": account_id, "now": at_us},
    )
    return [Lack(*row) for row in rows]


def forget(account_id: AccountId, connection_id: ConnectionId) -> Work[None]:
    """It was changed or deleted: what was known of it counts no more."""
    yield Sql(
        "DELETE FROM lacks WHERE account_id = :account_id AND connection_id = :connection_id",
        {"account_id": account_id, "connection_id": connection_id},
    )
