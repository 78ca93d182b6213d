"""Taking waiting deliveries out of the queue, and putting back in what a person wants sent."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from postroom.core.event import EventKind
from postroom.core.message import DeliveryState, withdrawn_state
from postroom.ids import AccountId, DeliveryId, LaneId, MessageId, ServerId
from postroom.storage import hot
from postroom.storage.days import since
from postroom.storage.interface import Rows, Sql, Work, now
from postroom.storage.messages import StoredMessage

_WAITING = ("ready", "held", "captured")

# Whoever changes what waits locks its rows in the queue first and its deliveries then, as a claim does: the
# two wait for each other instead of both having it, and never in a circle.
_WAITING_OF_MESSAGE = (
    "SELECT r.delivery_id FROM deliveries d JOIN ready r ON r.account_id = d.account_id"
    " AND r.lane_id = d.lane_id AND r.due = d.due AND r.delivery_id = d.delivery_id"
    " WHERE d.account_id = :account_id AND d.message_id = :message_id ORDER BY r.delivery_id"
)
_LOCK_WAITING = " FOR UPDATE OF r"


@dataclass(frozen=True)
class Taken:
    """What cancelling a message did.

    claimed: a worker holds these at this moment. unknown: these went out once or may have, which is not
    to be called cancelled; they are sent or unverified now and are not sent again.
    """

    cancelled: list[DeliveryId]
    claimed: list[DeliveryId]
    unknown: list[DeliveryId]


def cancel_message(account_id: AccountId, message_id: MessageId) -> Work[Taken]:
    """Cancel what of a message still waits."""
    which = {"account_id": account_id, "message_id": message_id}
    yield Sql(_WAITING_OF_MESSAGE, which, _LOCK_WAITING)
    rows = yield Sql(
        "SELECT delivery_id, state, lane_id, due, server_id, message_id, copies, resends FROM deliveries"
        " WHERE account_id = :account_id AND message_id = :message_id ORDER BY delivery_id",
        which,
        " FOR UPDATE",
    )
    claimed = [row[0] for row in rows if row[1] == DeliveryState.CLAIMED]
    ending = [row for row in rows if row[1] in _WAITING or row[1] == DeliveryState.UNKNOWN]
    into: dict[DeliveryState, Rows] = {
        state: [row for row in ending if _withdrawn(row) is state] for state in _CANCELLED
    }
    for state, (kind, reason) in _CANCELLED.items():
        yield from _end(account_id, into[state], state, kind, reason)
    gone = [*into[DeliveryState.UNVERIFIED], *into[DeliveryState.SENT]]
    return Taken([row[0] for row in into[DeliveryState.CANCELLED]], claimed, sorted(row[0] for row in gone))


_CANCELLED = {
    DeliveryState.CANCELLED: (EventKind.CANCELLED, "cancelled"),
    DeliveryState.UNVERIFIED: (
        EventKind.UNVERIFIED,
        "cancelled before it was known whether it went out",
    ),
    DeliveryState.SENT: (EventKind.CANCELLED, "sent before; sending it again was cancelled"),
}


def _withdrawn(row: Sequence[Any]) -> DeliveryState:  # Any: a driver's row carries no types
    """row: …, state, …, copies, resends."""
    return withdrawn_state(copies=row[6], resends=row[7] + (row[1] == DeliveryState.UNKNOWN))


def orphaned() -> Work[tuple[AccountId, ServerId] | None]:
    """A deleted server on which something still waits: it came back after the deletion, or that broke off."""
    rows = yield Sql(
        "SELECT l.account_id, l.server_id FROM lanes l"
        " JOIN servers s ON s.account_id = l.account_id AND s.server_id = l.server_id"
        " WHERE s.deleted_at IS NOT NULL AND EXISTS (SELECT 1 FROM ready r"
        " WHERE r.account_id = l.account_id AND r.lane_id = l.lane_id)"
        " LIMIT 1"
    )
    return (rows[0][0], rows[0][1]) if rows else None


def cancel_waiting(account_id: AccountId, server_id: ServerId, limit: int = 500) -> Work[int]:
    """Cancel one slice of what waits on a server; 0 when nothing is left."""
    rows = yield Sql(
        "SELECT d.delivery_id, d.state, d.lane_id, r.due, d.server_id, d.message_id, d.copies, d.resends"
        " FROM lanes l"
        " JOIN ready r ON r.account_id = l.account_id AND r.lane_id = l.lane_id"
        " JOIN deliveries d ON d.account_id = r.account_id AND d.delivery_id = r.delivery_id"
        " WHERE l.account_id = :account_id AND l.server_id = :server_id LIMIT :n",
        {"account_id": account_id, "server_id": server_id, "n": limit},
        " FOR UPDATE OF r, d",
    )
    for state, (kind, _) in _CANCELLED.items():
        mine = [row for row in rows if _withdrawn(row) is state]
        yield from _end(account_id, mine, state, kind, "its server was deleted")
    return len(rows)


@dataclass(frozen=True)
class Looked:
    """One delivery as a person's act must know it. `suppressed`: why its address is, or empty.
    `may_have_gone`: an earlier try reached the peer, or may have. `reason`: why it is as it is."""

    delivery_id: DeliveryId
    lane_id: LaneId
    recipient: str
    address: str
    state: DeliveryState
    due_us: int
    tries: int
    suppressed: str
    may_have_gone: bool
    reason: str


def look(account_id: AccountId, message_id: MessageId) -> Work[list[Looked]]:
    """Every delivery of a message, in the order of its recipients; they stay so until this unit ends."""
    which = {"account_id": account_id, "message_id": message_id}
    yield Sql(_WAITING_OF_MESSAGE, which, _LOCK_WAITING)
    rows = yield Sql(
        "SELECT d.delivery_id, d.lane_id, d.recipient, d.address, d.state, d.due, d.tries,"
        " COALESCE((SELECT s.reason FROM suppressions s WHERE s.account_id = d.account_id"
        "           AND s.server_id = d.server_id AND s.stream IN ('', m.stream)"
        "           AND s.address = d.address LIMIT 1), ''), d.copies + d.resends, d.reason"
        " FROM deliveries d JOIN messages m ON m.account_id = d.account_id AND m.message_id = d.message_id"
        " WHERE d.account_id = :account_id AND d.message_id = :message_id ORDER BY d.delivery_id",
        which,
        " FOR UPDATE OF d",
    )
    return [
        Looked(
            row[0],
            row[1],
            row[2],
            row[3],
            DeliveryState(row[4]),
            row[5],
            row[6],
            row[7],
            bool(row[8]),
            row[9],
        )
        for row in rows
    ]


def put_in(
    message: StoredMessage, chosen: Sequence[Looked], kind: EventKind, reason: str, by: str, at_us: int
) -> Work[list[tuple[LaneId, int]]]:
    """Put these into the queue, due now. Returns the lanes with how many.

    What only waited for a later try stays where it is in its schedule; anything else begins it anew.
    """
    waited = [one for one in chosen if one.state is DeliveryState.READY]
    yield from _take_out(message.account_id, chosen)
    yield Sql(
        "UPDATE deliveries SET state = 'ready', due = :now, reason = :reason, settled_at = NULL, crashes = 0,"
        " tries = :tries, resends = resends + :unsure"
        " WHERE account_id = :account_id AND delivery_id = :delivery_id",
        [
            {
                "now": at_us,
                "reason": reason,
                "tries": one.tries if one in waited else 0,
                "unsure": int(one.state in (DeliveryState.UNKNOWN, DeliveryState.UNVERIFIED)),
                "account_id": message.account_id,
                "delivery_id": one.delivery_id,
            }
            for one in chosen
        ],
    )
    yield Sql(
        hot.INSERT_READY,
        [
            {
                "account_id": message.account_id,
                "lane_id": one.lane_id,
                "due": at_us,
                "delivery_id": one.delivery_id,
            }
            for one in chosen
        ],
    )
    yield from _tell(message, chosen, kind, by, at_us)
    return list(Counter(one.lane_id for one in chosen).items())


def end_by_hand(
    message: StoredMessage,
    chosen: Sequence[Looked],
    state: DeliveryState,
    kind: EventKind,
    reason: str,
    by: str,
    at_us: int,
) -> Work[None]:
    """End these in this state, by a person's word."""
    yield from _take_out(message.account_id, chosen)
    yield Sql(
        "UPDATE deliveries SET state = :state, settled_at = :now, reason = :reason"
        " WHERE account_id = :account_id AND delivery_id = :delivery_id",
        [
            {
                "state": state.value,
                "now": at_us,
                "reason": reason,
                "account_id": message.account_id,
                "delivery_id": one.delivery_id,
            }
            for one in chosen
        ],
    )
    yield from _tell(message, chosen, kind, by, at_us)


