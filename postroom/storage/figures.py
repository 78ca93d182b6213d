"""What the database alone can say of the queue and of room, for metrics, `status` and notices.

The look at depths walks `ready` once along its key, which SQLite does in about 100 ns a row outside of
Python's lock; whoever asks keeps the answer for a while (`engine.figures`). The others are one look-up per
lane or connection, however much waits.
"""

from __future__ import annotations

from dataclasses import dataclass

from postroom.core.message import Purpose
from postroom.ids import AccountId, ConnectionId, LaneId, ServerId
from postroom.storage.interface import Sql, Work, now

_DAY_US = 86_400_000_000


@dataclass(frozen=True)
class LaneDepth:
    """What waits in one lane. due: of it, what could go now. first_due_us: of the one that waits longest."""

    lane_id: LaneId
    account_id: AccountId
    server_id: ServerId
    purpose: Purpose
    stream: str
    sender: str
    waiting: int
    due: int
    first_due_us: int


@dataclass(frozen=True)
class Oldest:
    """The longest wait of one server's mail of one purpose: when that delivery became due."""

    account_id: AccountId
    server_id: ServerId
    purpose: Purpose
    due_us: int


@dataclass(frozen=True)
class Room:
    """What a connection's caps leave now; None: no such cap. refused: senders it refuses at the moment."""

    connection_id: ConnectionId
    hour: int | None
    day: int | None
    refused: int


_DEPTHS = """
SELECT l.lane_id, l.account_id, l.server_id, l.purpose, l.stream, l.sender, g.waiting, g.due, g.first_due
FROM (SELECT account_id, lane_id, COUNT(*) AS waiting, SUM(CASE WHEN due <= :now THEN 1 ELSE 0 END) AS due,
             MIN(due) AS first_due FROM ready GROUP BY account_id, lane_id) g
JOIN lanes l ON l.account_id = g.account_id AND l.lane_id = g.lane_id
"""
_OLDEST = """
SELECT account_id, server_id, purpose, MIN(first_due) FROM
  (SELECT account_id, server_id, purpose,
          (SELECT r.due FROM ready r WHERE r.account_id = lanes.account_id AND r.lane_id = lanes.lane_id
           ORDER BY r.due LIMIT 1) AS first_due
   FROM lanes) heads
WHERE first_due <= :before GROUP BY account_id, server_id, purpose
"""
_ROOM = """
SELECT c.connection_id, c.hourly_cap, c.daily_cap, COALESCE(k.held, 0),
       COALESCE((SELECT SUM(r.n) FROM cap_release r
                 WHERE r.connection_id = c.connection_id AND r.due <= :now), 0),
       COALESCE(d.used + d.held, 0),
       (SELECT COUNT(*) FROM refused_senders s WHERE s.connection_id = c.connection_id AND s.until > :now)
FROM connections c
LEFT JOIN cap k ON k.connection_id = c.connection_id
LEFT JOIN cap_day d ON d.connection_id = c.connection_id AND d.day = :day
WHERE c.deleted_at IS NULL
"""


def depths() -> Work[list[LaneDepth]]:
    """Every lane that something waits in, with how much."""
    at_us = yield from now()
    rows = yield Sql(_DEPTHS, {"now": at_us})
    return [
        LaneDepth(LaneId(r[0]), AccountId(r[1]), ServerId(r[2]), Purpose(r[3]), r[4], r[5], r[6], r[7], r[8])
        for r in rows
    ]


def oldest(before_us: int) -> Work[list[Oldest]]:
    """Whose mail has been due since `before_us` or longer."""
    rows = yield Sql(_OLDEST, {"before": before_us})
    return [Oldest(AccountId(r[0]), ServerId(r[1]), Purpose(r[2]), r[3]) for r in rows]


def room() -> Work[list[Room]]:
    """Every connection that is not deleted. A lowered cap may be overdrawn: then its room is 0."""
    at_us = yield from now()
    rows = yield Sql(_ROOM, {"now": at_us, "day": at_us // _DAY_US})
    return [
        Room(
            ConnectionId(r[0]),
            None if r[1] is None else max(0, r[1] - (r[3] - r[4])),
            None if r[2] is None else max(0, r[2] - r[5]),
            r[6],
        )
        for r in rows
    ]
