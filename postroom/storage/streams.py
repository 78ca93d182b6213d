"""Message streams in the database."""

from __future__ import annotations

from typing import Any

from sqlalchemy import insert, select, update

from postroom.core.stream import Stream, StreamType, Unsubscribing
from postroom.ids import AccountId, ServerId
from postroom.storage.interface import Sql, Work
from postroom.storage.tables import streams


def add(stream: Stream) -> Work[None]:
    """Store a new one."""
    yield insert(streams).values(
        account_id=stream.account_id,
        server_id=stream.server_id,
        stream=stream.stream,
        type=stream.type.value,
        created_at=stream.created_at_us,
        **_changeable(stream),
    )


def change(stream: Stream) -> Work[None]:
    """Store what of a stream can change."""
    yield (
        update(streams)
        .where(
            streams.c.account_id == stream.account_id,
            streams.c.server_id == stream.server_id,
            streams.c.stream == stream.stream,
        )
        .values(**_changeable(stream))
    )


def list_of(account_id: AccountId, server_id: ServerId) -> Work[list[Stream]]:
    """All streams of the server, archived ones included, by name."""
    rows = yield (
        select(streams)
        .where(streams.c.account_id == account_id, streams.c.server_id == server_id)
        .order_by(streams.c.stream)
    )
    return [_stream(row) for row in rows]


def lock(account_id: AccountId, server_id: ServerId) -> Work[bool]:
    """Hold off whoever else changes the server or its streams, until this unit ends; whether it is there."""
    rows = yield Sql(
        "SELECT server_id FROM servers"
        " WHERE account_id = :account_id AND server_id = :server_id AND deleted_at IS NULL",
        {"account_id": account_id, "server_id": server_id},
        lock=" FOR UPDATE",
    )
    return bool(rows)


def get(account_id: AccountId, server_id: ServerId, stream: str) -> Work[Stream | None]:
    """The stream, archived or not, or None."""
    rows = yield select(streams).where(
        streams.c.account_id == account_id, streams.c.server_id == server_id, streams.c.stream == stream
    )
    return _stream(rows[0]) if rows else None


def _changeable(stream: Stream) -> dict[str, object]:
    return {
        "name": stream.name,
        "description": stream.description,
        "unsubscribe": stream.unsubscribing.value,
        "updated_at": stream.updated_at_us,
        "archived_at": stream.archived_at_us,
    }


def _stream(row: Any) -> Stream:  # Any: a driver's row carries no types
    return Stream(
        account_id=AccountId(row.account_id),
        server_id=ServerId(row.server_id),
        stream=row.stream,
        name=row.name,
        type=StreamType(row.type),
        created_at_us=row.created_at,
        archived_at_us=row.archived_at,
        description=row.description,
        unsubscribing=Unsubscribing(row.unsubscribe),
        updated_at_us=row.updated_at,
    )
