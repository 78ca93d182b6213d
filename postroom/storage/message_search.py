"""Finding messages by what is known of them, newest first, in looks that are each short.

A look walks one index that ends with the message, from the newest one down: that of an address, of a label,
of a sender, of a stream, of a server, of an account. Where that says it all, finding costs the same however
many messages there are. What no index knows (words of the subject, how far its deliveries are, a domain) is
asked of each message on the way; how far to walk is the caller's to say. On long streams `subject_search`
looks through many subjects at once instead.
"""

# ruff: noqa: S608 - only conditions of our own are put into statements

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from postroom.core.message import FINAL_STATES, DeliveryState
from postroom.ids import AccountId, MessageId, ServerId
from postroom.storage import looking
from postroom.storage.interface import Sql, Work
from postroom.storage.labels import Label
from postroom.storage.looking import literally
from postroom.storage.messages import MESSAGE_COLUMNS, StoredMessage, message_of
from postroom.storage.subject_blocks import StreamKey
from postroom.storage.trigrams import folded

_FEW = 1000  # so many are counted to see which index has the fewest
_MOST_WAYS = 5
_NEWEST = (1 << 63) - 1
_OPEN = ", ".join(f"'{state.value}'" for state in DeliveryState if state not in FINAL_STATES)
_ON_STREAM = " AND x.stream = :stream"
_IS_OPEN = (
    "EXISTS (SELECT 1 FROM deliveries d WHERE d.account_id = m.account_id AND d.message_id = m.message_id"
    f" AND d.state IN ({_OPEN}))"
)


@dataclass(frozen=True)
class Search:
    """What is looked for; None and "" for anything.

    recipient: the key of an address, or `@domain`. sender: an address for comparing, subject: a part of it.
    state: of any of its deliveries. settled: whether every delivery has ended. since_us, until_us: accepted
    then or later, and before then. labels: it has all of these; they and the sender want a stream.
    """

    stream: str | None = None
    recipient: str = ""
    sender: str = ""
    subject: str = ""
    state: DeliveryState | None = None
    settled: bool | None = None
    since_us: int | None = None
    until_us: int | None = None
    labels: tuple[Label, ...] = ()


@dataclass(frozen=True)
class Walk:
    """Which index to walk. where: of the rows of `table`; conditions: what is still asked of each message.

    subject: a part of its subject, folded; "": any.
    """

    table: str
    where: str
    conditions: tuple[str, ...]
    params: dict[str, object]
    subject: str = ""

    @property
    def whole(self) -> bool:
        """Whether each message of it fits."""
        return not self.conditions and not self.subject

    @property
    def rows(self) -> str:
        """The query for the next :most of its messages before :before, newest first: of the index alone."""
        # A message may be to one address twice.
        one = "DISTINCT " if self.table == "deliveries" else ""
        return (
            f"SELECT {one}x.message_id FROM {self.table} AS x WHERE {self.where} AND x.message_id < :before"
            " ORDER BY x.message_id DESC LIMIT :most"
        )

    @property
    def subjects(self) -> str:
        """The same with their subjects, where that is all there is to be asked of a message; else empty."""
        if self.table != "messages" or self.conditions or not self.subject:
            return ""
        return (
            f"SELECT x.message_id, x.subject FROM messages AS x WHERE {self.where} AND x.message_id < :before"
            " ORDER BY x.message_id DESC LIMIT :most"
        )


@dataclass(frozen=True)
class Slice:
    """Messages that fit, newest first. last: the oldest looked at; None: no older."""

    found: Sequence[MessageId]
    last: MessageId | None


@dataclass(frozen=True)
class Blocks:
    """Of which stream blocks of subjects help to search; walk: that of this stream alone."""

    stream: StreamKey
    walk: Walk


@dataclass(frozen=True)
class Plan:
    """How to search."""

    walk: Walk
    blocks: Blocks | None = None


