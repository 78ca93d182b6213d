"""What a connection's caps have counted: to be shown, and to be set back by the operator's hand.

Granting and settling are `engine.caps`; here is only what a person asks for. Counts are deliveries.
"""

from __future__ import annotations

from dataclasses import dataclass

from postroom.ids import AccountId, ConnectionId
from postroom.storage import hot
from postroom.storage.interface import Sql, Work

_DAY_US = 86_400 * 1_000_000


@dataclass(frozen=True)
class Counted:
    """A connection's counters now.

    hour: what the sliding hour holds, with what is under way. under_way: granted and not settled yet.
    day: what today (UTC) has used or granted. next_release_us: when room of the hour comes back.
    """

    hour: int = 0
    under_way: int = 0
    day: int = 0
    next_release_us: int | None = None


_COUNTED = """
SELECT COALESCE((SELECT c.held FROM cap c
                 WHERE c.account_id = :account_id AND c.connection_id = :connection_id), 0),
       (SELECT COALESCE(SUM(r.n), 0) FROM cap_release r
        WHERE r.account_id = :account_id AND r.connection_id = :connection_id),
       (SELECT COALESCE(SUM(r.n), 0) FROM cap_release r
        WHERE r.account_id = :account_id AND r.connection_id = :connection_id AND r.due <= :now),
       (SELECT MIN(r.due) FROM cap_release r
        WHERE r.account_id = :account_id AND r.connection_id = :connection_id AND r.due > :now),
       COALESCE((SELECT d.used + d.held FROM cap_day d
                 WHERE d.account_id = :account_id AND d.connection_id = :connection_id AND d.day = :day), 0)
"""


def counted(account_id: AccountId, connection_id: ConnectionId, at_us: int) -> Work[Counted]:
    """The counters as they stand; what is past its hour counts no more, though nobody has taken it back."""
    mine = {"account_id": account_id, "connection_id": connection_id}
    rows = yield Sql(_COUNTED, {**mine, "now": at_us, "day": at_us // _DAY_US})
    held, releases, due, next_release, day = rows[0]
    return Counted(held - due, held - releases, day, next_release)


def reset(account_id: AccountId, connection_id: ConnectionId, at_us: int) -> Work[Counted]:
    """Forget what was sent in this hour and on this day; returns the counters as they were.

    What is under way stays counted: it is returned or used when it is settled, as if nothing had been.
    """
    mine = {"account_id": account_id, "connection_id": connection_id}
    yield Sql(hot.INSERT_CAP, mine)
    rows = yield Sql(hot.LOCK_CAP, mine)  # claims wait
    before = yield from counted(account_id, connection_id, at_us)
    # As it is deleted, not as it was counted: what is settled at this moment adds to it.
    gone = yield Sql(
        "DELETE FROM cap_release WHERE account_id = :account_id AND connection_id = :connection_id"
        " RETURNING n",
        mine,
    )
    yield Sql(hot.SET_HELD, {**mine, "held": rows[0][0] - sum(row[0] for row in gone)})
    yield Sql(
        "UPDATE cap_day SET used = 0"
        " WHERE account_id = :account_id AND connection_id = :connection_id AND day = :day",
        {**mine, "day": at_us // _DAY_US},
    )
    return before
