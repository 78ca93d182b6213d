"""What is past its time, and how it is deleted: the rules of housekeeping, table by table.

Ids grow with time, so a walk begins at the lowest id that is left and ends at the first row that is too
young; no index on a time is needed, and where nothing is old a walk is one look-up. Each row is judged by
its own time as well: a clock that was set back lets a row stay longer, never go sooner.

Nothing that belongs to a delivery which is not final is touched, however old.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from postroom.core.message import FINAL_STATES
from postroom.engine.caps import DAY_US, HOUR_US
from postroom.storage.interface import Sql, Work

SLICE = 500  # rows, or ids, that one unit of work covers


@dataclass(frozen=True)
class Past:
    """What is past its time, or went: rows, about how many bytes, and the time of the oldest."""

    rows: int = 0
    size_bytes: int = 0
    oldest_us: int | None = None

    def __add__(self, other: Past) -> Past:
        known = [one for one in (self.oldest_us, other.oldest_us) if one is not None]
        return Past(self.rows + other.rows, self.size_bytes + other.size_bytes, min(known) if known else None)


def _past(rows: Iterable[tuple[int, int]]) -> Past:
    """Out of sizes and times."""
    pairs = list(rows)
    if not pairs:
        return Past()
    return Past(len(pairs), sum(size for size, _ in pairs), min(at for _, at in pairs))


# --- tables whose rows depend on nothing else ------------------------------------------------------------


@dataclass(frozen=True)
class Plain:
    """Rows that go by a time of their own. past: of which; size, at: their bytes and their time, as SQL."""

    table: str
    keys: str
    past: str
    size: str
    at: str

    def delete(self, oldest: int) -> Work[Past]:
        """Remove one slice."""
        rows = yield Sql(
            f"DELETE FROM {self.table} WHERE ({self.keys}) IN"  # noqa: S608 - our own names
            f" (SELECT {self.keys} FROM {self.table} WHERE {self.past} LIMIT :n)"
            f" RETURNING {self.size}, {self.at}",
            {"oldest": oldest, "n": SLICE},
        )
        return _past((row[0], row[1]) for row in rows)

    def look(self, oldest: int) -> Work[Past]:
        """All that would be removed."""
        rows = yield Sql(
            f"SELECT COUNT(*), COALESCE(SUM({self.size}), 0), MIN({self.at})"  # noqa: S608 - our own names
            f" FROM {self.table} WHERE {self.past}",
            {"oldest": oldest},
        )
        return Past(*rows[0])


IDEMPOTENCY = Plain(
    "idempotency", "account_id, key_id, name", "created_at <= :oldest", "LENGTH(name) + 64", "created_at"
)
REFUSED_SENDERS = Plain(
    "refused_senders",
    "connection_id, sender",
    "until <= :oldest",
    "LENGTH(sender) + LENGTH(reply) + 24",
    "until",
)
LACKS = Plain("lacks", "connection_id, need", "until <= :oldest", "LENGTH(need) + LENGTH(text) + 24", "until")
CAP_HOURS = Plain("cap_hour", "connection_id, hour", "hour < :oldest", "32", f"hour * {HOUR_US}")
CAP_DAYS = Plain("cap_day", "connection_id, day", "day < :oldest", "40", f"day * {DAY_US}")
BULKS = Plain(
    "bulks",
    "bulk_id",
    "completed_at IS NOT NULL AND completed_at <= :oldest",
    "COALESCE(LENGTH(subject), 0) + 160",
    "completed_at",
)
TEMPLATES = Plain(
    "templates",
    "template_id",
    "deleted_at IS NOT NULL AND deleted_at <= :oldest",
    "COALESCE(LENGTH(html), 0) + COALESCE(LENGTH(text), 0) + LENGTH(name) + 64",
    "deleted_at",
)
NOTICES = Plain(
    "notices",
    "notice_id",
    "ended_at IS NOT NULL AND ended_at <= :oldest",
    "LENGTH(about) + LENGTH(text) + LENGTH(data) + 48",
    "ended_at",
)


# --- tables that are walked ------------------------------------------------------------------------------


class _Gone(NamedTuple):
    key: Mapping[str, object]
    size_bytes: int
    at_us: int


@dataclass(frozen=True)
class Window:
    """A stretch of ids up to `last`: which rows of it may go.

    `statement` looks again, in the commit, at whatever may have changed since the window was read; its
    parameters are a row's key.
    """

    last: int
    statement: str
    gone: Sequence[_Gone]
    named: Collection[int] = ()

    def look(self) -> Past:
        """What would go."""
        return _past((one.size_bytes, one.at_us) for one in self.gone)

    def delete(self) -> Work[Past]:
        """Remove them, but for those that may not go any more."""
        went: list[_Gone] = []
        for one in self.gone:
            if (yield Sql(self.statement, one.key)):
                went.append(one)  # noqa: PERF401 - no comprehension yields statements
        return _past((one.size_bytes, one.at_us) for one in went)


FINAL = ", ".join(f"'{state.value}'" for state in sorted(FINAL_STATES))


def _stretch(first_row: str, after: int, oldest_us: int) -> Work[dict[str, object] | None]:
    """The next SLICE ids from the first row there is; None: that row is too young, or there is none."""
    rows = yield Sql(first_row, {"after": after})
    if not rows or rows[0][1] > oldest_us:
        return None
    first: int = rows[0][0]
    return {"first": first, "last": first + SLICE - 1, "oldest": oldest_us}


def _last(stretch: Mapping[str, object]) -> int:
    last = stretch["last"]
    assert isinstance(last, int)
    return last


def delivery_waits(table: str) -> str:
    """That the delivery a row is of is not final."""
    return (
        f"EXISTS (SELECT 1 FROM deliveries d WHERE d.account_id = {table}.account_id"  # noqa: S608 - our own names
        f" AND d.delivery_id = {table}.delivery_id AND d.state NOT IN ({FINAL}))"
    )


_EVENT_STAYS = delivery_waits("events")
_ATTEMPT_STAYS = f"(attempts.result IS NULL OR {delivery_waits('attempts')})"

_FIRST_EVENT = "SELECT event_id, at FROM events WHERE event_id > :after ORDER BY event_id LIMIT 1"
_EVENTS = (
    "SELECT event_id, LENGTH(kind) + LENGTH(data) + 64, at FROM events"  # noqa: S608 - our own text
    " WHERE event_id BETWEEN :first AND :last"
    " AND at <= :oldest AND NOT " + _EVENT_STAYS
)
_DELETE_EVENT = (
    "DELETE FROM events WHERE event_id = :event_id AND NOT " + _EVENT_STAYS + " RETURNING 1"  # noqa: S608
)


def old_events(after: int, oldest_us: int) -> Work[Window | None]:
    """Events not younger than `oldest_us`, but for those of deliveries that are not final."""
    stretch = yield from _stretch(_FIRST_EVENT, after, oldest_us)
    if stretch is None:
        return None
    rows = yield Sql(_EVENTS, stretch)
    return Window(
        _last(stretch), _DELETE_EVENT, [_Gone({"event_id": row[0]}, row[1], row[2]) for row in rows]
    )


_FIRST_BOUNCE = "SELECT bounce_id, at FROM bounces WHERE bounce_id > :after ORDER BY bounce_id LIMIT 1"
_BOUNCES = (
    "SELECT bounce_id, LENGTH(subject) + LENGTH(text) + LENGTH(report) + 256, at FROM bounces"
    " WHERE bounce_id BETWEEN :first AND :last AND at <= :oldest"
)
_DELETE_BOUNCE = "DELETE FROM bounces WHERE bounce_id = :bounce_id RETURNING 1"


def old_bounces(after: int, oldest_us: int) -> Work[Window | None]:
    """Bounces not younger than `oldest_us`; what they suppressed stays suppressed."""
    stretch = yield from _stretch(_FIRST_BOUNCE, after, oldest_us)
    if stretch is None:
        return None
    rows = yield Sql(_BOUNCES, stretch)
    gone = [_Gone({"bounce_id": row[0]}, row[1], row[2]) for row in rows]
    return Window(_last(stretch), _DELETE_BOUNCE, gone)


_FIRST_ATTEMPT = (
    "SELECT attempt_id, granted_at FROM attempts WHERE attempt_id > :after ORDER BY attempt_id LIMIT 1"
)
_ATTEMPTS = (
    "SELECT attempt_id, decision_id, granted_at > :oldest OR " + _ATTEMPT_STAYS + ","  # noqa: S608 - our own text
    " LENGTH(reply) + LENGTH(remote_id) + 128, granted_at FROM attempts"
    " WHERE attempt_id BETWEEN :first AND :last"
)
_DELETE_ATTEMPT = (
    "DELETE FROM attempts WHERE attempt_id = :attempt_id AND NOT " + _ATTEMPT_STAYS + " RETURNING 1"  # noqa: S608
)


def old_attempts(after: int, oldest_us: int) -> Work[Window | None]:
    """Attempts that began no later than `oldest_us`, but for open ones and those of deliveries that are
    not final; `named` are the decisions of what stays."""
    stretch = yield from _stretch(_FIRST_ATTEMPT, after, oldest_us)
    if stretch is None:
        return None
    rows = yield Sql(_ATTEMPTS, stretch)
    gone = [_Gone({"attempt_id": row[0]}, row[3], row[4]) for row in rows if not row[2]]
    return Window(_last(stretch), _DELETE_ATTEMPT, gone, {row[1] for row in rows if row[2]})


_FIRST_DECISION = (
    "SELECT decision_id, created_at FROM decisions WHERE decision_id > :after ORDER BY decision_id LIMIT 1"
)
# A decision is in force until its lane has another; that one's time says when it was last used.
_DECISIONS = (
    "SELECT o.decision_id, LENGTH(o.facts) + LENGTH(o.decision) + 32, o.created_at FROM decisions o"
    " WHERE o.decision_id BETWEEN :first AND :last"
    " AND (SELECT n.created_at FROM decisions n WHERE n.account_id = o.account_id"
    " AND n.lane_id = o.lane_id AND n.decision_id > o.decision_id ORDER BY n.decision_id LIMIT 1) <= :oldest"
)
_DELETE_DECISION = "DELETE FROM decisions WHERE decision_id = :decision_id RETURNING 1"


def old_decisions(after: int, oldest_us: int, named: Collection[int]) -> Work[Window | None]:
    """Decisions replaced no later than `oldest_us`, but for those named; a lane's newest always stays."""
    stretch = yield from _stretch(_FIRST_DECISION, after, oldest_us)
    if stretch is None:
        return None
    rows = yield Sql(_DECISIONS, stretch)
    gone = [_Gone({"decision_id": row[0]}, row[1], row[2]) for row in rows if row[0] not in named]
    return Window(_last(stretch), _DELETE_DECISION, gone)


