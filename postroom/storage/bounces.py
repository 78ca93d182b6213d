"""Bounces in the database: written with what made them, never changed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from postroom.core.bounce import BounceKind
from postroom.ids import AccountId, BounceId, DeliveryId, ServerId
from postroom.mail.report import diagnostic, refusal_report
from postroom.storage.interface import Sql, Work
from postroom.storage.labels import TAG

_INSERT = """
INSERT INTO bounces (account_id, server_id, delivery_id, public_id, stream, kind, recipient, address, sender,
                     subject, tag, text, report, at)
VALUES (:account_id, :server_id, :delivery_id, :public_id, :stream, :kind, :recipient, :address, :sender,
        :subject, :tag, :text, :report, :at)
RETURNING bounce_id
"""
_ABOUT = """
SELECT d.delivery_id, d.server_id, m.public_id, m.stream, d.recipient, d.address,
       CASE WHEN m.sender = '' THEN COALESCE(m.from_mailbox, '') ELSE m.sender END, m.subject, m.options,
       m.rfc_message_id
FROM deliveries d
JOIN messages m ON m.account_id = d.account_id AND m.message_id = d.message_id
WHERE d.account_id = :account_id AND d.delivery_id = :delivery_id
"""


@dataclass(frozen=True)
class NewBounce:
    """What `core.bounce.Bounce` says, to be stored."""

    account_id: AccountId
    server_id: ServerId
    public_id: str
    stream: str
    kind: BounceKind
    recipient: str
    address: str
    sender: str
    subject: str
    tag: str
    text: str
    report: str
    delivery_id: DeliveryId | None = None


@dataclass(frozen=True)
class Bounced:
    """A delivery that bounced, and the last reply; what else is to be known of it stands with its message.

    code: 0 where nobody replied. http: it is an HTTP status, of an API.
    """

    account_id: AccountId
    delivery_id: DeliveryId
    kind: BounceKind
    text: str
    code: int = 0
    enhanced: str = ""
    http: bool = False


def add(made: Sequence[NewBounce], at_us: int) -> Work[list[BounceId]]:
    """Store these; their numbers in that order."""
    rows = yield Sql(
        _INSERT,
        [
            {
                "account_id": one.account_id,
                "server_id": one.server_id,
                "delivery_id": one.delivery_id,
                "public_id": one.public_id,
                "stream": one.stream,
                "kind": one.kind.value,
                "recipient": one.recipient,
                "address": one.address,
                "sender": one.sender,
                "subject": one.subject,
                "tag": one.tag,
                "text": one.text,
                "report": one.report,
                "at": at_us,
            }
            for one in made
        ],
    )
    return [BounceId(row[0]) for row in rows]


def add_bounced(bounced: Sequence[Bounced], at_us: int) -> Work[None]:
    """One for each of these deliveries."""
    rows = yield Sql(
        _ABOUT, [{"account_id": one.account_id, "delivery_id": one.delivery_id} for one in bounced]
    )
    about = {row[0]: row for row in rows}
    made = []
    for one in bounced:
        row = about[one.delivery_id]
        server_id, public_id, stream, recipient, address, sender, subject, options, message_id = row[1:]
        made.append(
            NewBounce(
                account_id=one.account_id,
                server_id=server_id,
                public_id=public_id,
                stream=stream,
                kind=one.kind,
                recipient=recipient,
                address=address,
                sender=sender,
                subject=subject,
                tag=tag_of(json.loads(options)),
                text=diagnostic(one.code, one.text, http=one.http),
                report=refusal_report(
                    recipient,
                    code=one.code,
                    enhanced=one.enhanced,
                    text=one.text,
                    message_id=message_id,
                    http=one.http,
                ),
                delivery_id=one.delivery_id,
            )
        )
    yield from add(made, at_us)


def tag_of(options: Mapping[str, object]) -> str:
    """The tag of a message, as its way in kept it."""
    tag = options.get(TAG)
    return tag if isinstance(tag, str) else ""
