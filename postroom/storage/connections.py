"""Connections and their sealed secrets in the database.

`version` counts changes of settings and of the owner's switch: whoever acts on settings read earlier (a
test, an open session, an update) compares it. Health (failed, disabled, held) changes without it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, delete, func, insert, select, update

from postroom.core.connection import Connection, DeliveryMethod, Security, Vendor
from postroom.core.event import EventKind
from postroom.core.message import Purpose
from postroom.core.server import Owner
from postroom.ids import AccountId, ConnectionId, ServerId
from postroom.storage import lacks
from postroom.storage.hot import INSERT_EVENT
from postroom.storage.interface import Sql, Work
from postroom.storage.tables import connection_secrets, connections, refused_senders

SECRETS_TABLE = connection_secrets.name
KEPT = "kept:"  # before the name of a secret that a rotation replaced, until it is told to go

_FLAGS = {
    Purpose.BROADCAST: "for_broadcast",
    Purpose.SEQUENCE: "for_sequence",
    Purpose.TRANSACTIONAL: "for_transactional",
}


def add(connection: Connection, sealed: Mapping[str, bytes]) -> Work[Connection]:
    """Store a new connection with its sealed secrets; it comes back with its id.

    `connection.connection_id` is ignored, and so are its plain secrets.
    """
    rows = yield (
        insert(connections)
        .values(
            account_id=connection.account_id,
            server_id=connection.server_id,
            uid=connection.uid,
            version=connection.version,
            created_at=connection.created_at_us,
            updated_at=connection.updated_at_us,
            connection_failed_at=connection.failed_at_us,
            failed_reason=connection.failed_reason,
            **_settings(connection),
        )
        .returning(*connections.c)
    )
    stored = _connection(rows[0])
    for name, value in sealed.items():
        yield insert(connection_secrets).values(
            account_id=stored.account_id, connection_id=stored.connection_id, field=name, sealed=value
        )
    return stored


def get(account_id: AccountId, connection_id: ConnectionId) -> Work[Connection | None]:
    """The connection without its secrets, or None when absent, deleted or another account's."""
    rows = yield select(connections).where(
        connections.c.account_id == account_id,
        connections.c.connection_id == connection_id,
        connections.c.deleted_at.is_(None),
    )
    return _connection(rows[0]) if rows else None


def get_owned(owner: Owner, connection_id: ConnectionId) -> Work[Connection | None]:
    """The same, and None as well where this owner does not see it."""
    rows = yield select(connections).where(*_seen(owner), connections.c.connection_id == connection_id)
    return _connection(rows[0]) if rows else None


def list_of(owner: Owner, *, limit: int, offset: int = 0) -> Work[tuple[list[Connection], int]]:
    """The owner's connections in the order they were made, and how many there are in all."""
    seen = _seen(owner)
    counted = yield select(func.count()).select_from(connections).where(*seen)
    rows = yield (
        select(connections).where(*seen).order_by(connections.c.connection_id).limit(limit).offset(offset)
    )
    return [_connection(row) for row in rows], counted[0][0]


def has_other_enabled(owner: Owner, connection_id: ConnectionId) -> Work[bool]:
    """Whether the owner has another connection that is switched on."""
    rows = yield (
        select(connections.c.connection_id)
        .where(*_seen(owner), connections.c.enabled == 1, connections.c.connection_id != connection_id)
        .limit(1)
    )
    return bool(rows)


def list_of_server(account_id: AccountId, server_id: ServerId) -> Work[list[Connection]]:
    """All connections of one server, campaigns' pools included."""
    rows = yield select(connections).where(
        connections.c.account_id == account_id,
        connections.c.server_id == server_id,
        connections.c.deleted_at.is_(None),
    )
    return [_connection(row) for row in rows]


def sealed_secrets(
    account_id: AccountId, connection_ids: Sequence[ConnectionId]
) -> Work[dict[ConnectionId, dict[str, bytes]]]:
    """The sealed secrets of these connections, by connection and field."""
    rows = yield select(
        connection_secrets.c.connection_id, connection_secrets.c.field, connection_secrets.c.sealed
    ).where(
        connection_secrets.c.account_id == account_id,
        connection_secrets.c.connection_id.in_(connection_ids),
        connection_secrets.c.field.not_like(f"{KEPT}%"),
    )
    found: dict[ConnectionId, dict[str, bytes]] = {}
    for row in rows:
        found.setdefault(ConnectionId(row.connection_id), {})[row.field] = row.sealed
    return found


def kept_secrets(connection: Connection) -> Work[dict[str, bytes]]:
    """The sealed secrets from before a rotation, by their names in use."""
    rows = yield select(connection_secrets.c.field, connection_secrets.c.sealed).where(
        *_secrets_of(connection), connection_secrets.c.field.like(f"{KEPT}%")
    )
    return {row.field.removeprefix(KEPT): row.sealed for row in rows}


def drop_kept_secrets(connection: Connection) -> Work[None]:
    """Destroy them."""
    yield delete(connection_secrets).where(
        *_secrets_of(connection), connection_secrets.c.field.like(f"{KEPT}%")
    )


