"""Servers in the database."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy import func, insert, select, update

from postroom.core.message import Purpose
from postroom.core.server import Owner, Server
from postroom.core.stream import BORN_WITH, Stream, StreamType, Unsubscribing
from postroom.ids import AccountId, DeliveryId, ServerId
from postroom.storage import generations, hot, streams
from postroom.storage.interface import Rows, Sql, Work
from postroom.storage.tables import servers


def add(
    account_id: AccountId,
    name: str,
    at_us: int,
    *,
    default_sender: str | None,
    sandbox: bool,
    inbound_hash: str,
    smtp_enabled: bool = True,
    inbound_domain: str = "",
    options: Mapping[str, object],
) -> Work[Server]:
    """Store a new server with the streams every server is born with."""
    rows = yield (
        insert(servers)
        .values(
            account_id=account_id,
            name=name,
            default_sender=default_sender,
            sandbox=int(sandbox),
            smtp_enabled=int(smtp_enabled),
            inbound_hash=inbound_hash,
            inbound_domain=inbound_domain,
            options=json.dumps(dict(options)),
            created_at=at_us,
            updated_at=at_us,
        )
        .returning(*servers.c)
    )
    server = _server(rows[0])
    for stream, title, kind, unsubscribing in BORN_WITH:
        born = Stream(
            account_id, server.server_id, stream, title, kind, at_us, None, unsubscribing=unsubscribing
        )
        yield from streams.add(born)
    return server


def get(account_id: AccountId, server_id: ServerId) -> Work[Server | None]:
    """The server, or None when absent, deleted or another account's."""
    rows = yield select(servers).where(
        servers.c.account_id == account_id,
        servers.c.server_id == server_id,
        servers.c.deleted_at.is_(None),
    )
    return _server(rows[0]) if rows else None


def list_of(
    owner: Owner, *, containing: str = "", limit: int, offset: int = 0
) -> Work[tuple[list[Server], int]]:
    """The servers the owner sees, oldest first, and how many there are without limit and offset.

    containing: only those with this text in their name, upper and lower case (of ASCII, on SQLite) the same.
    """
    seen = [servers.c.account_id == owner.account_id, servers.c.deleted_at.is_(None)]
    if owner.server_id is not None:
        seen.append(servers.c.server_id == owner.server_id)
    if containing:
        seen.append(servers.c.name.icontains(containing, autoescape=True))
    counted = yield select(func.count()).select_from(servers).where(*seen)
    rows = yield select(servers).where(*seen).order_by(servers.c.server_id).limit(limit).offset(offset)
    return [_server(row) for row in rows], counted[0][0]


def name_is_taken(account_id: AccountId, name: str, but: ServerId | None) -> Work[bool]:
    """Whether another server of the account has this name, upper and lower case the same."""
    query = select(servers.c.server_id).where(
        servers.c.account_id == account_id,
        servers.c.deleted_at.is_(None),
        func.lower(servers.c.name) == func.lower(name),
    )
    if but is not None:
        query = query.where(servers.c.server_id != but)
    return bool((yield query.limit(1)))


def inbound_domain_is_taken(domain: str, but: ServerId | None) -> Work[bool]:
    """Whether a server of any account has this domain; others that ask wait until this unit ends."""
    yield from generations.advance(generations.INBOUND_DOMAINS)
    rows = yield Sql(
        "SELECT server_id FROM servers WHERE inbound_domain = :domain AND deleted_at IS NULL",
        {"domain": domain},
    )
    return any(row[0] != but for row in rows)


def change(server: Server, at_us: int) -> Work[None]:
    """Store what of a server can change."""
    yield (
        update(servers)
        .where(servers.c.account_id == server.account_id, servers.c.server_id == server.server_id)
        .values(
            name=server.name,
            default_sender=server.default_sender,
            sandbox=int(server.sandbox),
            smtp_enabled=int(server.smtp_enabled),
            inbound_domain=server.inbound_domain,
            options=json.dumps(dict(server.options)),
            updated_at=at_us,
        )
    )


