"""What a step of the wall clock does to times that are stored.

Steps forward are kept, so that an age can be told from a jump: `clock_steps(before_us, by_us)`. After a step
backward the times of what waits are moved by as much, and times that can never be so far away are cut to the
furthest they can be, which needs no knowledge of the step at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from postroom.ids import AccountId, LaneId
from postroom.storage import hot
from postroom.storage.interface import Rows, Sql, Work, now

KEPT_US = 60 * 86_400 * 1_000_000  # longer than any age that is asked for with a step taken out
_CLOCK = "clock"
_BACK = "clock_set_back"
_MEASURED_US = 1_000_000


class Seen(msgspec.Struct, frozen=True):
    """The clocks when they were last looked at. offset_us: wall minus steady time of this boot.

    steady_s, paused_until_s: steady time then, and until when grants pause.
    """

    boot: str
    offset_us: int
    seen_us: int
    steady_s: float
    paused_until_s: float


@dataclass(frozen=True)
class Forward:
    """A step forward: what the clock would have said, and by how much it was moved."""

    before_us: int
    by_us: int


def remember(seen: Seen) -> Work[None]:
    """Keep for the next start how the clocks stand."""
    yield Sql(
        "INSERT INTO instance (name, value) VALUES (:name, :value)"
        " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        {"name": _CLOCK, "value": msgspec.json.encode(seen).decode()},
    )


def recall() -> Work[Seen | None]:
    """How the clocks stood; None when nobody looked yet."""
    rows = yield Sql("SELECT value FROM instance WHERE name = :name", {"name": _CLOCK})
    return msgspec.json.decode(rows[0][0], type=Seen) if rows else None


def add_forward(step: Forward, same_within_us: int = 0) -> Work[None]:
    """Note a step forward; those that no age reaches any more go.

    same_within_us: where several processes notice it, each a little differently, one note is enough.
    """
    at_us = yield from now()
    if same_within_us:
        known = yield from forward_steps()
        if any(_same(step.before_us, step.by_us, one.before_us, one.by_us, same_within_us) for one in known):
            return
    yield Sql("DELETE FROM clock_steps WHERE before_us + by_us < :oldest", {"oldest": at_us - KEPT_US})
    yield Sql(
        "INSERT INTO clock_steps (before_us, by_us) VALUES (:before, :by)"
        " ON CONFLICT (before_us) DO UPDATE SET by_us = clock_steps.by_us + excluded.by_us",
        {"before": step.before_us, "by": step.by_us},
    )


def note_back(before_us: int, by_us: int) -> Work[None]:
    """A step backward was dealt with."""
    value = f"{before_us} {by_us}"
    yield Sql(
        "INSERT INTO instance (name, value) VALUES (:name, :value)"
        " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        {"name": _BACK, "value": value},
    )


def was_noted_back(before_us: int, by_us: int, within_us: int) -> Work[bool]:
    """Whether a step backward like this one was dealt with."""
    rows = yield Sql("SELECT value FROM instance WHERE name = :name", {"name": _BACK})
    if not rows:
        return False
    before, by = map(int, rows[0][0].split())
    return _same(before_us, by_us, before, by, within_us)


def _same(before_us: int, by_us: int, other_before_us: int, other_by_us: int, within_us: int) -> bool:
    """Two processes look a renewal apart, and measure to a part of a second."""
    return abs(before_us - other_before_us) <= within_us and abs(by_us - other_by_us) <= _MEASURED_US


def forward_steps() -> Work[list[Forward]]:
    """The steps forward that are kept, newest first; hardly ever any."""
    rows = yield Sql("SELECT before_us, by_us FROM clock_steps ORDER BY before_us + by_us DESC")
    return [Forward(row[0], row[1]) for row in rows]


def reach_back(steps: Sequence[Forward], oldest_us: int) -> int:
    """`oldest_us`, a time in the past, without the steps since: so long ago it really was."""
    for step in steps:
        if step.before_us + step.by_us > oldest_us:
            oldest_us -= step.by_us
    return oldest_us


def without_steps(steps: Sequence[Forward], since_us: int) -> int:
    """`since_us` moved so that an age counted from it leaves out the steps that came after it."""
    return since_us + sum(step.by_us for step in steps if step.before_us >= since_us)


@dataclass(frozen=True)
class Cursor:
    """The last row looked at, by the time it had."""

    due_us: int
    delivery_id: int = 0


def shift_ready(
    account_id: AccountId, lane_id: LaneId, after: Cursor, by_us: int, limit: int = 500
) -> Work[Cursor | None]:
    """Move one slice of a lane's rows that are due after the cursor; None when there is none left."""
    lane = {"account_id": account_id, "lane_id": lane_id}
    rows = yield Sql(
        "SELECT due, delivery_id FROM ready WHERE account_id = :account_id AND lane_id = :lane_id"
        " AND due >= :due"
        " AND (due > :due OR delivery_id > :delivery_id) ORDER BY due, delivery_id LIMIT :n",
        {**lane, "due": after.due_us, "delivery_id": after.delivery_id, "n": limit},
        " FOR UPDATE",
    )
    if not rows:
        return None
    yield Sql(hot.DELETE_READY, [{**lane, "due": due, "delivery_id": one} for due, one in rows])
    yield Sql(
        hot.INSERT_READY,
        [{**lane, "due": due + by_us, "delivery_id": one} for due, one in rows],
    )
    yield from _set_due([(account_id, one, due + by_us) for due, one in rows])
    return Cursor(rows[-1][0], rows[-1][1])


