"""Hourly and daily caps, exactly, in any sliding hour and any UTC day.

Unit: one recipient whose body was begun. Room is *granted* in the claim's commit, under the lock of the
connection's row, by the database's clock read after that lock; it is *held* until an hour after the
attempt was settled, or returned when nothing was begun. Take any window of an hour and in it the send
that was granted last, at g: every other send of the window was granted before g and is released no
earlier than an hour after its settling, so at g all of them were held, and the grant left held <= cap.
Releases come in buckets of ten seconds, rounded up, which wastes less than 0.3 % of the room.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil

from postroom.clock import MICROS
from postroom.ids import AccountId, ConnectionId
from postroom.storage import hot
from postroom.storage.interface import Rows, Sql, Work

HOUR_US = 3600 * MICROS
DAY_US = 24 * HOUR_US
BUCKET_US = 10 * MICROS
DAY_MARGIN_US = 2 * MICROS
KEPT_BACK_DAYS = 7
UNCAPPED = 1 << 40
NEVER_US = 1 << 62


class ClockWasSet(Exception):
    """The database's clock is ahead of what this process knows of it: nothing may be granted by it yet."""


@dataclass(frozen=True)
class CapState:
    """A connection's room, read under its lock.

    at_us: the clock then. hour_room, day_room: sends still permitted. kept_back: of the hour's room,
    for transactional mail. next_release_us: when room of the hour comes back, if that was asked for.
    quota_room: sends the vendor's own quota leaves.
    """

    at_us: int
    held: int
    hour_room: int
    day_room: int
    kept_back: int
    next_release_us: int | None
    quota_room: int = UNCAPPED

    @property
    def day(self) -> int:
        """Days since 1970, UTC."""
        return self.at_us // DAY_US

    @property
    def day_ends_us(self) -> int:
        """Midnight UTC."""
        return (self.day + 1) * DAY_US

    @property
    def grants_begin_us(self) -> int:
        """What is granted now under a daily cap must not go out before this: the clock may be set back."""
        return 0 if self.day_room == UNCAPPED else self.day * DAY_US

    @property
    def grants_end_us(self) -> int:
        """When what is granted now must have gone out: under a daily cap a little before midnight UTC."""
        return NEVER_US if self.day_room == UNCAPPED else self.day_ends_us - DAY_MARGIN_US

    @property
    def closing(self) -> bool:
        """The last seconds of a day with a cap: nothing is granted until the next one."""
        return self.at_us >= self.grants_end_us

    def room(self, *, transactional: bool) -> int:
        """Sends that may be granted now to this kind of mail."""
        hour = self.hour_room if transactional else self.hour_room - self.kept_back
        return max(0, min(hour, self.day_room, self.quota_room))


