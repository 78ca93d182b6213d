"""What a deleted server leaves behind is removed, slice by slice, in the background and in no hurry.

A server that is deleted does not exist any more for anybody; this makes it so on the disk: its messages with
all that became of them, bounces, suppressions, streams, keys and secrets. What stays is not its own any more:
its row and those of its connections (numbers are never used twice), counters of caps, the audit trail, and
where the links in its mail lead.

Nothing is touched while a worker holds a delivery of it: what is on its way ends first.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, delete, func, select

from postroom.core.message import DeliveryState
from postroom.ids import AccountId, MessageId, ServerId
from postroom.storage import labels, queue, servers, subject_blocks, tables
from postroom.storage.interface import Sql, Work, now
from postroom.storage.subject_blocks import StreamKey
from postroom.storage.tables import (
    attempts,
    bounces,
    bulk_slices,
    bulks,
    contents,
    deliveries,
    dkim_keys,
    events,
    hits,
    idempotency,
    identities,
    inbound_rules,
    keys,
    messages,
    server_secrets,
    streams,
    suppressions,
    templates,
    unknowns,
)

SLICE = 500  # rows of one table that one unit of work covers
_MESSAGES = 100

# Tables whose rows belong to one server and to nothing else. Others with a server in them are walked below,
# or stay: a test wants each to be named.
OWN = (
    bounces,
    suppressions,
    inbound_rules,
    templates,
    bulk_slices,
    bulks,
    streams,
    server_secrets,
    identities,
    dkim_keys,
    keys,
)
WALKED = (messages, deliveries, hits, events, tables.labels, tables.subject_blocks)
STAYS = ("servers", "connections", "lanes")


@dataclass(frozen=True)
class Purged:
    """What one slice did. blocked: something of the server is on its way, so it waits; done: all is gone."""

    rows: int = 0
    blocked: bool = False
    done: bool = False


def due(limit: int) -> Work[list[tuple[AccountId, ServerId]]]:
    """Deleted servers that still have something, the one deleted first before others."""
    rows = yield Sql(
        "SELECT account_id, server_id FROM servers WHERE deleted_at IS NOT NULL AND purged_at IS NULL"
        " ORDER BY deleted_at, server_id LIMIT :n",
        {"n": limit},
    )
    return [(AccountId(row[0]), ServerId(row[1])) for row in rows]


def left(account_id: AccountId, server_id: ServerId) -> Work[int]:
    """How many messages and rows of its own a server still has."""
    total = 0
    for table in (messages, *OWN):
        rows = yield (
            select(func.count())
            .select_from(table)
            .where(table.c.account_id == account_id, table.c.server_id == server_id)
        )
        total += rows[0][0]
    return total


def purge_slice(account_id: AccountId, server_id: ServerId) -> Work[Purged]:
    """Remove the next slice of a deleted server. Two at once wait for each other and do no harm."""
    locked = yield Sql(
        "SELECT server_id FROM servers WHERE account_id = :account_id AND server_id = :server_id"
        " AND deleted_at IS NOT NULL AND purged_at IS NULL",
        {"account_id": account_id, "server_id": server_id},
        lock=" FOR UPDATE",
    )
    if not locked:
        return Purged(done=True)
    rows = yield from queue.cancel_waiting(account_id, server_id)
    if rows:
        return Purged(rows)
    if (yield from servers.claimed(account_id, server_id)):
        return Purged(blocked=True)
    rows = yield from mail_slice(account_id, server_id)
    rows = rows or (yield from _own(account_id, server_id))
    if rows:
        return Purged(rows)
    at_us = yield from now()
    yield Sql(
        "UPDATE servers SET purged_at = :at WHERE account_id = :account_id AND server_id = :server_id",
        {"at": at_us, "account_id": account_id, "server_id": server_id},
    )
    return Purged(done=True)


def next_messages(
    account_id: AccountId, server_id: ServerId, stream: str | None = None
) -> Work[list[MessageId]]:
    """The messages that `mail_slice` works on next."""
    rows = yield _oldest(account_id, server_id, stream)
    return [MessageId(row[0]) for row in rows]


def _oldest(account_id: AccountId, server_id: ServerId, stream: str | None) -> Select[Any]:
    found = select(messages.c.message_id, messages.c.content_id, messages.c.stream, messages.c.options).where(
        messages.c.account_id == account_id, messages.c.server_id == server_id
    )
    if stream is not None:
        found = found.where(messages.c.stream == stream)
    return found.order_by(messages.c.message_id).limit(_MESSAGES)


def mail_slice(account_id: AccountId, server_id: ServerId, stream: str | None = None) -> Work[int]:
    """Deliveries, then events, then the messages themselves, of a server or of one stream: the first slice
    there is any of."""
    found = yield _oldest(account_id, server_id, stream)
    if not found:
        return 0
    numbers = [row[0] for row in found]
    rows = yield (
        select(deliveries.c.delivery_id, deliveries.c.state)
        .where(deliveries.c.account_id == account_id, deliveries.c.message_id.in_(numbers))
        .order_by(deliveries.c.delivery_id)
        .limit(SLICE)
    )
    if rows:
        gone = [row[0] for row in rows]
        unknown = [row[0] for row in rows if row[1] == DeliveryState.UNKNOWN]
        if unknown:
            yield delete(unknowns).where(unknowns.c.delivery_id.in_(unknown))
        for table in (attempts, hits, deliveries):
            yield delete(table).where(table.c.account_id == account_id, table.c.delivery_id.in_(gone))
        return len(gone)
    rows = yield (
        select(events.c.event_id)
        .where(events.c.account_id == account_id, events.c.message_id.in_(numbers))
        .limit(SLICE)
    )
    if rows:
        yield delete(events).where(
            events.c.account_id == account_id, events.c.event_id.in_([row[0] for row in rows])
        )
        return len(rows)
    yield delete(contents).where(
        contents.c.account_id == account_id, contents.c.content_id.in_([row[1] for row in found])
    )
    for message_id, _, on_stream, options in found:
        if found_by := labels.of(json.loads(options)):
            yield from labels.remove(account_id, server_id, on_stream, message_id, found_by)
    yield delete(messages).where(messages.c.account_id == account_id, messages.c.message_id.in_(numbers))
    # After them: a block that is being made now holds the first of them until it is there.
    last_of = {on_stream: message_id for message_id, _, on_stream, _ in found}
    for on_stream, last_id in sorted(last_of.items()):
        yield from subject_blocks.remove(StreamKey(account_id, server_id, on_stream), last_id)
    return len(found)


def _own(account_id: AccountId, server_id: ServerId) -> Work[int]:
    """A slice of the first table of its own that has rows; with keys the requests they named."""
    for table in OWN:
        key = list(table.primary_key.columns)
        rows = yield (
            select(*key)
            .where(table.c.account_id == account_id, table.c.server_id == server_id)
            .order_by(*key)
            .limit(SLICE)
        )
        if not rows:
            continue
        last = key[-1]
        gone = [row[-1] for row in rows]
        if table is keys:
            yield delete(idempotency).where(
                idempotency.c.account_id == account_id, idempotency.c.key_id.in_(gone)
            )
        yield delete(table).where(
            table.c.account_id == account_id, table.c.server_id == server_id, last.in_(gone)
        )
        return len(rows)
    return 0