def shift_unknowns(after: Cursor, by_us: int, limit: int = 500) -> Work[Cursor | None]:
    """The same for deliveries of unknown outcome."""
    rows: Rows = yield Sql(
        "SELECT due, delivery_id, account_id FROM unknowns WHERE due >= :due"
        " AND (due > :due OR delivery_id > :delivery_id) ORDER BY due, delivery_id LIMIT :n",
        {"due": after.due_us, "delivery_id": after.delivery_id, "n": limit},
        " FOR UPDATE",
    )
    if not rows:
        return None
    yield Sql(
        hot.DELETE_UNKNOWN,
        [{"due": due, "delivery_id": one, "account_id": account} for due, one, account in rows],
    )
    yield Sql(
        hot.INSERT_UNKNOWN,
        [{"due": due + by_us, "delivery_id": one, "account_id": account} for due, one, account in rows],
    )
    yield from _set_due([(account, one, due + by_us) for due, one, account in rows])
    return Cursor(rows[-1][0], rows[-1][1])


def _set_due(found: Sequence[tuple[int, int, int]]) -> Work[None]:
    yield Sql(
        "UPDATE deliveries SET due = :due WHERE account_id = :account_id AND delivery_id = :delivery_id",
        [{"account_id": account, "delivery_id": delivery, "due": due} for account, delivery, due in found],
    )


def cut_to(release_us: int, held_us: int, refused_us: int) -> Work[None]:
    """Cut what lies further ahead than anything can: room that comes back, holds, refused senders."""
    rows = yield Sql(
        "DELETE FROM cap_release WHERE due > :due RETURNING account_id, connection_id, n", {"due": release_us}
    )
    cut = Counter[tuple[int, int]]()
    for account, connection, n in rows:
        cut[account, connection] += n
    if cut:
        yield Sql(
            hot.INSERT_RELEASE,
            [
                {"account_id": a, "connection_id": c, "due": release_us, "n": n}
                for (a, c), n in sorted(cut.items())
            ],
        )
    yield Sql("UPDATE connections SET held_until = :until WHERE held_until > :until", {"until": held_us})
    yield Sql("UPDATE refused_senders SET until = :until WHERE until > :until", {"until": refused_us})
    yield Sql("UPDATE lacks SET until = :until WHERE until > :until", {"until": refused_us})