def plan(account_id: AccountId, server_id: ServerId | None, search: Search) -> Work[Plan]:
    """Which index to walk: of those that know something of what is asked, the one with the fewest.

    Where a part of the subject is asked for on a stream, its blocks help unless that index has few.
    """
    ways = _ways(account_id, server_id, search)
    blocks = None
    if search.subject and server_id is not None and search.stream is not None:
        on_stream = _walks(account_id, server_id, search)("messages", _ON_STREAM, "stream")
        blocks = Blocks(StreamKey(account_id, server_id, search.stream), on_stream)
    if len(ways) == 1 and (blocks is None or ways[0] == blocks.walk):
        return Plan(ways[0], blocks)
    counts = []
    for walk in ways:
        params = {**walk.params, "before": _NEWEST, "most": _FEW}
        rows = yield Sql(f"SELECT COUNT(*) FROM ({walk.rows}) c", params)
        counts.append(rows[0][0])
    fewest = min(counts)
    return Plan(ways[counts.index(fewest)], blocks if fewest >= _FEW else None)


def total(walk: Walk, before: int | None, most: int) -> Work[int]:
    """How many messages a whole walk has that are older than `before`, counted up to `most`."""
    assert walk.whole
    params = {**walk.params, "before": _NEWEST if before is None else before, "most": most}
    rows = yield Sql(f"SELECT COUNT(*) FROM ({walk.rows}) c", params)
    count: int = rows[0][0]
    return count


def look(walk: Walk, search: Search, before: int | None, most: int, floor: int = 0) -> Work[Slice]:
    """What fits among the next `most` rows of a walk older than the message `before`.

    floor: only newer ones than this message; `last` is the next number when they are through.
    """
    params = {**walk.params, "before": _NEWEST if before is None else before, "most": most, "floor": floor}
    if walk.whole:
        rows = yield Sql(walk.rows, params)
        last = rows[-1][0] if len(rows) == most else None
        return Slice(list(dict.fromkeys(row[0] for row in rows)), last)  # to one address twice, perhaps
    # The floor is no part of what is limited: a range of the index would look shorter than it may be.
    if walk.subjects:
        rows = yield Sql(walk.subjects, params)
        count, last = len(rows), rows[-1][0] if rows else None
        found = [row[0] for row in rows if walk.subject in folded(row[1]) and row[0] > floor]
    else:
        ((count, last),) = yield Sql(f"SELECT COUNT(*), MIN(c.message_id) FROM ({walk.rows}) c", params)
        rows = yield Sql(
            f"SELECT m.message_id{', m.subject' if walk.subject else ''} FROM ({walk.rows}) c"
            " JOIN messages m ON m.account_id = :account_id AND m.message_id = c.message_id"
            f" WHERE {' AND '.join(('c.message_id > :floor', *walk.conditions))} ORDER BY m.message_id DESC",
            params,
        )
        found = [row[0] for row in rows if not walk.subject or walk.subject in folded(row[1])]
    if last is None:
        return Slice([], None)
    if last <= floor:
        return Slice(found, MessageId(floor + 1))
    past = count < most
    if search.since_us is not None and not past:
        # Ids grow with time, so what is older than the first too old one is too old as well.
        of = {"account_id": params["account_id"], "message_id": last}
        rows = yield Sql(
            "SELECT created_at FROM messages WHERE account_id = :account_id AND message_id = :message_id", of
        )
        past = bool(rows) and rows[0][0] < search.since_us
    return Slice(found, None if past else last)


def fitting(walk: Walk, numbers: Sequence[MessageId]) -> Work[list[MessageId]]:
    """Which of these messages of a walk fit in all but the subject, in their order."""
    if not walk.conditions or not numbers:
        return list(numbers)
    rows = yield Sql(
        "SELECT m.message_id FROM messages m WHERE m.account_id = :account_id AND m.message_id = :message_id"
        f" AND {' AND '.join(walk.conditions)}",
        [{**walk.params, "message_id": one} for one in numbers],
    )
    return [row[0] for row in rows]


