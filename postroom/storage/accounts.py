"""Accounts in the database."""

from __future__ import annotations

from typing import Any

from sqlalchemy import insert, select, update

from postroom.core.server import Account
from postroom.ids import AccountId
from postroom.storage.interface import Sql, Work
from postroom.storage.tables import accounts


def add(name: str, at_us: int) -> Work[Account]:
    """Store a new account."""
    rows = yield insert(accounts).values(name=name, created_at=at_us).returning(*accounts.c)
    return _account(rows[0])


def get(account_id: AccountId) -> Work[Account | None]:
    """The account, or None when absent or deleted."""
    rows = yield select(accounts).where(accounts.c.account_id == account_id, accounts.c.deleted_at.is_(None))
    return _account(rows[0]) if rows else None


def hold(account_id: AccountId) -> Work[None]:
    """Until this unit ends nobody else changes what belongs to the account (0: to the installation).

    For units that look first and write by what they saw: its servers, keys, identities, connections.
    """
    lock = " FOR NO KEY UPDATE"
    if account_id:
        yield Sql("SELECT 1 FROM accounts WHERE account_id = :id", {"id": account_id}, lock)
    else:
        yield Sql("SELECT 1 FROM instance WHERE name = 'id'", lock=lock)


def lock(account_id: AccountId) -> Work[Account | None]:
    """The account, held; None when absent or deleted."""
    yield from hold(account_id)
    return (yield from get(account_id))


def first_of(name: str) -> Work[Account | None]:
    """The oldest account of this name; others that ask wait until this unit ends."""
    yield Sql("SELECT value FROM instance WHERE name = 'id'", lock=" FOR UPDATE")
    rows = yield (
        select(accounts)
        .where(accounts.c.name == name, accounts.c.deleted_at.is_(None))
        .order_by(accounts.c.account_id)
        .limit(1)
    )
    return _account(rows[0]) if rows else None


def change(account: Account) -> Work[None]:
    """Store what of an account can change."""
    yield (
        update(accounts)
        .where(accounts.c.account_id == account.account_id)
        .values(
            name=account.name,
            max_servers=account.max_servers,
            may_delete_servers=int(account.may_delete_servers),
        )
    )


def list_all(*, limit: int, offset: int = 0) -> Work[list[Account]]:
    """Accounts that are not deleted, oldest first."""
    rows = yield (
        select(accounts)
        .where(accounts.c.deleted_at.is_(None))
        .order_by(accounts.c.account_id)
        .limit(limit)
        .offset(offset)
    )
    return [_account(row) for row in rows]


def mark_had_connection(account_id: AccountId) -> Work[bool]:
    """From now on, and for ever, the account's mail is not captured for want of a connection.

    Whether it was until now.
    """
    rows = yield (
        update(accounts)
        .where(accounts.c.account_id == account_id, accounts.c.had_connection == 0)
        .values(had_connection=1)
        .returning(accounts.c.account_id)
    )
    return bool(rows)


def _account(row: Any) -> Account:  # Any: a driver's row carries no types
    return Account(
        account_id=AccountId(row.account_id),
        name=row.name,
        had_connection=bool(row.had_connection),
        created_at_us=row.created_at,
        max_servers=row.max_servers,
        may_delete_servers=bool(row.may_delete_servers),
    )
