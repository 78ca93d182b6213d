"""Rows for tests that look at the engine alone, without the actions that make them in real life."""

from __future__ import annotations

from collections.abc import Sequence

from postroom.core.message import DeliveryState, Purpose
from postroom.ids import AccountId, ConnectionId, DeliveryId, LaneId, MessageId, ServerId
from postroom.mail.content import Content, Mailbox
from postroom.storage import lanes, messages
from postroom.storage.interface import Sql, Work, now
from postroom.storage.messages import NewDelivery, NewMessage, pack_content

ACCOUNT = AccountId(1)
SERVER = ServerId(1)
SENDER = "shop@example.com"


def tenants() -> Work[None]:
    """One account with one server whose From is proven."""
    yield Sql("INSERT INTO accounts (account_id, name, created_at) VALUES (1, 'default', 0)")
    yield Sql(
        "INSERT INTO servers (account_id, server_id, name, default_sender, created_at, updated_at)"
        " VALUES (1, 1, 'default', :sender, 0, 0)",
        {"sender": SENDER},
    )
    yield Sql(
        "INSERT INTO identities (account_id, server_id, kind, value, proof, created_at)"
        " VALUES (1, NULL, 'domain', 'example.com', 'operator', 0)"
    )


def connection(
    hourly_cap: int | None, daily_cap: int | None = None, host: str = "127.0.0.1", port: int = 25
) -> Work[ConnectionId]:
    """A connection of the server that may send everything."""
    rows = yield Sql(
        "INSERT INTO connections (account_id, server_id, uid, label, vendor, delivery_method, enabled,"
        " for_broadcast, for_sequence, for_transactional, hourly_cap, daily_cap, host, port,"
        " created_at, updated_at)"
        " VALUES (1, 1, :uid, 'out', 'other', 'smtp', 1, 1, 1, 1, :hourly, :daily, :host, :port, 0, 0)"
        " RETURNING connection_id",
        {"uid": b"u" * 16, "hourly": hourly_cap, "daily": daily_cap, "host": host, "port": port},
    )
    found: ConnectionId = rows[0][0]
    return found


def insert(made: NewMessage, lane: LaneId) -> Work[tuple[MessageId, list[DeliveryId]]]:
    """Store it now."""
    at_us = yield from now()
    ids = yield messages.ids_for(len(made.deliveries))
    return (yield from messages.insert(made, lane, at_us, ids))


def message(
    purpose: Purpose,
    recipients: Sequence[str],
    public_id: str,
    body: str = "hello",
    content: Content | None = None,
) -> Work[tuple[MessageId, LaneId]]:
    """A message as accept would store it."""
    stream = "outbound" if purpose is Purpose.TRANSACTIONAL else "broadcast"
    lane = yield from lanes.ensure(ACCOUNT, SERVER, purpose, stream, SENDER)
    content = content or Content(
        Mailbox(SENDER), tuple(Mailbox(one) for one in recipients), subject=public_id, text=body
    )
    packed = pack_content(content)
    stored, _ = yield from insert(
        NewMessage(
            account_id=ACCOUNT,
            server_id=SERVER,
            key_id=None,
            public_id=public_id,
            stream=stream,
            purpose=purpose,
            sender=SENDER,
            subject=public_id,
            rfc_message_id=f"<{public_id}@example.com>",
            body=packed,
            size_bytes=len(packed),
            captured=False,
            origin="test",
            options={},
            deliveries=[NewDelivery(one, one, "to", DeliveryState.READY) for one in recipients],
        ),
        lane,
    )
    return stored, lane
