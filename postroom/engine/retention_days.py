"""Whole days that are past their time, on PostgreSQL, where contents, attempts and events lie by day.

A day is judged first, slice by slice and without a lock: what of it still has to stay, by the same rules as
in `engine.retention`. Where that is nothing, its partition is dropped; where it is a few rows, they are
carried into a new partition that takes its place; where it is many, the day is cleared in slices.

Dropping needs its table for itself for a moment. It waits for that no longer than everybody can wait behind
it, and otherwise leaves the day to the next run. What a person may have sent again since the look is looked
for under that lock: whoever saw the content there has committed by then.
"""

# ruff: noqa: S608 - only names of our own are put into statements

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from postroom.engine.caps import DAY_US
from postroom.engine.retention import FINAL, Past, delivery_waits, first_message_of
from postroom.storage import days
from postroom.storage.days import PARTITIONED, Partition
from postroom.storage.interface import Rows, Sql, Work

SLICE = 2000
CONTENTS_SLICE = 100  # each with all deliveries of its message
MOST_KEPT = 1000
MARGIN = 1000  # contents and messages are numbered in nearly, and not quite, one order
# Ids never lie further back than this before the newest partition, whatever the clock does.
_REACH = days.AHEAD + 3
_LOCK_MS = 50


@dataclass(frozen=True)
class Judged:
    """A day, or a slice of it up to `last`. past: what may go; stay: keys of what may not.

    waiting: deliveries, not final, whose content stays. deliveries: the lowest and highest of its messages'.
    """

    last: int
    past: Past = field(default_factory=Past)
    stay: tuple[int, ...] = ()
    waiting: frozenset[int] = frozenset()
    deliveries: tuple[int, int] | None = None

    def __add__(self, other: Judged) -> Judged:
        known = [one for one in (self.deliveries, other.deliveries) if one is not None]
        return Judged(
            other.last,
            self.past + other.past,
            self.stay + other.stay,
            self.waiting | other.waiting,
            (min(low for low, _ in known), max(high for _, high in known)) if known else None,
        )

    @property
    def is_hopeless(self) -> bool:
        """So much stays that the day is better cleared in slices."""
        return len(self.stay) > MOST_KEPT


def past_days(table: str, oldest_us: int) -> Work[list[Partition]]:
    """Days that ended before `oldest_us`, oldest first, but for those where ids may still come to lie."""
    there = yield from days.partitions(table)
    newest = max((one.day for one in there if one.day is not None), default=0)
    return [
        one
        for one in there
        if one.day is not None and one.day <= newest - _REACH and (one.day + 1) * DAY_US <= oldest_us
    ]


def judge(table: str, one: Partition, after: int, oldest_us: int) -> Work[Judged | None]:
    """The next slice of a day; None: it is at its end."""
    if table == "contents":
        return (yield from _judge_contents(one, after, oldest_us))
    return (yield from _judge_rows(table, one, after, oldest_us))


_ROWS = {
    "events": "SELECT event_id AS id, account_id, delivery_id, LENGTH(kind) + LENGTH(data) + 64 AS size,"
    " at, 0 AS open FROM events WHERE event_id > :after AND event_id < :end ORDER BY event_id LIMIT :n",
    "attempts": "SELECT attempt_id AS id, account_id, delivery_id, LENGTH(reply) + LENGTH(remote_id) + 128"
    " AS size, granted_at AS at, CASE WHEN result IS NULL THEN 1 ELSE 0 END AS open FROM attempts"
    " WHERE attempt_id > :after AND attempt_id < :end ORDER BY attempt_id LIMIT :n",
}
_STAYS = f"(e.open = 1 OR e.at > :oldest OR {delivery_waits('e')})"


def _judge_rows(table: str, one: Partition, after: int, oldest_us: int) -> Work[Judged | None]:
    params = {"after": after, "end": one.end, "n": SLICE, "oldest": oldest_us}
    rows = yield Sql(
        f"SELECT e.id, e.size, e.at, CASE WHEN {_STAYS} THEN 1 ELSE 0 END FROM ({_ROWS[table]}) e"
        " ORDER BY e.id",
        params,
    )
    if not rows:
        return None
    return Judged(
        rows[-1][0],
        _past([(row[1], row[2]) for row in rows if not row[3]]),
        tuple(row[0] for row in rows if row[3]),
    )