_FIRST_CONTENT = (
    "SELECT content_id, created_at FROM contents WHERE content_id > :after ORDER BY content_id LIMIT 1"
)
_MESSAGE_WAITS = (
    "EXISTS (SELECT 1 FROM deliveries d WHERE d.account_id = {0} AND d.message_id = {1}"  # noqa: S608 - our own names
    " AND d.state NOT IN (" + FINAL + "))"
)
_MESSAGES = (
    "SELECT m.content_id, m.account_id, m.message_id, LENGTH(c.body) + 32, c.created_at"  # noqa: S608
    " FROM messages m"
    " JOIN contents c ON c.content_id = m.content_id"
    " WHERE m.message_id >= :low AND m.message_id < :high AND m.content_id BETWEEN :first AND :last"
    " AND m.created_at <= :oldest"
    " AND NOT " + _MESSAGE_WAITS.format("m.account_id", "m.message_id")
)
_DELETE_CONTENT = (
    "DELETE FROM contents WHERE account_id = :account_id AND content_id = :content_id"  # noqa: S608 - our own text
    " AND NOT " + _MESSAGE_WAITS.format(":account_id", ":message_id") + " RETURNING 1"
)


def old_contents(after: int, oldest_us: int, margin: int = 0) -> Work[Window | None]:
    """Contents accepted no later than `oldest_us` whose message has only final deliveries.

    margin: how many messages further to look where several connections number them at the same time.
    """
    stretch = yield from _stretch(_FIRST_CONTENT, after, oldest_us)
    if stretch is None:
        return None
    last = _last(stretch)
    low = (yield from first_message_of(last - SLICE + 1)) - margin
    high = (yield from first_message_of(last + 1)) + margin
    rows = yield Sql(_MESSAGES, {**stretch, "low": low, "high": high})
    gone = [
        _Gone({"content_id": row[0], "account_id": row[1], "message_id": row[2]}, row[3], row[4])
        for row in rows
    ]
    return Window(last, _DELETE_CONTENT, gone)


# Two queries in one: SQLite looks up a MIN or a MAX, and scans the table for both.
_ENDS_OF_MESSAGES = (
    "SELECT COALESCE((SELECT MIN(message_id) FROM messages), 1),"
    " COALESCE((SELECT MAX(message_id) FROM messages), 0) + 1"
)
_MESSAGE_FROM = (
    "SELECT message_id, content_id FROM messages WHERE message_id >= :message_id ORDER BY message_id LIMIT 1"
)


def first_message_of(content_id: int) -> Work[int]:
    """The lowest message whose content is this one or a later one, by halving; one past the end if none.

    A message has a content of its own, made in the same unit of work, so their ids grow together (where many
    connections make them, but for a few). An index from content to message would cost every accept a page;
    this costs a slice some forty look-ups.
    """
    rows = yield Sql(_ENDS_OF_MESSAGES)
    low, high = rows[0][0], rows[0][1]
    while low < high:
        middle = (low + high) // 2
        rows = yield Sql(_MESSAGE_FROM, {"message_id": middle})
        message_id, content = rows[0]
        if content < content_id:
            low = message_id + 1
        else:
            high = middle
    first: int = low
    return first