def _walks(account_id: AccountId, server_id: ServerId | None, search: Search) -> Callable[..., Walk]:
    """What makes a walk of a table, of a condition on its rows, and of the names of what that knows."""
    params: dict[str, object] = {"account_id": account_id}
    mine = "x.account_id = :account_id"
    if server_id is not None:
        params["server_id"] = server_id
        mine += " AND x.server_id = :server_id"
    asked = _asked(search, params)

    def walk(table: str, where: str, *known: str) -> Walk:
        left = tuple(text for name, text in asked.items() if name not in known)
        return Walk(table, mine + where, left, params, folded(search.subject))

    return walk


def _ways(account_id: AccountId, server_id: ServerId | None, search: Search) -> list[Walk]:
    """A walk for each thing asked that an index knows; if it knows none, through the stream or everything."""
    walk = _walks(account_id, server_id, search)
    ways = []
    if search.recipient and not search.recipient.startswith("@"):
        ways.append(walk("deliveries", " AND x.address = :recipient", "recipient"))
    if server_id is not None and search.stream is not None:
        ways += [
            walk("labels", f" AND x.label = :label{number}", f"label{number}", "stream")
            for number in range(len(search.labels))
        ]
        if search.sender:
            ways.append(walk("messages", " AND x.sender = :sender" + _ON_STREAM, "sender", "stream"))
        elif not ways:
            ways.append(walk("messages", _ON_STREAM, "stream"))
    return ways[:_MOST_WAYS] or [walk("messages", "")]


def place_of(account_id: AccountId, server_id: ServerId, at_us: int) -> Work[int | None]:
    """Below which number messages were accepted before this moment; None: all of them."""
    return looking.place_of("messages", "message_id", "created_at", account_id, server_id, at_us)


def get_many(account_id: AccountId, numbers: Sequence[MessageId]) -> Work[list[StoredMessage]]:
    """Messages by their numbers, in that order; what is gone meanwhile is left out."""
    if not numbers:
        return []
    rows = yield Sql(
        f"SELECT {MESSAGE_COLUMNS} FROM messages WHERE account_id = :account_id AND message_id = :message_id",
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


def _asked(search: Search, params: dict[str, object]) -> dict[str, str]:
    """The conditions on `m`, by what they are about, but for the subject's: that is compared here, so that it
    is the same on every database and in a block. Adds their values to `params`."""
    asked: dict[str, str] = {}
    for name, value, condition in (
        ("stream", search.stream, "m.stream = :stream"),
        ("since", search.since_us, "m.created_at >= :since"),
        ("until", search.until_us, "m.created_at < :until"),
        ("sender", search.sender or None, "m.sender = :sender"),
    ):
        if value is not None:
            asked[name], params[name] = condition, value
    if search.settled is not None:
        asked["settled"] = f"NOT {_IS_OPEN}" if search.settled else _IS_OPEN
    for number, label in enumerate(search.labels):
        asked[f"label{number}"] = (
            "EXISTS (SELECT 1 FROM labels l WHERE l.account_id = m.account_id AND l.server_id = m.server_id"
            f" AND l.label = :label{number} AND l.message_id = m.message_id)"
        )
        params[f"label{number}"] = label.on(search.stream or "")
    return asked | _of_deliveries(search, params)


def _of_deliveries(search: Search, params: dict[str, object]) -> dict[str, str]:
    """A state together with a recipient is that recipient's."""
    state = address = ""
    if search.state is not None:
        state, params["state"] = " AND d.state = :state", search.state.value
    if search.recipient.startswith("@"):
        address = " AND d.address LIKE :recipient ESCAPE '!'"
        params["recipient"] = f"%{literally(search.recipient)}"
    elif search.recipient:
        address, params["recipient"] = " AND d.address = :recipient", search.recipient
    if not state and not address:
        return {}
    name = "recipient" if not state and not search.recipient.startswith("@") else "state"
    return {
        name: "EXISTS (SELECT 1 FROM deliveries d WHERE d.account_id = m.account_id"
        f" AND d.message_id = m.message_id{state}{address})"
    }
