"""Taking waiting deliveries out of the queue, or letting captured ones in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from postroom.core.event import EventKind
from postroom.core.message import DeliveryState
from postroom.ids import AccountId, DeliveryId, LaneId, MessageId, ServerId
from postroom.storage import hot
from postroom.storage.interface import Rows, Sql, Work, now

_WAITING = ("ready", "held", "captured")


@dataclass(frozen=True)
class Taken:
    """What cancelling a message did.

    claimed: a worker holds these at this moment. unknown: these may have gone out, which is not to be
    called cancelled; they are unverified now and are not sent again.
    """

    cancelled: list[DeliveryId]
    claimed: list[DeliveryId]
    unknown: list[DeliveryId]


def cancel_message(account_id: AccountId, message_id: MessageId) -> Work[Taken]:
    """Cancel what of a message still waits."""
    rows = yield Sql(
        "SELECT delivery_id, state, lane_id, due, server_id, message_id FROM deliveries"
        " WHERE account_id = :account_id AND message_id = :message_id ORDER BY delivery_id",
        {"account_id": account_id, "message_id": message_id},
    )
    waiting = [row for row in rows if row[1] in _WAITING]
    yield from _end(account_id, waiting, DeliveryState.CANCELLED, EventKind.CANCELLED, "cancelled")
    unknown = [row for row in rows if row[1] == DeliveryState.UNKNOWN]
    text = "cancelled before it was known whether it went out"
    yield from _end(account_id, unknown, DeliveryState.UNVERIFIED, EventKind.UNVERIFIED, text)
    claimed = [row[0] for row in rows if row[1] == DeliveryState.CLAIMED]
    return Taken([row[0] for row in waiting], claimed, [row[0] for row in unknown])


def orphaned() -> Work[tuple[AccountId, ServerId] | None]:
    """A deleted server on which something still waits: it came back after the deletion, or that broke off."""
    rows = yield Sql(
        "SELECT l.account_id, l.server_id FROM lanes l"
        " JOIN servers s ON s.account_id = l.account_id AND s.server_id = l.server_id"
        " WHERE s.deleted_at IS NOT NULL AND EXISTS (SELECT 1 FROM ready r WHERE r.lane_id = l.lane_id)"
        " LIMIT 1"
    )
    return (rows[0][0], rows[0][1]) if rows else None


def cancel_waiting(account_id: AccountId, server_id: ServerId, limit: int = 500) -> Work[int]:
    """Cancel one slice of what waits on a server; 0 when nothing is left."""
    rows = yield Sql(
        "SELECT d.delivery_id, d.state, d.lane_id, r.due, d.server_id, d.message_id FROM lanes l"
        " JOIN ready r ON r.lane_id = l.lane_id JOIN deliveries d ON d.delivery_id = r.delivery_id"
        " WHERE l.account_id = :account_id AND l.server_id = :server_id LIMIT :n",
        {"account_id": account_id, "server_id": server_id, "n": limit},
    )
    yield from _end(account_id, rows, DeliveryState.CANCELLED, EventKind.CANCELLED, "its server was deleted")
    return len(rows)


def release_message(account_id: AccountId, message_id: MessageId) -> Work[list[tuple[LaneId, int]]]:
    """Let captured and held deliveries of a message into the queue. Returns the lanes with how many."""
    at_us = yield from now()
    rows = yield Sql(
        "UPDATE deliveries SET state = 'ready', due = :now, reason = 'released', settled_at = NULL,"
        " crashes = 0 WHERE account_id = :account_id AND message_id = :message_id"
        " AND state IN ('captured', 'held') RETURNING delivery_id, lane_id, server_id",
        {"account_id": account_id, "message_id": message_id, "now": at_us},
    )
    if not rows:
        return []
    yield Sql(hot.INSERT_READY, [{"lane_id": row[1], "due": at_us, "delivery_id": row[0]} for row in rows])
    yield Sql(
        hot.INSERT_EVENT,
        [_event(account_id, row[2], message_id, row[0], EventKind.RELEASED, at_us) for row in rows],
    )
    return list(Counter(LaneId(row[1]) for row in rows).items())


def _end(account_id: AccountId, rows: Rows, state: DeliveryState, kind: EventKind, reason: str) -> Work[None]:
    """rows: delivery, state, lane, due, server, message."""
    if not rows:
        return
    at_us = yield from now()
    yield Sql(hot.DELETE_READY, [{"lane_id": row[2], "due": row[3], "delivery_id": row[0]} for row in rows])
    unknown: Sequence[object] = [row[0] for row in rows if row[1] == DeliveryState.UNKNOWN]
    if unknown:
        yield Sql(
            "DELETE FROM unknowns WHERE delivery_id = :delivery_id", [{"delivery_id": one} for one in unknown]
        )
    yield Sql(
        "UPDATE deliveries SET state = :state, settled_at = :now, reason = :reason"
        " WHERE account_id = :account_id AND delivery_id = :delivery_id",
        [
            {
                "state": state.value,
                "now": at_us,
                "reason": reason,
                "account_id": account_id,
                "delivery_id": row[0],
            }
            for row in rows
        ],
    )
    yield Sql(hot.INSERT_EVENT, [_event(account_id, row[4], row[5], row[0], kind, at_us) for row in rows])


def _event(
    account_id: AccountId, server_id: int, message_id: int, delivery_id: int, kind: EventKind, at_us: int
) -> dict[str, object]:
    return {
        "account_id": account_id,
        "server_id": server_id,
        "message_id": message_id,
        "delivery_id": delivery_id,
        "connection_id": None,
        "kind": kind.value,
        "at": at_us,
        "data": "{}",
    }
