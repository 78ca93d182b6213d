"""Housekeeping: what is past its time goes, in slices, so that no transaction is long.

Kept for a while: contents of messages (`keep_content`), attempts, events, routing decisions and notices
that are over (`keep_events`), idempotency rows (`idempotency_keep`), counters of old hours and days, senders
that a connection refused. Kept for ever: messages, deliveries, suppressions, keys, the audit log.

Nothing that belongs to a delivery which is not final is touched, however old: what waits, is held or was
captured can still be sent, so its content stays, and what happened to it can still be explained.

Ids grow with time, so a walk begins at the lowest id that is left and ends at the first row that is too
young; no index on a time is needed, and where nothing is old a walk is one look-up. Each row is judged by
its own time as well: a clock that was set back lets a row stay longer, never go sooner.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from postroom.clock import MICROS, Clock
from postroom.core.actor import HOUSEKEEPING
from postroom.core.identity import EVERYBODY
from postroom.core.message import FINAL_STATES
from postroom.engine.caps import DAY_US, HOUR_US
from postroom.errors import PostroomError
from postroom.logs import logger
from postroom.storage import audit, clock_steps, idempotency, notices
from postroom.storage.interface import Sql, Store, Work, now

SLICE = 500  # rows, or ids, that one unit of work covers
KEEP_COUNTERS_DAYS = 8  # the caps look back seven

# A claim names the decision it was made by, which may have been replaced while the claim was queued.
_DECISION_MARGIN_US = HOUR_US

log = logger("housekeeping")


@dataclass(frozen=True)
class HousekeepingSettings:
    """Seconds. Names and defaults of the first three are those of the settings of the same names."""

    keep_content_s: float = 30 * 86_400.0
    keep_events_s: float = 90 * 86_400.0
    idempotency_keep_s: float = 86_400.0
    every_s: float = 3600.0
    pause_s: float = 0.02  # after each slice, so that the mail's own writes come first


@dataclass
class Cleared:
    """How many rows of each kind a run removed."""

    idempotency: int = 0
    refused_senders: int = 0
    lacks: int = 0
    cap_hours: int = 0
    cap_days: int = 0
    contents: int = 0
    events: int = 0
    attempts: int = 0
    decisions: int = 0
    notices: int = 0

    def told(self) -> dict[str, int]:
        """What the audit trail tells of it: what somebody might look for and not find any more."""
        counts = {name: getattr(self, name) for name in ("contents", "events", "attempts", "decisions")}
        return {name: count for name, count in counts.items() if count}


def _line(cleared: Cleared) -> Work[None]:
    at_us = yield from now()
    yield from audit.add(EVERYBODY, at_us, HOUSEKEEPING, "retention.clear", "everything", cleared.told())


class Housekeeping:
    """Clears away now and then, between `start` and `stop`."""

    def __init__(self, store: Store, clock: Clock, settings: HousekeepingSettings | None = None) -> None:
        self._store, self._clock = store, clock
        self._settings = settings or HousekeepingSettings()
        self._task: asyncio.Task[None] | None = None
        self.runs = 0
        self.failures = 0

    def start(self) -> None:
        """Begin, with a first run at once. Needs a running loop."""
        if self._task is None:
            self._task = asyncio.create_task(self._keep_house())

    async def stop(self) -> None:
        """End between two slices; a slice that is being written is written."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def run_once(self) -> Cleared:
        """Remove all that is past its time now. Raises Unavailable; what was done until then stays done."""
        cleared, settings = Cleared(), self._settings
        now_us = self._clock.now_us()
        steps = await self._store.read(clock_steps.forward_steps)
        oldest_request_us = clock_steps.reach_back(steps, now_us - int(settings.idempotency_keep_s * MICROS))
        oldest_content_us = now_us - int(settings.keep_content_s * MICROS)
        oldest_event_us = now_us - int(settings.keep_events_s * MICROS)
        day = now_us // DAY_US - KEEP_COUNTERS_DAYS
        hour = now_us // HOUR_US - KEEP_COUNTERS_DAYS * 24
        # Attempts come before decisions: `named` is what the attempts that stay still point at.
        named: set[int] = set()

        cleared.idempotency = await self._drain(lambda: idempotency.forget(oldest_request_us, SLICE))
        cleared.refused_senders = await self._drain(lambda: _delete(_REFUSED_SENDERS, now_us))
        cleared.lacks = await self._drain(lambda: _delete(_LACKS, now_us))
        cleared.cap_hours = await self._drain(lambda: _delete(_CAP_HOURS, hour))
        cleared.cap_days = await self._drain(lambda: _delete(_CAP_DAYS, day))
        cleared.notices = await self._drain(lambda: notices.forget(oldest_event_us, SLICE))
        cleared.contents = await self._walk(lambda after: old_contents(after, oldest_content_us))
        cleared.events = await self._walk(lambda after: old_events(after, oldest_event_us))
        cleared.attempts = await self._walk(lambda after: old_attempts(after, oldest_event_us), named)
        replaced_us = oldest_event_us - _DECISION_MARGIN_US
        cleared.decisions = await self._walk(lambda after: old_decisions(after, replaced_us, named))
        if cleared.told():
            await self._store.write(lambda: _line(cleared))
        self.runs += 1
        return cleared

    async def _keep_house(self) -> None:
        while True:
            try:
                cleared = await self.run_once()
            except PostroomError as error:
                self.failures += 1
                log.warning("housekeeping was put off", error=str(error))
            except Exception:  # were it to end here, the disk would fill unseen
                self.failures += 1
                log.exception("housekeeping failed")
            else:
                if any(vars(cleared).values()):
                    log.info("cleared away", **vars(cleared))
            await asyncio.sleep(self._settings.every_s)

    async def _drain(self, delete: Callable[[], Work[int]]) -> int:
        """Delete slice after slice, until one is not full."""
        total = 0
        while True:
            count = await self._store.write(delete)
            total += count
            if count < SLICE:
                return total
            await asyncio.sleep(self._settings.pause_s)

    async def _walk(self, look: Callable[[int], Work[Window | None]], named: set[int] | None = None) -> int:
        """Go over the old rows of one table, SLICE ids at a time, and delete what may go.

        named: takes up the decisions of the attempts that stay.
        """
        total, after = 0, 0
        while True:
            window = await self._store.read(lambda after=after: look(after))  # type: ignore[misc]  # bound at once
            if window is None:
                return total
            if window.gone:
                total += await self._store.write(lambda window=window: window.delete())  # type: ignore[misc]  # bound at once
            if named is not None:
                named.update(window.named)
            after = window.last
            await asyncio.sleep(self._settings.pause_s if window.gone else 0)


