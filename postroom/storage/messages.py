"""Messages, their contents and their deliveries, as stored."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from postroom.core.event import EventKind
from postroom.core.message import FINAL_STATES, DeliveryState, Purpose
from postroom.ids import AccountId, ConnectionId, DeliveryId, KeyId, LaneId, MessageId, ServerId
from postroom.mail.content import Content
from postroom.packing import deflate, inflate
from postroom.storage import hot, labels, link_targets
from postroom.storage.days import since
from postroom.storage.interface import NewIds, Rows, Sql, Together, Work

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Content).decode
_PLAIN, _DEFLATED = b"\x00", b"\x01"


def pack_content(content: Content) -> bytes:
    """A message's content as stored: msgpack, deflated where that makes it smaller."""
    plain = _encode(content)
    small = deflate(plain)
    return _DEFLATED + small if len(small) < len(plain) else _PLAIN + plain


def unpack_content(body: bytes) -> Content:
    """The reverse. Raises ValueError when the stored bytes are damaged."""
    try:
        return _decode(inflate(body[1:]) if body[:1] == _DEFLATED else body[1:])
    except (ValueError, msgspec.DecodeError) as error:
        raise ValueError(f"the stored content cannot be read: {error}") from error


class NewDelivery(msgspec.Struct, frozen=True):
    """One recipient of a new message. `address` is the recipient for comparing."""

    recipient: str
    address: str
    kind: str  # to, cc, bcc
    state: DeliveryState
    reason: str = ""


class NewMessage(msgspec.Struct, frozen=True):
    """A message that was checked and is now to be stored; `body` is packed content.

    targets: what its tracked links lead to, by number.
    """

    account_id: AccountId
    server_id: ServerId
    key_id: KeyId | None
    public_id: str
    stream: str
    purpose: Purpose
    sender: str
    subject: str
    rfc_message_id: str
    body: bytes
    size_bytes: int
    captured: bool
    origin: str
    options: Mapping[str, object]
    deliveries: Sequence[NewDelivery]
    targets: Sequence[str] = ()


@dataclass(frozen=True)
class StoredDelivery:
    """One delivery as it stands."""

    delivery_id: DeliveryId
    account_id: AccountId
    server_id: ServerId
    message_id: MessageId
    lane_id: LaneId
    recipient: str
    kind: str
    state: DeliveryState
    due_us: int
    tries: int
    resends: int
    copies: int
    settled_at_us: int | None
    reason: str


@dataclass(frozen=True)
class StoredMessage:
    """One message as it stands, without its content."""

    account_id: AccountId
    message_id: MessageId
    public_id: str
    server_id: ServerId
    stream: str
    purpose: Purpose
    sender: str
    subject: str
    rfc_message_id: str
    content_id: int
    size_bytes: int
    captured: bool
    origin: str
    options: Mapping[str, object]
    created_at_us: int


MESSAGE_COLUMNS = (
    "account_id, message_id, public_id, server_id, stream, purpose, sender, subject, rfc_message_id,"
    " content_id, size_bytes, captured, origin, options, created_at"
)
_DELIVERY = (
    "delivery_id, account_id, server_id, message_id, lane_id, recipient, kind, state, due, tries, resends,"
    " copies, settled_at, reason"
)

_INSERT_CONTENT = """
INSERT INTO contents (account_id, content_id, created_at, body)
VALUES (:account_id, :content_id, :now, :body)
"""
_INSERT_MESSAGE = """
INSERT INTO messages (account_id, message_id, public_id, server_id, key_id, stream, purpose, sender, subject,
                      rfc_message_id, content_id, size_bytes, captured, origin, options, created_at)
VALUES (:account_id, :message_id, :public_id, :server_id, :key_id, :stream, :purpose, :sender, :subject,
        :rfc_message_id, :content_id, :size_bytes, :captured, :origin, :options, :now)
"""
_INSERT_DELIVERY = """
INSERT INTO deliveries (account_id, delivery_id, server_id, message_id, lane_id, recipient, address, kind,
                        state, due, settled_at, reason)
VALUES (:account_id, :delivery_id, :server_id, :message_id, :lane_id, :recipient, :address, :kind,
        :state, :now, :settled_at, :reason)
"""
_FIRST_EVENT = {
    DeliveryState.READY: EventKind.ACCEPTED,
    DeliveryState.CAPTURED: EventKind.CAPTURED,
    DeliveryState.SUPPRESSED: EventKind.SUPPRESSED,
    DeliveryState.SENT: EventKind.SENT,
    DeliveryState.BOUNCED: EventKind.BOUNCED,
}


