"""Inbound rules in the database."""

from __future__ import annotations

from postroom.core.inbound_rule import InboundRule, InboundRuleId
from postroom.ids import AccountId, ServerId
from postroom.storage.interface import Sql, Work

_COLUMNS = "rule_id, account_id, server_id, rule, created_at"


def add(account_id: AccountId, server_id: ServerId, rule: str, at_us: int) -> Work[InboundRule | None]:
    """Store a new one; None when the server has it."""
    rows = yield Sql(
        "INSERT INTO inbound_rules (account_id, server_id, rule, created_at)"  # noqa: S608 - our own names
        " VALUES (:account_id, :server_id, :rule, :at)"
        f" ON CONFLICT (account_id, server_id, rule) DO NOTHING RETURNING {_COLUMNS}",
        {"account_id": account_id, "server_id": server_id, "rule": rule, "at": at_us},
    )
    return InboundRule(*rows[0]) if rows else None


def remove(account_id: AccountId, server_id: ServerId, rule_id: InboundRuleId) -> Work[InboundRule | None]:
    """Take one away; None when it is not there."""
    rows = yield Sql(
        "DELETE FROM inbound_rules WHERE account_id = :account_id AND server_id = :server_id"  # noqa: S608 - our own names
        f" AND rule_id = :rule_id RETURNING {_COLUMNS}",
        {"account_id": account_id, "server_id": server_id, "rule_id": rule_id},
    )
    return InboundRule(*rows[0]) if rows else None


def page_of(
    account_id: AccountId, server_id: ServerId, *, limit: int, offset: int
) -> Work[tuple[list[InboundRule], int]]:
    """A server's rules, by name, and how many there are."""
    whose = {"account_id": account_id, "server_id": server_id}
    of_server = "FROM inbound_rules WHERE account_id = :account_id AND server_id = :server_id"
    counted = yield Sql(f"SELECT COUNT(*) {of_server}", whose)
    rows = yield Sql(
        f"SELECT {_COLUMNS} {of_server} ORDER BY rule LIMIT :limit OFFSET :offset",
        {**whose, "limit": limit, "offset": offset},
    )
    return [InboundRule(*row) for row in rows], counted[0][0]