@dataclass(frozen=True)
class Window:
    """A stretch of ids up to `last`: which rows of it may go, one set of parameters each.

    `statement` looks again, in the commit, at whatever may have changed since the window was read.
    """

    last: int
    statement: str
    gone: Sequence[Mapping[str, object]]
    named: Collection[int] = ()

    def delete(self) -> Work[int]:
        """Remove them; returns how many went."""
        rows = yield Sql(self.statement, self.gone)
        return len(rows)


# --- tables whose rows depend on nothing else ------------------------------------------------------------

_LACKS = (
    "DELETE FROM lacks WHERE (connection_id, need) IN"
    " (SELECT connection_id, need FROM lacks WHERE until <= :oldest LIMIT :n) RETURNING 1"
)
_REFUSED_SENDERS = (
    "DELETE FROM refused_senders WHERE (connection_id, sender) IN"
    " (SELECT connection_id, sender FROM refused_senders WHERE until <= :oldest LIMIT :n) RETURNING 1"
)
_CAP_HOURS = (
    "DELETE FROM cap_hour WHERE (connection_id, hour) IN"
    " (SELECT connection_id, hour FROM cap_hour WHERE hour < :oldest LIMIT :n) RETURNING 1"
)
_CAP_DAYS = (
    "DELETE FROM cap_day WHERE (connection_id, day) IN"
    " (SELECT connection_id, day FROM cap_day WHERE day < :oldest LIMIT :n) RETURNING 1"
)