def ids_for(recipients: int) -> NewIds:
    """What `insert` needs for a message to so many."""
    return NewIds((("contents", 1), ("messages", 1), ("deliveries", recipients)))


def insert(
    message: NewMessage, lane_id: LaneId, at_us: int, ids: Rows, *, ends: bool = False
) -> Work[tuple[MessageId, list[DeliveryId]]]:
    """Store a message with its deliveries and put what is ready into its lane.

    at_us: when it was accepted. ids: of `ids_for`. ends: the unit of work does nothing after it.
    Returns the message's id and the deliveries' in order.
    """
    (content_id,), (message_id,), numbers = ids
    deliveries: list[DeliveryId] = list(numbers)
    whose = {"account_id": message.account_id, "server_id": message.server_id, "message_id": message_id}
    each = list(zip(deliveries, message.deliveries, strict=True))
    steps = [
        Sql(
            _INSERT_CONTENT,
            {"account_id": message.account_id, "content_id": content_id, "now": at_us, "body": message.body},
        ),
        Sql(
            _INSERT_MESSAGE,
            {
                **whose,
                "public_id": message.public_id,
                "key_id": message.key_id,
                "stream": message.stream,
                "purpose": message.purpose.value,
                "sender": message.sender,
                "subject": message.subject,
                "rfc_message_id": message.rfc_message_id,
                "content_id": content_id,
                "size_bytes": message.size_bytes,
                "captured": int(message.captured),
                "origin": message.origin,
                "options": json.dumps(message.options) if message.options else "{}",
                "now": at_us,
            },
        ),
        Sql(
            _INSERT_DELIVERY,
            [
                {
                    **whose,
                    "delivery_id": delivery,
                    "lane_id": lane_id,
                    "now": at_us,
                    "recipient": one.recipient,
                    "address": one.address,
                    "kind": one.kind,
                    "state": one.state.value,
                    "settled_at": at_us if one.state in FINAL_STATES else None,
                    "reason": one.reason,
                }
                for delivery, one in each
            ],
        ),
        Sql(
            hot.INSERT_READY,
            [
                {"account_id": message.account_id, "lane_id": lane_id, "due": at_us, "delivery_id": delivery}
                for delivery, one in each
                if one.state is DeliveryState.READY
            ],
        ),
        Sql(
            hot.INSERT_EVENT,
            [
                {
                    **whose,
                    "delivery_id": delivery,
                    "connection_id": None,
                    "kind": _FIRST_EVENT[one.state].value,
                    "at": at_us,
                    "data": "{}",
                }
                for delivery, one in each
            ],
        ),
    ]
    if message.targets:
        steps.append(link_targets.add(message.account_id, content_id, message.targets))
    if found_by := labels.of(message.options):
        steps.append(labels.add(message.account_id, message.server_id, message.stream, message_id, found_by))
    yield Together(steps, ends)
    return message_id, deliveries


def message_of(row: Sequence[object]) -> StoredMessage:
    """A row of MESSAGE_COLUMNS."""
    values = dict(zip([name.strip() for name in MESSAGE_COLUMNS.split(",")], row, strict=True))
    values["purpose"] = Purpose(str(values["purpose"]))
    values["captured"] = bool(values["captured"])
    values["options"] = json.loads(str(values["options"]))
    values["created_at_us"] = values.pop("created_at")
    return StoredMessage(**values)  # type: ignore[arg-type]  # the columns are the fields, in SQL's types


def _delivery(row: Sequence[object]) -> StoredDelivery:
    values = dict(zip([name.strip() for name in _DELIVERY.split(",")], row, strict=True))
    values["state"] = DeliveryState(str(values["state"]))
    values["due_us"] = values.pop("due")
    values["settled_at_us"] = values.pop("settled_at")
    return StoredDelivery(**values)  # type: ignore[arg-type]  # the columns are the fields, in SQL's types


def get(
    account_id: AccountId, server_id: ServerId | None, message_id: MessageId
) -> Work[StoredMessage | None]:
    """A message by its number; with a server_id only that server's."""
    rows = yield Sql(
        f"SELECT {MESSAGE_COLUMNS} FROM messages WHERE account_id = :account_id AND message_id = :message_id",  # noqa: S608
        {"account_id": account_id, "message_id": message_id},
    )
    found = message_of(rows[0]) if rows else None
    return found if found and server_id in (None, found.server_id) else None


