"""Finding one server's messages by what a dialect kept with them, in slices that are each short.

Newest first. Each slice is a range of the index over a server's messages; what cannot be told by SQL alike
on both databases (a name in the options) is told by the caller, row by row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from postroom.core.message import FINAL_STATES, DeliveryState
from postroom.ids import AccountId, MessageId, ServerId
from postroom.storage.interface import Sql, Work
from postroom.storage.messages import MESSAGE_COLUMNS, StoredMessage, message_of

SLICE = 2000
_OPEN = ", ".join(f"'{state.value}'" for state in DeliveryState if state not in FINAL_STATES)
_IS_OPEN = (
    "EXISTS (SELECT 1 FROM deliveries d WHERE d.account_id = m.account_id AND d.message_id = m.message_id"  # noqa: S608
    f" AND d.state IN ({_OPEN}))"
)


@dataclass(frozen=True)
class Search:
    """What is looked for; None and "" for anything.

    sender and recipient: addresses for comparing. subject: a part of it. settled: whether every delivery
    has ended. holds: texts that the stored options must hold, a narrowing only.
    """

    stream: str
    recipient: str = ""
    sender: str = ""
    subject: str = ""
    settled: bool | None = None
    since_us: int | None = None
    until_us: int | None = None
    holds: tuple[str, ...] = ()


@dataclass(frozen=True)
class Slice:
    """Messages that fit, newest first, with their options. last: the oldest looked at; None: no older."""

    found: Sequence[tuple[MessageId, str]]
    last: MessageId | None


def look(account_id: AccountId, server_id: ServerId, search: Search, before: int | None) -> Work[Slice]:
    """What fits among the next SLICE messages older than `before`."""
    params: dict[str, object] = {"account_id": account_id, "server_id": server_id, "before": before}
    params |= {"most": SLICE, "last": SLICE - 1}
    slice_of = "account_id = :account_id AND server_id = :server_id"
    if before is not None:
        slice_of += " AND message_id < :before"
    newest = f"FROM messages WHERE {slice_of} ORDER BY message_id DESC"
    rows = yield Sql(
        f"SELECT message_id, options FROM (SELECT * {newest} LIMIT :most) AS m"  # noqa: S608
        f" WHERE {_fits(search, params)}",
        params,
    )
    ends = yield Sql(f"SELECT message_id, created_at {newest} LIMIT 1 OFFSET :last", params)
    # Ids grow with time, so what is older than the first too old one is too old as well.
    past = not ends or (search.since_us is not None and ends[0][1] < search.since_us)
    found = sorted(((row[0], row[1]) for row in rows), reverse=True)
    return Slice(found, None if past else ends[0][0])


def place_of(account_id: AccountId, server_id: ServerId, at_us: int) -> Work[int | None]:
    """A number that messages accepted at this moment or later have, and older ones do not; None: none later.

    Found by halving: the numbers of a server's messages grow with time.
    """
    rows = yield Sql(
        "SELECT MIN(message_id), MAX(message_id) FROM messages"
        " WHERE account_id = :account_id AND server_id = :server_id",
        {"account_id": account_id, "server_id": server_id},
    )
    if rows[0][0] is None:
        return None
    low, high = rows[0][0], rows[0][1] + 1
    while low < high:
        middle = (low + high) // 2
        found = yield Sql(
            "SELECT message_id, created_at FROM messages WHERE account_id = :account_id"
            " AND server_id = :server_id AND message_id >= :middle ORDER BY message_id LIMIT 1",
            {"account_id": account_id, "server_id": server_id, "middle": middle},
        )
        if found[0][1] >= at_us if found else True:
            high = middle
        else:
            low = found[0][0] + 1
    return int(low)


def get_many(account_id: AccountId, numbers: Sequence[MessageId]) -> Work[list[StoredMessage]]:
    """Messages by their numbers, in that order; what is gone meanwhile is left out."""
    rows = yield Sql(
        f"SELECT {MESSAGE_COLUMNS} FROM messages WHERE account_id = :account_id AND message_id = :message_id",  # noqa: S608
        [{"account_id": account_id, "message_id": one} for one in numbers],
    )
    return [message_of(row) for row in rows]


@dataclass(frozen=True)
class StoredEvent:
    """Something that happened to a delivery. data: JSON."""

    delivery_id: int
    kind: str
    at_us: int
    data: str


def events(account_id: AccountId, message_id: MessageId, most: int) -> Work[list[StoredEvent]]:
    """A message's events in their order, the first `most`."""
    rows = yield Sql(
        "SELECT delivery_id, kind, at, data FROM events WHERE account_id = :account_id"
        " AND message_id = :message_id AND delivery_id IS NOT NULL ORDER BY event_id LIMIT :most",
        {"account_id": account_id, "message_id": message_id, "most": most},
    )
    return [StoredEvent(*row) for row in rows]


def _fits(search: Search, params: dict[str, object]) -> str:
    """The condition on `m`; adds its values to `params`."""
    conditions = ["m.stream = :stream"]
    params["stream"] = search.stream
    if search.since_us is not None:
        conditions.append("m.created_at >= :since")
        params["since"] = search.since_us
    if search.until_us is not None:
        conditions.append("m.created_at < :until")
        params["until"] = search.until_us
    if search.sender:
        conditions.append("m.sender = :sender")
        params["sender"] = search.sender
    if search.subject:
        conditions.append("LOWER(m.subject) LIKE LOWER(:subject) ESCAPE '!'")
        params["subject"] = _part(search.subject)
    for number, text in enumerate(search.holds):
        conditions.append(f"m.options LIKE :holds{number} ESCAPE '!'")
        params[f"holds{number}"] = _part(text)
    if search.settled is not None:
        # What a sandbox keeps has ended there.
        sandboxed = (
            "EXISTS (SELECT 1 FROM servers s WHERE s.account_id = m.account_id"
            " AND s.server_id = m.server_id AND s.sandbox = 1)"
        )
        conditions.append(
            f"(NOT {_IS_OPEN} OR {sandboxed})" if search.settled else f"{_IS_OPEN} AND NOT {sandboxed}"
        )
    if search.recipient:
        conditions.append(
            "EXISTS (SELECT 1 FROM deliveries d WHERE d.account_id = m.account_id"
            " AND d.message_id = m.message_id AND d.address = :recipient)"
        )
        params["recipient"] = search.recipient
    return " AND ".join(conditions)


def _part(text: str) -> str:
    """A LIKE pattern for what holds this text."""
    return f"%{text.replace('!', '!!').replace('%', '!%').replace('_', '!_')}%"