def mark_deleted(account_id: AccountId, server_id: ServerId, at_us: int) -> Work[None]:
    """From now on the server does not exist; its messages and statistics stay."""
    yield (
        update(servers)
        .where(servers.c.account_id == account_id, servers.c.server_id == server_id)
        .values(deleted_at=at_us, updated_at=at_us)
    )


def mark_had_connection(account_id: AccountId, server_id: ServerId) -> Work[bool]:
    """From now on, and for ever, the server's mail is not captured for want of a connection.

    Whether it was until now.
    """
    rows = yield (
        update(servers)
        .where(
            servers.c.account_id == account_id,
            servers.c.server_id == server_id,
            servers.c.had_connection == 0,
        )
        .values(had_connection=1)
        .returning(servers.c.server_id)
    )
    return bool(rows)


def claimed(account_id: AccountId, server_id: ServerId) -> Work[list[DeliveryId]]:
    """Deliveries of the server that a worker holds now. Reads open attempts only, however many have ended."""
    rows = yield Sql(
        "SELECT DISTINCT d.delivery_id FROM attempts t"
        " JOIN deliveries d ON d.account_id = t.account_id AND d.delivery_id = t.delivery_id"
        " WHERE t.result IS NULL AND t.account_id = :account_id AND d.server_id = :server_id",
        {"account_id": account_id, "server_id": server_id},
    )
    return [DeliveryId(row[0]) for row in rows]


class Accepting(msgspec.Struct, frozen=True):
    """What accepting a message for a server depends on.

    stream_type: None when the server has no such stream or it is archived. ever_had_connection: the server
    or its account, ever. purposes: those its own and its account's shared connections may carry.
    """

    default_sender: str | None
    sandbox: bool
    smtp_enabled: bool
    stream_type: StreamType | None
    ever_had_connection: bool
    unsubscribing: Unsubscribing | None
    purposes: frozenset[Purpose]


_FLAGS = (Purpose.TRANSACTIONAL, Purpose.BROADCAST, Purpose.SEQUENCE)


def look_accepting(account_id: AccountId, server_id: ServerId, stream: str) -> Sql:
    """Asks for all of it; `accepting` reads what comes."""
    return Sql(hot.ACCEPTING, {"account_id": account_id, "server_id": server_id, "stream": stream})


def accepting(rows: Rows) -> Accepting | None:
    """None when the server is absent, deleted or another account's."""
    if not rows:
        return None
    default_sender, sandbox, by_smtp, had, kind, archived_at, unsubscribing, *flags = rows[0]
    return Accepting(
        default_sender=default_sender,
        sandbox=bool(sandbox),
        smtp_enabled=bool(by_smtp),
        stream_type=None if kind is None or archived_at is not None else StreamType(kind),
        ever_had_connection=bool(had),
        unsubscribing=None if unsubscribing is None else Unsubscribing(unsubscribing),
        purposes=frozenset(purpose for flag, purpose in zip(flags, _FLAGS, strict=True) if flag),
    )


def account_of(server_id: ServerId) -> Work[AccountId | None]:
    """Whose server it is, or None when it is absent or deleted; for the operator, who sees all."""
    rows = yield Sql(
        "SELECT account_id FROM servers WHERE server_id = :server_id AND deleted_at IS NULL",
        {"server_id": server_id},
    )
    return AccountId(rows[0][0]) if rows else None


def _server(row: Any) -> Server:  # Any: a driver's row carries no types
    return Server(
        account_id=AccountId(row.account_id),
        server_id=ServerId(row.server_id),
        name=row.name,
        default_sender=row.default_sender,
        sandbox=bool(row.sandbox),
        had_connection=bool(row.had_connection),
        created_at_us=row.created_at,
        updated_at_us=row.updated_at,
        smtp_enabled=bool(row.smtp_enabled),
        inbound_hash=row.inbound_hash,
        inbound_domain=row.inbound_domain,
        options=json.loads(row.options),
    )