_CONTENTS = (
    "SELECT content_id, LENGTH(body) + 32, created_at FROM contents"
    " WHERE content_id > :after AND content_id < :end ORDER BY content_id LIMIT :n"
)
_MESSAGES = (
    "SELECT m.content_id, MIN(d.delivery_id), MAX(d.delivery_id),"
    f" MAX(CASE WHEN d.state IN ({FINAL}) THEN 0 ELSE 1 END)"
    " FROM messages m JOIN deliveries d ON d.account_id = m.account_id AND d.message_id = m.message_id"
    " WHERE m.message_id >= :low AND m.message_id < :high AND m.content_id BETWEEN :first AND :last"
    " GROUP BY m.content_id"
)
_WAITING = (
    "SELECT d.delivery_id FROM messages m"
    " JOIN deliveries d ON d.account_id = m.account_id AND d.message_id = m.message_id"
    " WHERE m.message_id >= :low AND m.message_id < :high AND m.content_id = :content_id"
    f" AND d.state NOT IN ({FINAL})"
)


def _judge_contents(one: Partition, after: int, oldest_us: int) -> Work[Judged | None]:
    """A content of which no message is found stays: better one too many."""
    rows = yield Sql(_CONTENTS, {"after": after, "end": one.end, "n": CONTENTS_SLICE})
    if not rows:
        return None
    first, last = rows[0][0], rows[-1][0]
    low = (yield from first_message_of(first)) - MARGIN
    high = (yield from first_message_of(last + 1)) + MARGIN
    span = {"low": low, "high": high}
    found = yield Sql(_MESSAGES, {**span, "first": first, "last": last})
    messages = {row[0]: row for row in found}
    gone: list[tuple[int, int]] = []
    stay: list[int] = []
    waiting: set[int] = set()
    for content_id, size, at_us in rows:
        message = messages.get(content_id)
        if message is not None and not message[3] and at_us <= oldest_us:
            gone.append((size, at_us))
            continue
        stay.append(content_id)
        if message is not None and message[3]:
            waits = yield Sql(_WAITING, {**span, "content_id": content_id})
            waiting.update(row[0] for row in waits)
    ends = (min(row[1] for row in found), max(row[2] for row in found)) if found else None
    return Judged(last, _past(gone), tuple(stay), frozenset(waiting), ends)


def _past(pairs: Sequence[tuple[int, int]]) -> Past:
    if not pairs:
        return Past()
    return Past(len(pairs), sum(size for size, _ in pairs), min(at for _, at in pairs))


def drop(table: str, one: Partition, judged: Judged) -> Work[bool]:
    """Let a day go, but for the rows that stay; False, with nothing done: something came in between."""
    yield Sql(f"SET LOCAL lock_timeout = '{_LOCK_MS}ms'")
    yield Sql(f"LOCK TABLE ONLY {table} IN ACCESS EXCLUSIVE MODE")
    if one not in (yield from days.partitions(table)):
        return False  # another process was quicker
    if table == "contents" and (yield from _sent_again(judged)):
        return False
    # Who looks something up by its day says the partition's name, and asks nothing of the table.
    yield Sql(f"LOCK TABLE {one.name} IN ACCESS EXCLUSIVE MODE")
    kept = f"{one.name}_kept"
    if judged.stay:
        # All columns as the table has them, also those that only a newer version knows.
        yield Sql(f"CREATE TABLE {kept} (LIKE {table} INCLUDING DEFAULTS INCLUDING STORAGE)")
        yield Sql(
            f"INSERT INTO {kept} SELECT * FROM {table} WHERE {PARTITIONED[table]} = ANY(:stay)",
            {"stay": list(judged.stay)},
        )
    yield Sql(f"DROP TABLE {one.name}")
    if judged.stay:
        yield Sql(f"ALTER TABLE {kept} RENAME TO {one.name}")
        yield Sql(
            f"ALTER TABLE {table} ATTACH PARTITION {one.name} FOR VALUES FROM ({one.first}) TO ({one.end})"
        )
    return True


# One statement, so that nothing passes between one look and the next.
_UNDER_WAY = (
    "SELECT delivery_id FROM ready WHERE delivery_id BETWEEN :low AND :high"
    " UNION ALL SELECT delivery_id FROM attempts WHERE result IS NULL AND delivery_id BETWEEN :low AND :high"
    " UNION ALL SELECT delivery_id FROM unknowns WHERE delivery_id BETWEEN :low AND :high"
)


def _sent_again(judged: Judged) -> Work[bool]:
    if judged.deliveries is None:
        return False
    low, high = judged.deliveries
    rows: Rows = yield Sql(_UNDER_WAY, {"low": low, "high": high})
    return any(row[0] not in judged.waiting for row in rows)