def _delete(statement: str, oldest: int) -> Work[int]:
    rows = yield Sql(statement, {"oldest": oldest, "n": SLICE})
    return len(rows)


# --- tables that are walked ------------------------------------------------------------------------------

_FINAL = ", ".join(f"'{state.value}'" for state in sorted(FINAL_STATES))


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


_DELIVERY_WAITS = (
    "EXISTS (SELECT 1 FROM deliveries d WHERE d.account_id = {0}.account_id"  # noqa: S608 - our own names
    " AND d.delivery_id = {0}.delivery_id AND d.state NOT IN (" + _FINAL + "))"
)
_EVENT_STAYS = _DELIVERY_WAITS.format("events")
_ATTEMPT_STAYS = "(attempts.result IS NULL OR " + _DELIVERY_WAITS.format("attempts") + ")"

_FIRST_EVENT = "SELECT event_id, at FROM events WHERE event_id > :after ORDER BY event_id LIMIT 1"
_EVENTS = (
    "SELECT event_id FROM events WHERE event_id BETWEEN :first AND :last"  # noqa: S608 - our own text
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
    return Window(_last(stretch), _DELETE_EVENT, [{"event_id": row[0]} for row in rows])


_FIRST_ATTEMPT = (
    "SELECT attempt_id, granted_at FROM attempts WHERE attempt_id > :after ORDER BY attempt_id LIMIT 1"
)
_ATTEMPTS = (
    "SELECT attempt_id, decision_id, granted_at > :oldest OR " + _ATTEMPT_STAYS + " FROM attempts"  # noqa: S608
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
    gone = [{"attempt_id": row[0]} for row in rows if not row[2]]
    return Window(_last(stretch), _DELETE_ATTEMPT, gone, {row[1] for row in rows if row[2]})


_FIRST_DECISION = (
    "SELECT decision_id, created_at FROM decisions WHERE decision_id > :after ORDER BY decision_id LIMIT 1"
)
# A decision is in force until its lane has another; that one's time says when it was last used.
_DECISIONS = (
    "SELECT o.decision_id FROM decisions o WHERE o.decision_id BETWEEN :first AND :last"
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
    gone = [{"decision_id": row[0]} for row in rows if row[0] not in named]
    return Window(_last(stretch), _DELETE_DECISION, gone)


_FIRST_CONTENT = (
    "SELECT content_id, created_at FROM contents WHERE content_id > :after ORDER BY content_id LIMIT 1"
)
_MESSAGE_WAITS = (
    "EXISTS (SELECT 1 FROM deliveries d WHERE d.account_id = {0} AND d.message_id = {1}"  # noqa: S608 - our own names
    " AND d.state NOT IN (" + _FINAL + "))"
)
_MESSAGES = (
    "SELECT m.content_id, m.account_id, m.message_id FROM messages m"  # noqa: S608 - our own text
    " WHERE m.message_id >= :low AND m.message_id < :high AND m.created_at <= :oldest"
    " AND NOT " + _MESSAGE_WAITS.format("m.account_id", "m.message_id")
)
_DELETE_CONTENT = (
    "DELETE FROM contents WHERE account_id = :account_id AND content_id = :content_id"  # noqa: S608 - our own text
    " AND NOT " + _MESSAGE_WAITS.format(":account_id", ":message_id") + " RETURNING 1"
)


def old_contents(after: int, oldest_us: int) -> Work[Window | None]:
    """Contents accepted no later than `oldest_us` whose message has only final deliveries."""
    stretch = yield from _stretch(_FIRST_CONTENT, after, oldest_us)
    if stretch is None:
        return None
    last = _last(stretch)
    low = yield from first_message_of(last - SLICE + 1)
    high = yield from first_message_of(last + 1)
    rows = yield Sql(_MESSAGES, {"low": low, "high": high, "oldest": oldest_us})
    gone = [{"content_id": row[0], "account_id": row[1], "message_id": row[2]} for row in rows]
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

    A message has a content of its own, made in the same unit of work, so their ids grow together. An
    index from content to message would cost every accept a page; this costs a slice some forty look-ups.
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