def _take_out(account_id: AccountId, chosen: Sequence[Looked]) -> Work[None]:
    """Out of what waits for its due time, and of what waits for evidence."""
    yield Sql(
        hot.DELETE_READY,
        [
            {
                "account_id": account_id,
                "lane_id": one.lane_id,
                "due": one.due_us,
                "delivery_id": one.delivery_id,
            }
            for one in chosen
        ],
    )
    unknown = [one for one in chosen if one.state is DeliveryState.UNKNOWN]
    if unknown:
        yield Sql(
            hot.DELETE_UNKNOWN,
            [
                {"account_id": account_id, "due": one.due_us, "delivery_id": one.delivery_id}
                for one in unknown
            ],
        )


def _tell(
    message: StoredMessage, chosen: Sequence[Looked], kind: EventKind, by: str, at_us: int
) -> Work[None]:
    data = json.dumps({"by": by})
    account, server, number = message.account_id, message.server_id, message.message_id
    yield Sql(
        hot.INSERT_EVENT,
        [_event(account, server, number, one.delivery_id, kind, at_us, data) for one in chosen],
    )


@dataclass(frozen=True)
class ByHand:
    """What a person did to a delivery."""

    delivery_id: DeliveryId
    kind: EventKind
    at_us: int
    by: str


def by_hand(account_id: AccountId, message_id: MessageId, content_id: int) -> Work[list[ByHand]]:
    """What people did to a message's deliveries, oldest first. content_id: the message's, for its day."""
    rows = yield Sql(
        "SELECT delivery_id, kind, at, data FROM events"
        " WHERE account_id = :account_id AND message_id = :message_id AND event_id >= :since"
        " AND data LIKE '{\"by\":%' ORDER BY event_id",
        {"account_id": account_id, "message_id": message_id, "since": since(content_id)},
    )
    return [ByHand(row[0], EventKind(row[1]), row[2], str(json.loads(row[3])["by"])) for row in rows]


def _end(account_id: AccountId, rows: Rows, state: DeliveryState, kind: EventKind, reason: str) -> Work[None]:
    """rows: delivery, state, lane, due, server, message, …"""
    if not rows:
        return
    at_us = yield from now()
    keys = [{"account_id": account_id, "due": row[3], "delivery_id": row[0]} for row in rows]
    yield Sql(hot.DELETE_READY, [{**key, "lane_id": row[2]} for key, row in zip(keys, rows, strict=True)])
    unknown = [key for key, row in zip(keys, rows, strict=True) if row[1] == DeliveryState.UNKNOWN]
    if unknown:
        yield Sql(hot.DELETE_UNKNOWN, unknown)
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
    account_id: AccountId,
    server_id: int,
    message_id: int,
    delivery_id: int,
    kind: EventKind,
    at_us: int,
    data: str = "{}",
) -> dict[str, object]:
    return {
        "account_id": account_id,
        "server_id": server_id,
        "message_id": message_id,
        "delivery_id": delivery_id,
        "connection_id": None,
        "kind": kind.value,
        "at": at_us,
        "data": data,
    }
