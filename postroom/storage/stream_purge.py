"""What a stream holds that was archived too long ago to be taken back is removed, slice by slice, then it.

Its messages go with all that became of them, its bounces and its own suppressions; what holds for all streams
of the server stays. What still waits is cancelled first, and nothing is touched while a worker holds a
delivery of it.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, select

from postroom.core.actor import Actor
from postroom.core.message import FINAL_STATES
from postroom.ids import AccountId, MessageId, ServerId
from postroom.storage import audit, purge, queue
from postroom.storage import streams as stored_streams
from postroom.storage.interface import Sql, Work, now
from postroom.storage.purge import SLICE, Purged
from postroom.storage.tables import bounces, deliveries, streams, suppressions

Key = tuple[AccountId, ServerId, str]


def due(archived_until_us: int, limit: int) -> Work[list[Key]]:
    """Streams of servers that are there, archived no later than this; the first one first."""
    rows = yield Sql(
        "SELECT t.account_id, t.server_id, t.stream FROM streams t"
        " JOIN servers s ON s.account_id = t.account_id AND s.server_id = t.server_id"
        " WHERE t.archived_at IS NOT NULL AND t.archived_at <= :until AND s.deleted_at IS NULL"
        " ORDER BY t.archived_at, t.server_id, t.stream LIMIT :n",
        {"until": archived_until_us, "n": limit},
    )
    return [(AccountId(row[0]), ServerId(row[1]), row[2]) for row in rows]


def left(key: Key) -> Work[int]:
    """How many messages a stream still has."""
    rows = yield Sql(
        "SELECT COUNT(*) FROM messages WHERE account_id = :account_id AND server_id = :server_id"
        " AND stream = :stream",
        _named(key),
    )
    total: int = rows[0][0]
    return total


def purge_slice(key: Key, archived_until_us: int, actor: Actor) -> Work[Purged]:
    """Remove the next slice of one. Two at once wait for each other; what was taken back is left alone."""
    account_id, server_id, stream = key
    if not (yield from stored_streams.lock(account_id, server_id)):
        return Purged(done=True)
    found = yield from stored_streams.get(account_id, server_id, stream)
    if found is None or found.archived_at_us is None or found.archived_at_us > archived_until_us:
        return Purged(done=True)
    numbers = yield from purge.next_messages(account_id, server_id, stream)
    if (yield from _cancelled(account_id, numbers)):
        return Purged(blocked=True)
    rows = yield from purge.mail_slice(account_id, server_id, stream)
    rows = rows or (yield from _own(key))
    if rows:
        return Purged(rows)
    yield delete(streams).where(
        streams.c.account_id == account_id, streams.c.server_id == server_id, streams.c.stream == stream
    )
    at_us, detail = (yield from now()), {"stream": stream}
    yield from audit.add(account_id, at_us, actor, "stream.purge", f"server {server_id}", detail)
    return Purged(done=True)


def _cancelled(account_id: AccountId, numbers: Sequence[MessageId]) -> Work[bool]:
    """Cancel what of these messages waits; whether a worker holds some of it."""
    if not numbers:
        return False
    final = [state.value for state in FINAL_STATES]
    rows = yield (
        select(deliveries.c.message_id)
        .where(
            deliveries.c.account_id == account_id,
            deliveries.c.message_id.in_(numbers),
            deliveries.c.state.not_in(final),
        )
        .distinct()
        .order_by(deliveries.c.message_id)
    )
    held = False
    for row in rows:
        taken = yield from queue.cancel_message(account_id, MessageId(row[0]))
        held = held or bool(taken.claimed)
    return held


def _own(key: Key) -> Work[int]:
    """A slice of its bounces, then of its suppressions."""
    account_id, server_id, stream = key
    for table in (bounces, suppressions):
        number = next(iter(table.primary_key.columns))
        mine = (
            table.c.account_id == account_id,
            table.c.server_id == server_id,
            table.c.stream == stream,
        )
        rows = yield select(number).where(*mine).order_by(number).limit(SLICE)
        if rows:
            yield delete(table).where(*mine, number.in_([row[0] for row in rows]))
            return len(rows)
    return 0


def _named(key: Key) -> dict[str, object]:
    return dict(zip(("account_id", "server_id", "stream"), key, strict=True))