def find(account_id: AccountId | None, text: str) -> Work[StoredMessage | None]:
    """A message by its number, its public id or its Message-ID; account None: the operator's look."""
    wanted = text.strip()
    where, value = "public_id = :value", wanted
    params: dict[str, object] = {"value": value}
    if wanted.isascii() and wanted.isdigit() and len(wanted) < 19:
        where, params["value"] = "message_id = :value", int(wanted)
    elif wanted.startswith("<") or "@" in wanted:
        # Our Message-IDs begin with the public id, so the unique index finds them.
        params["value"] = wanted.strip("<>").split("@")[0]
    if account_id is not None:
        where, params["account_id"] = f"account_id = :account_id AND {where}", account_id
    rows = yield Sql(f"SELECT {MESSAGE_COLUMNS} FROM messages WHERE {where}", params)  # noqa: S608
    return message_of(rows[0]) if rows else None


def deliveries(account_id: AccountId, message_id: MessageId) -> Work[list[StoredDelivery]]:
    """All deliveries of a message, in the order of its recipients."""
    return (yield from deliveries_of(account_id, [message_id]))


def deliveries_of(account_id: AccountId, numbers: Sequence[MessageId]) -> Work[list[StoredDelivery]]:
    """All deliveries of these messages, message by message, in the order of their recipients."""
    if not numbers:
        return []
    rows = yield Sql(
        f"SELECT {_DELIVERY} FROM deliveries WHERE account_id = :account_id"  # noqa: S608
        " AND message_id = :message_id ORDER BY delivery_id",
        [{"account_id": account_id, "message_id": one} for one in numbers],
    )
    return [_delivery(row) for row in rows]


def content(account_id: AccountId, content_id: int) -> Work[Content | None]:
    """What a message says, or None when it was deleted by retention. Raises ValueError when damaged."""
    rows = yield Sql(
        "SELECT body FROM contents WHERE account_id = :account_id AND content_id = :content_id",
        {"account_id": account_id, "content_id": content_id},
    )
    return unpack_content(rows[0][0]) if rows else None


def has_content(account_id: AccountId, content_id: int) -> Work[bool]:
    """Whether what a message says is still kept."""
    rows = yield Sql(
        "SELECT 1 FROM contents WHERE account_id = :account_id AND content_id = :content_id",
        {"account_id": account_id, "content_id": content_id},
    )
    return bool(rows)


@dataclass(frozen=True)
class Addressed:
    """Whom a delivery went to, on whose behalf. `address` is the recipient for comparing.

    gone: its server or account was deleted.
    """

    delivery_id: DeliveryId
    account_id: AccountId
    server_id: ServerId
    message_id: MessageId
    recipient: str
    address: str
    sender: str
    server_name: str
    stream_name: str
    gone: bool


_ADDRESSED = """
SELECT d.delivery_id, d.account_id, d.server_id, d.message_id, d.recipient, d.address, m.sender,
       COALESCE(v.name, ''), COALESCE(s.name, ''),
       v.server_id IS NULL OR v.deleted_at IS NOT NULL OR a.deleted_at IS NOT NULL
FROM deliveries d
JOIN messages m ON m.message_id = d.message_id
LEFT JOIN servers v ON v.server_id = d.server_id
LEFT JOIN accounts a ON a.account_id = d.account_id
LEFT JOIN streams s ON s.account_id = d.account_id AND s.server_id = d.server_id AND s.stream = m.stream
WHERE d.delivery_id = :delivery_id
"""


def addressed(delivery_id: DeliveryId) -> Work[Addressed | None]:
    """By the number in a token of ours, which knows no account; works after its content is cleared away."""
    rows = yield Sql(_ADDRESSED, {"delivery_id": delivery_id})
    if not rows:
        return None
    values = [*rows[0][:-1], bool(rows[0][-1])]
    return Addressed(*values)


@dataclass(frozen=True)
class StoredAttempt:
    """One try of a delivery through one connection. Times are microseconds since 1970."""

    attempt_id: int
    connection_id: ConnectionId
    decision_id: int
    granted_at_us: int
    ended_at_us: int | None
    result: str | None
    fault: str
    phase: str
    code: int
    enhanced: str
    reply: str
    remote_id: str
    signed: str


def attempts(account_id: AccountId, delivery_id: DeliveryId, content_id: int) -> Work[list[StoredAttempt]]:
    """All tries of a delivery, oldest first. content_id: that of its message, which tells its day."""
    rows = yield Sql(
        "SELECT attempt_id, connection_id, decision_id, granted_at, ended_at, result, fault, phase, code,"
        " enhanced, reply, remote_id, signed FROM attempts"
        " WHERE account_id = :account_id AND delivery_id = :delivery_id AND attempt_id >= :since"
        " ORDER BY attempt_id",
        {"account_id": account_id, "delivery_id": delivery_id, "since": since(content_id)},
    )
    return [StoredAttempt(*row) for row in rows]
