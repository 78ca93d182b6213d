"""What a caller asks to send, and what of it can be checked without the database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from postroom.actions.context import Limits
from postroom.core.bounce import BounceKind
from postroom.core.message import Purpose
from postroom.errors import Invalid
from postroom.ids import AccountId, KeyId, ServerId
from postroom.mail import headers
from postroom.mail.address import parse_address
from postroom.mail.attachments import check_attachment
from postroom.mail.content import Attachment, Mailbox, TrackLinks
from postroom.mail.trace import Arrival


@dataclass(frozen=True)
class Idempotency:
    """The caller's name for this request, and a digest of it. Unique within a key for a day."""

    key_id: KeyId
    name: str
    fingerprint: bytes


class Submission(msgspec.Struct, frozen=True):
    """What a caller asks to send.

    sender: None takes the server's default. stream: None takes the purpose's own. `options` is kept with
    the message for its way in (`origin`) to show again. `raw`: a complete message of the client's; then
    text, html, headers and attachments stay empty. `arrival`: how a message came in by SMTP, which its trace
    says. unsubscribe_link: whether it offers to unsubscribe; None:
    as its purpose has it, bulk mail does and transactional mail does not. track_opens and track_links say
    nothing of a raw message, which is never touched. rehearsed: recipients, by address for comparing,
    whose mail ends at once and never leaves, as this bounce or, with None, as delivered.
    """

    account_id: AccountId
    server_id: ServerId
    purpose: Purpose
    origin: str
    to: Sequence[Mailbox]
    cc: Sequence[Mailbox] = ()
    bcc: Sequence[Mailbox] = ()
    sender: Mailbox | None = None
    reply_to: Sequence[Mailbox] = ()
    subject: str = ""
    text: str | None = None
    html: str | None = None
    preheader: str = ""
    headers: Sequence[tuple[str, str]] = ()
    attachments: Sequence[Attachment] = ()
    raw: bytes | None = None
    arrival: Arrival | None = None
    unsubscribe_link: bool | None = None
    track_opens: bool = False
    track_links: TrackLinks = TrackLinks.NONE
    stream: str | None = None
    key_id: KeyId | None = None
    message_id: str = ""
    refuse_suppressed: bool = False
    rehearsed: Mapping[str, BounceKind | None] = msgspec.field(default_factory=dict)
    options: Mapping[str, object] = msgspec.field(default_factory=dict)
    idempotency: Idempotency | None = None


class Recipient(msgspec.Struct, frozen=True):
    """One who gets a copy. key: his address for comparing. kind: to, cc or bcc."""

    address: str
    key: str
    kind: str


def check_submission(limits: Limits, submission: Submission) -> list[Recipient]:
    """What can be known without the database. Returns the recipients, each once. Raises Invalid."""
    seen: set[str] = set()
    recipients: list[Recipient] = []
    for kind, boxes in (("to", submission.to), ("cc", submission.cc), ("bcc", submission.bcc)):
        for box in boxes:
            address = parse_address(box.address, kind)
            headers.check_header_value(box.name, kind)
            if address.key not in seen:
                seen.add(address.key)
                recipients.append(Recipient(address.text, address.key, kind))
    if not recipients:
        raise Invalid("to", "can't be blank")
    if len(recipients) > limits.max_recipients:
        raise Invalid("to", f"has more than {limits.max_recipients} recipients")
    for box in submission.reply_to:
        parse_address(box.address, "reply_to")
        headers.check_header_value(box.name, "reply_to")
    if submission.sender is not None:
        parse_address(submission.sender.address, "from")
        headers.check_header_value(submission.sender.name, "from")
    headers.check_header_value(submission.subject, "subject")
    headers.check_custom_headers(
        submission.headers,
        "headers",
        most=limits.max_mail_headers,
        most_bytes=limits.max_mail_header_bytes,
    )
    if submission.message_id and not headers.is_message_id(submission.message_id):
        raise Invalid("headers", "has a Message-ID that is not like <name@domain>")
    for file in submission.attachments:
        check_attachment(file.name, file.content_type, file.content_id, "attachments")
    if submission.raw is None and submission.text is None and submission.html is None:
        raise Invalid("body", "can't be blank")
    return recipients
