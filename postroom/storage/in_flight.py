"""What workers hold at this moment, whichever process they are in: attempts that are not settled yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from postroom.core.message import DeliveryState
from postroom.ids import AccountId, AttemptId, ConnectionId, DeliveryId, ServerId
from postroom.storage.interface import Sql, Work


@dataclass(frozen=True)
class Open:
    """One attempt without a result yet."""

    attempt_id: AttemptId
    account_id: AccountId
    delivery_id: DeliveryId
    connection_id: ConnectionId
    server_id: ServerId


def after_claims() -> Work[None]:
    """Returns when every claim that began before is committed or gone; those that come find what changed.

    A claim holds its worker's row until it is committed, so whoever was allowed to lock all of them has none
    beside it that read what was before.
    """
    yield Sql("SELECT worker_id FROM workers WHERE ended_at IS NULL ORDER BY worker_id", lock=" FOR UPDATE")


def look() -> Work[list[Open]]:
    """All of them; no more than sessions are open, twice."""
    rows = yield Sql(
        "SELECT a.attempt_id, a.account_id, a.delivery_id, a.connection_id, d.server_id FROM attempts a"
        " JOIN deliveries d ON d.account_id = a.account_id AND d.delivery_id = a.delivery_id"
        " WHERE a.result IS NULL ORDER BY a.attempt_id"
    )
    return [_open(row) for row in rows]


def left_of(attempts: frozenset[AttemptId]) -> Work[frozenset[AttemptId]]:
    """Which of these are still open."""
    rows = yield Sql("SELECT attempt_id FROM attempts WHERE result IS NULL")
    return attempts & {AttemptId(row[0]) for row in rows}


def gone_out(held: list[Open]) -> Work[frozenset[DeliveryId]]:
    """Deliveries of these that went out, or may have."""
    rows = yield Sql(
        "SELECT delivery_id, state FROM deliveries"
        " WHERE account_id = :account_id AND delivery_id = :delivery_id",
        [{"account_id": one.account_id, "delivery_id": one.delivery_id} for one in held],
    )
    return frozenset(DeliveryId(row[0]) for row in rows if row[1] in _GONE)


_GONE = (DeliveryState.CLAIMED, DeliveryState.SENT, DeliveryState.UNKNOWN, DeliveryState.UNVERIFIED)


def _open(row: Any) -> Open:  # Any: a driver's row carries no types
    return Open(
        AttemptId(row[0]), AccountId(row[1]), DeliveryId(row[2]), ConnectionId(row[3]), ServerId(row[4])
    )