def change(
    connection: Connection,
    version: int,
    at_us: int,
    *,
    sealed: Mapping[str, bytes] | None = None,
    cleared: frozenset[str] = frozenset(),
) -> Work[Connection | None]:
    """Store new settings if the stored version still is `version`, else None; the version goes up.

    sealed: secrets to set; cleared: names of secrets to remove. A short hold ends, and refused senders
    and what its peer lacked are forgotten: all were about the settings before.
    """
    rows = yield (
        update(connections)
        .where(*_same(connection, version))
        .values(updated_at=at_us, version=version + 1, held_until=None, **_settings(connection))
        .returning(*connections.c)
    )
    if not rows:
        return None
    replaced = set(sealed or ()) | cleared
    if replaced:
        yield delete(connection_secrets).where(
            *_secrets_of(connection), connection_secrets.c.field.in_(sorted(replaced))
        )
    for name, value in (sealed or {}).items():
        yield insert(connection_secrets).values(
            account_id=connection.account_id,
            connection_id=connection.connection_id,
            field=name,
            sealed=value,
        )
    yield delete(refused_senders).where(
        refused_senders.c.account_id == connection.account_id,
        refused_senders.c.connection_id == connection.connection_id,
    )
    yield from lacks.forget(connection.account_id, connection.connection_id)
    return _connection(rows[0])


def record_success(connection: Connection, at_us: int) -> Work[Connection | None]:
    """A test passed: switched on, not failed, not held. None when its settings changed meanwhile.

    Only turning the switch raises the version: a test of a connection in use cuts none of its sessions.
    """
    rows = yield (
        update(connections)
        .where(*_same(connection, connection.version))
        .values(
            enabled=1,
            connection_failed_at=None,
            failed_reason=None,
            held_until=None,
            version=connection.version + (not connection.enabled),
            updated_at=at_us,
        )
        .returning(*connections.c)
    )
    return _connection(rows[0]) if rows else None


def record_failure(connection: Connection, at_us: int, reason: str) -> Work[Connection | None]:
    """A test failed: the connection is failed, for this reason. None when its settings changed meanwhile."""
    rows = yield (
        update(connections)
        .where(*_same(connection, connection.version))
        .values(connection_failed_at=at_us, failed_reason=reason, updated_at=at_us)
        .returning(*connections.c)
    )
    return _connection(rows[0]) if rows else None


def mark_deleted(connection: Connection, at_us: int) -> Work[None]:
    """From now on it does not exist and its secrets are gone; its counters stay for the caps."""
    yield (
        update(connections)
        .where(
            connections.c.account_id == connection.account_id,
            connections.c.connection_id == connection.connection_id,
        )
        .values(deleted_at=at_us, updated_at=at_us, enabled=0, version=connections.c.version + 1)
    )
    yield delete(connection_secrets).where(*_secrets_of(connection))
    yield delete(refused_senders).where(
        refused_senders.c.account_id == connection.account_id,
        refused_senders.c.connection_id == connection.connection_id,
    )
    yield from lacks.forget(connection.account_id, connection.connection_id)


def add_event(connection: Connection, kind: EventKind, at_us: int, data: Mapping[str, object]) -> Work[None]:
    """Something happened to a connection; a shared one's events stand under server 0."""
    yield Sql(
        INSERT_EVENT,
        {
            "account_id": connection.account_id,
            "server_id": connection.server_id or 0,
            "message_id": None,
            "delivery_id": None,
            "connection_id": connection.connection_id,
            "kind": kind.value,
            "at": at_us,
            "data": json.dumps(dict(data)),
        },
    )


def _seen(owner: Owner) -> list[ColumnElement[bool]]:
    seen = [connections.c.account_id == owner.account_id, connections.c.deleted_at.is_(None)]
    if owner.whole_account:
        return seen
    seen.append(connections.c.campaign_id.is_(None))
    if owner.server_id is None:
        seen.append(connections.c.server_id.is_(None))
    else:
        seen.append(connections.c.server_id == owner.server_id)
    return seen


def _same(connection: Connection, version: int) -> list[ColumnElement[bool]]:
    return [
        connections.c.account_id == connection.account_id,
        connections.c.connection_id == connection.connection_id,
        connections.c.version == version,
        connections.c.deleted_at.is_(None),
    ]


def _secrets_of(connection: Connection) -> list[ColumnElement[bool]]:
    return [
        connection_secrets.c.account_id == connection.account_id,
        connection_secrets.c.connection_id == connection.connection_id,
    ]


def _settings(connection: Connection) -> dict[str, object]:
    """The columns an owner sets."""
    return {
        "label": connection.label,
        "vendor": connection.vendor.value,
        "delivery_method": connection.delivery_method.value,
        "enabled": int(connection.enabled),
        **{flag: int(purpose in connection.purposes) for purpose, flag in _FLAGS.items()},
        "hourly_cap": connection.hourly_cap,
        "daily_cap": connection.daily_cap,
        "host": connection.host,
        "port": connection.port,
        "security": connection.security.value,
        "auth": connection.auth,
        "sender": connection.sender,
        "options": json.dumps(dict(connection.options)),
    }


def _connection(row: Any) -> Connection:  # Any: a driver's row carries no types
    return Connection(
        account_id=AccountId(row.account_id),
        connection_id=ConnectionId(row.connection_id),
        server_id=None if row.server_id is None else ServerId(row.server_id),
        uid=row.uid,
        label=row.label,
        vendor=Vendor(row.vendor),
        delivery_method=DeliveryMethod(row.delivery_method),
        enabled=bool(row.enabled),
        failed_at_us=row.connection_failed_at,
        failed_reason=row.failed_reason,
        disabled_at_us=row.disabled_at,
        held_until_us=row.held_until,
        purposes=frozenset(purpose for purpose, flag in _FLAGS.items() if getattr(row, flag)),
        hourly_cap=row.hourly_cap,
        daily_cap=row.daily_cap,
        host=row.host,
        port=row.port,
        security=Security(row.security),
        auth=row.auth,
        sender=row.sender,
        options=json.loads(row.options),
        version=row.version,
        created_at_us=row.created_at,
        updated_at_us=row.updated_at,
        deleted_at_us=row.deleted_at,
    )
