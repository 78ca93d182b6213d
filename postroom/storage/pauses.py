"""What a person stopped: everything, one server or one connection; none of it is claimed until resumed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import delete, select

from postroom.ids import AccountId, ServerId
from postroom.storage.interface import Rows, Sql, Work
from postroom.storage.tables import pauses

EVERYTHING = AccountId(0)  # the account id of a pause of everything


class PauseScope(StrEnum):
    """What a pause stops."""

    ALL = "all"  # everything here; account and target are 0
    SERVER = "server"
    CONNECTION = "connection"


@dataclass(frozen=True)
class Pause:
    """One pause. target_id: the server's or the connection's number, 0 for everything."""

    account_id: AccountId
    scope: PauseScope
    target_id: int
    created_at_us: int
    actor: str
    reason: str


def add(pause: Pause) -> Work[bool]:
    """Pause it; False when it was paused already, which changes nothing."""
    rows = yield Sql(
        "INSERT INTO pauses (account_id, scope, target_id, created_at, actor, reason)"
        " VALUES (:account_id, :scope, :target_id, :created_at, :actor, :reason)"
        " ON CONFLICT (account_id, scope, target_id) DO NOTHING RETURNING created_at",
        {
            "account_id": pause.account_id,
            "scope": pause.scope.value,
            "target_id": pause.target_id,
            "created_at": pause.created_at_us,
            "actor": pause.actor,
            "reason": pause.reason,
        },
    )
    return bool(rows)


def remove(account_id: AccountId, scope: PauseScope, target_id: int) -> Work[bool]:
    """Resume it; False when it was not paused."""
    rows = yield (
        delete(pauses)
        .where(
            pauses.c.account_id == account_id,
            pauses.c.scope == scope.value,
            pauses.c.target_id == target_id,
        )
        .returning(pauses.c.created_at)
    )
    return bool(rows)


def everything() -> Work[list[Pause]]:
    """Every pause in force, of all accounts: the engine keeps them in memory."""
    rows = yield select(pauses).order_by(pauses.c.account_id, pauses.c.scope, pauses.c.target_id)
    return [_pause(row) for row in rows]


def get(account_id: AccountId, scope: PauseScope, target_id: int) -> Work[Pause | None]:
    """This pause, or None where it is not paused."""
    rows = yield select(pauses).where(
        pauses.c.account_id == account_id, pauses.c.scope == scope.value, pauses.c.target_id == target_id
    )
    return _pause(rows[0]) if rows else None


def look_concerning(account_id: AccountId, server_id: ServerId) -> Sql:
    """What routing must know for mail of this server: pauses of everything, of it, of connections."""
    return Sql(
        "SELECT account_id, scope, target_id, created_at, actor, reason FROM pauses"  # noqa: S608 - our words
        f" WHERE account_id IN ({EVERYTHING}, :account_id) AND (account_id = {EVERYTHING}"
        f" OR scope = '{PauseScope.CONNECTION.value}'"
        f" OR scope = '{PauseScope.SERVER.value}' AND target_id = :server_id)",
        {"account_id": account_id, "server_id": server_id},
    )


def pauses_in(rows: Rows) -> list[Pause]:
    """Of the rows of `look_concerning`."""
    return [Pause(row[0], PauseScope(row[1]), *row[2:]) for row in rows]


def _pause(row: Any) -> Pause:  # Any: a driver's row carries no types
    return Pause(
        account_id=AccountId(row.account_id),
        scope=PauseScope(row.scope),
        target_id=row.target_id,
        created_at_us=row.created_at,
        actor=row.actor,
        reason=row.reason,
    )
