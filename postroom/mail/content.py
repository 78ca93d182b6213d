"""What a message says, as values: the parts that `compose` turns into RFC 5322 bytes.

No addresses are parsed and nothing is checked here; `address` and `headers` do that when a message
is accepted, so whatever reaches `compose` is already clean.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Mailbox(msgspec.Struct, frozen=True):
    """One address with an optional display name, both as Unicode text (RFC 5322 3.4)."""

    address: str
    name: str = ""


class Attachment(msgspec.Struct, frozen=True):
    """A file that goes with the message. With `content_id` it is an inline image of the HTML part."""

    name: str
    content_type: str
    data: bytes
    content_id: str = ""  # without angle brackets


class TrackLinks(StrEnum):
    """In which parts of a message links are put behind ours, so that clicks are seen."""

    NONE = "none"
    HTML = "html"
    TEXT = "text"
    HTML_AND_TEXT = "html_and_text"


class Link(msgspec.Struct, frozen=True, array_like=True):
    """A stretch of a body part that is a link's target. number: of the target among the message's, from 0."""

    start: int
    end: int
    number: int


class Content(msgspec.Struct, frozen=True, omit_defaults=True):
    """Everything of a message but its envelope. At least one of text, html and raw is there.

    `raw`: a complete RFC 5322 message as a client submitted it; then the other fields but `sender`,
    `to`, `cc` and `subject` (kept for display) stay empty. `bcc` recipients never appear here.
    `headers` are extra headers in order, names and values checked. `trace`: the field a message got when
    it was handed in whole, which goes on top of it. `html_links` and `text_links`: what `mail.links`
    found to track in `html` and `text`, in order. `own_unsubscribing`: its sender offers to unsubscribe
    by his own means.
    """

    sender: Mailbox
    to: tuple[Mailbox, ...] = ()
    cc: tuple[Mailbox, ...] = ()
    reply_to: tuple[Mailbox, ...] = ()
    subject: str = ""
    text: str | None = None
    html: str | None = None
    preheader: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    attachments: tuple[Attachment, ...] = ()
    raw: bytes | None = None
    trace: str = ""
    unsubscribe_link: bool | None = None  # None: as its purpose has it; see `mail.unsubscribe.offer_for`
    track_opens: bool = False
    track_links: TrackLinks = TrackLinks.NONE
    html_links: tuple[Link, ...] = ()
    text_links: tuple[Link, ...] = ()
    own_unsubscribing: bool = False