def kept_back(cap: int | None, busiest_hour: int) -> int:
    """Room kept back from bulk: the larger of 2 and 1.2 x the busiest transactional hour of a week, at
    most a fifth of the cap; nothing where no transactional mail was carried."""
    if cap is None or busiest_hour == 0:
        return 0
    return min(max(2, ceil(busiest_hour * 1.2)), cap // 5)


def lock(account_id: AccountId, connection_id: ConnectionId) -> Sql:
    """Asks for the lock of the connection's counters; `read` takes what comes."""
    return Sql(hot.LOCK_CAP, {"account_id": account_id, "connection_id": connection_id})


def read(
    locked: Rows,
    account_id: AccountId,
    connection_id: ConnectionId,
    hourly_cap: int | None,
    daily_cap: int | None,
    carries_transactional: bool,
    latest_us: Callable[[], int] | None = None,
) -> Work[CapState]:
    """With the connection's counters locked, take back what is due, and say what room there is.

    locked: what `lock` brought. latest_us: what the clock may say at most at this moment, unless it was set.
    Raises ClockWasSet.
    """
    mine = {"account_id": account_id, "connection_id": connection_id}
    if not locked:
        yield Sql(hot.INSERT_CAP, mine)
        locked = yield lock(account_id, connection_id)
    held, at_us = locked[0]
    capped = hourly_cap is not None or daily_cap is not None
    if capped and latest_us is not None and at_us > latest_us():
        raise ClockWasSet
    since = at_us // HOUR_US - KEPT_BACK_DAYS * 24
    found = yield Sql(hot.ROOM_OF, {**mine, "now": at_us, "day": at_us // DAY_US, "since": since})
    due, used_today, busiest = found[0]
    if due:
        released = yield Sql(hot.RELEASE_DUE, {**mine, "now": at_us})
        held -= sum(row[0] for row in released)
        yield Sql(hot.SET_HELD, {**mine, "held": held})
    hour_room = UNCAPPED if hourly_cap is None else hourly_cap - held
    day_room = UNCAPPED if daily_cap is None else daily_cap - (used_today or 0)
    back = kept_back(hourly_cap, busiest) if carries_transactional else 0
    return CapState(at_us, held, hour_room, day_room, back, None)


def next_release(account_id: AccountId, connection_id: ConnectionId) -> Work[int | None]:
    """When room of the hour comes back next; None: what is held is not settled yet, or nothing is."""
    rows = yield Sql(hot.NEXT_RELEASE, {"account_id": account_id, "connection_id": connection_id})
    return rows[0][0] if rows else None


def hold(account_id: AccountId, connection_id: ConnectionId, state: CapState, n: int) -> Sequence[Sql]:
    """Takes room for n sends, in the commit that claims them."""
    mine = {"account_id": account_id, "connection_id": connection_id}
    return (
        Sql(hot.SET_HELD, {**mine, "held": state.held + n}),
        Sql(hot.HOLD_DAY, {**mine, "day": state.day, "n": n}),
    )


Counts = Counter[tuple[AccountId, ConnectionId]]


@dataclass
class Usage:
    """What a batch of settled attempts did with its room."""

    used: Counts = field(default_factory=Counter)
    returned: Counts = field(default_factory=Counter)
    transactional: Counts = field(default_factory=Counter)
    days_used: Counter[tuple[AccountId, ConnectionId, int]] = field(default_factory=Counter)
    days_returned: Counter[tuple[AccountId, ConnectionId, int]] = field(default_factory=Counter)

    def add(
        self, account_id: AccountId, connection_id: ConnectionId, day: int, *, used: bool, transactional: bool
    ) -> None:
        """One settled attempt."""
        whose = (account_id, connection_id)
        if used:
            self.used[whose] += 1
            self.days_used[*whose, day] += 1
            self.transactional[whose] += transactional
        else:
            self.returned[whose] += 1
            self.days_returned[*whose, day] += 1


def settle(usage: Usage, at_us: int) -> Sequence[Sql]:
    """Gives back what was not used; lets go of the rest an hour after now, rounded up to its bucket.

    The counter that claims lock first comes first.
    """
    due = -(-at_us // BUCKET_US) * BUCKET_US + HOUR_US
    transactional: Mapping[tuple[AccountId, ConnectionId], int] = +usage.transactional
    return (
        Sql(
            hot.RETURN_HELD,
            [{"account_id": a, "connection_id": c, "n": n} for (a, c), n in usage.returned.items()],
        ),
        Sql(
            hot.INSERT_RELEASE,
            [{"account_id": a, "connection_id": c, "due": due, "n": n} for (a, c), n in usage.used.items()],
        ),
        Sql(
            hot.COUNT_TRANSACTIONAL,
            [
                {"account_id": a, "connection_id": c, "hour": at_us // HOUR_US, "n": n}
                for (a, c), n in transactional.items()
            ],
        ),
        Sql(
            hot.SETTLE_DAY,
            [
                {
                    "account_id": a,
                    "connection_id": c,
                    "day": day,
                    "used": usage.days_used[a, c, day],
                    "held": usage.days_used[a, c, day] + usage.days_returned[a, c, day],
                }
                for a, c, day in sorted(set(usage.days_used) | set(usage.days_returned))
            ],
        ),
    )
