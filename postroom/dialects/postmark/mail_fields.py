"""One message as it is sent to this API: its fields checked in the product's order, in its words.

Types come first (ErrorCode 403), then the stream (1235, 1236), then addresses, body, headers and the rest
(300), then attachments (411). What needs the database is checked where it is accepted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
from msgspec.structs import replace

from postroom.actions.checks import has_refused_characters
from postroom.actions.sending_terms import SendingTerms
from postroom.actions.submission import Submission
from postroom.core.key import Key
from postroom.core.message import Purpose
from postroom.core.stream import StreamType
from postroom.dialects.postmark.addresses_to_try import HEADERS, rehearsed_of
from postroom.dialects.postmark.bodies import Bodies, with_unsubscribe_link
from postroom.dialects.postmark.errors import ApiError
from postroom.dialects.postmark.fields import Fields, fields_of
from postroom.dialects.postmark.mail_files import attachments, listed
from postroom.dialects.postmark.server_fields import LINKS, OPTIONS, TRACK_LINKS
from postroom.errors import Invalid
from postroom.ids import ServerId
from postroom.mail.address import parse_mailbox_list
from postroom.mail.content import Attachment, Mailbox, TrackLinks

ORIGIN = "postmark"
DEFAULT_STREAM = "outbound"
MOST_RECIPIENTS = 50
_MOST_ADDRESSES = 1000  # so many are read before they are counted
_MOST_FROM, _MOST_SUBJECT, _MOST_TAG = 255, 2000, 1000
_MOST_BODY = 5 << 20
_MOST_METADATA, _MOST_NAME, _MOST_VALUE = 10, 20, 80
_LINKS = dict(
    zip(
        TRACK_LINKS,
        (TrackLinks.NONE, TrackLinks.HTML_AND_TEXT, TrackLinks.HTML, TrackLinks.TEXT),
        strict=True,
    )
)
_PURPOSES = {
    StreamType.TRANSACTIONAL: Purpose.TRANSACTIONAL,
    StreamType.BROADCAST: Purpose.BROADCAST,
}
_METADATA = (
    f"Invalid metadata content. Field names are limited to {_MOST_NAME} characters, field values are limited "
    f"to {_MOST_VALUE} characters, and a message may have {_MOST_METADATA} fields. "
)
_WORDS_TO_US = "x-pm-"  # header fields that say something to the product and go no further
_TYPED = ("From", "To", "Cc", "Bcc", "ReplyTo", "Subject", "HtmlBody", "TextBody", "Tag", "MessageStream")


@dataclass(frozen=True)
class Sending:
    """For whom messages are read: a key, its server and what that has."""

    key: Key
    server_id: ServerId
    terms: SendingTerms


class Tracking(msgspec.Struct, frozen=True):
    """Whether opens are tracked, and which links, in the product's word."""

    opens: bool
    links_word: str

    @property
    def links(self) -> TrackLinks:
        """Which links, in ours."""
        return _LINKS.get(self.links_word, TrackLinks.NONE)


def check_types(fields: Fields) -> None:
    """Every field is of its type. Raises ApiError(403) naming the first that is not."""
    for name in _TYPED:
        fields.text(name)
    fields.flag("TrackOpens")
    for name in ("Headers", "Attachments"):
        for one in listed(fields, name):
            fields_of(one, name)
    _metadata_object(fields)


def bodies(fields: Fields) -> Bodies:
    """Subject and bodies as they were sent. Raises ApiError(300) where there is no body."""
    html, text = fields.text("HtmlBody"), fields.text("TextBody")
    if html is None and text is None:
        raise ApiError(300, text="Provide either email TextBody or HtmlBody or both.")
    return Bodies(fields.text("Subject") or "", html, text)


def stream_of(fields: Fields, terms: SendingTerms, default: str = DEFAULT_STREAM) -> tuple[str, Purpose]:
    """The stream it goes on, and what for. Raises ApiError(1235, 1236)."""
    given = fields.text("MessageStream") or default
    kind = terms.streams.get(given.strip().lower())
    if kind is None:
        raise ApiError(1235, given)
    if kind not in _PURPOSES:
        raise ApiError(1236, given)
    return given.strip().lower(), _PURPOSES[kind]


def submission_of(
    sending: Sending, fields: Fields, says: Bodies, stream: str, purpose: Purpose
) -> Submission:
    """The message with what it says. Raises ApiError(300, 411)."""
    check_lengths(says)
    return saying(envelope_of(sending, fields, stream, purpose), says)


def saying(envelope: Submission, says: Bodies) -> Submission:
    """The message, saying this. Raises ApiError(300)."""
    check_lengths(says)
    says, offers = with_unsubscribe_link(says)
    return replace(
        envelope,
        subject=says.subject,
        html=says.html,
        text=says.text,
        unsubscribe_link=offers or None,
    )


def envelope_of(sending: Sending, fields: Fields, stream: str, purpose: Purpose) -> Submission:
    """All of the message but what it says. Raises ApiError(300, 411)."""
    return with_files(addressed(sending, fields, stream, purpose), attachments(fields))


def with_files(envelope: Submission, files: Sequence[Attachment]) -> Submission:
    """With these attached."""
    if not files:
        return envelope
    named = {**envelope.options, "files": [one.name for one in files]}
    return replace(envelope, attachments=files, options=named)


def addressed(sending: Sending, fields: Fields, stream: str, purpose: Purpose) -> Submission:
    """All of the message but what it says and what is attached. Raises ApiError(300)."""
    sender = _sender(fields)
    to, cc, bcc = (_people(fields, name) for name in ("To", "Cc", "Bcc"))
    count = len(to) + len(cc) + len(bcc)
    if not count:
        raise ApiError(300, text="Zero recipients specified.")
    if count > MOST_RECIPIENTS:
        raise ApiError(300, text=f"A message may have {MOST_RECIPIENTS} recipients in To, Cc and Bcc.")
    tracking = tracking_of(fields, sending.terms)
    headers, message_id = _headers(fields)
    kept = kept_of(fields, tracking)
    return Submission(
        account_id=sending.key.account_id,
        server_id=sending.server_id,
        purpose=purpose,
        origin=ORIGIN,
        sender=sender,
        to=to,
        cc=cc,
        bcc=bcc,
        reply_to=_people(fields, "ReplyTo"),
        headers=headers,
        message_id=message_id,
        track_opens=tracking.opens,
        track_links=tracking.links,
        stream=stream,
        key_id=sending.key.key_id,
        refuse_suppressed=True,
        rehearsed=rehearsed_of((*to, *cc, *bcc), _bounce_type(fields)),
        options=kept,
    )


def tracking_of(fields: Fields, terms: SendingTerms) -> Tracking:
    """What of it is tracked: the server's word counts, too. Raises ApiError(300, 403)."""
    flag = OPTIONS["TrackOpens"]
    opens = bool(terms.options.get(flag.option, flag.default)) or bool(fields.flag("TrackOpens"))
    return Tracking(opens, _track_links(fields) or str(terms.options.get(LINKS.option, LINKS.default)))


def kept_of(fields: Fields, tracking: Tracking) -> dict[str, object]:
    """What is stored with the message for nobody but this API to show again."""
    kept: dict[str, object] = {"from": fields.text("From")}
    for name in ("To", "Cc", "Bcc"):
        if name in fields:
            kept[name.lower()] = fields.text(name)
    tag, metadata = fields.text("Tag"), _metadata(fields)
    if tag is not None:
        if _units(tag) > _MOST_TAG or has_refused_characters(tag):
            raise ApiError(300, text=f"Invalid 'Tag': it is one line of at most {_MOST_TAG} characters.")
        kept["tag"] = tag
    if metadata:
        kept["metadata"] = metadata
    if tracking.opens:
        kept["opens"] = True
    if tracking.links_word != LINKS.default:
        kept["links"] = tracking.links_word
    return kept


def _sender(fields: Fields) -> Mailbox:
    """The From; of several the first."""
    given = fields.text("From") or ""
    if _units(given) > _MOST_FROM:
        raise ApiError(300, text=f"The 'From' address has more than {_MOST_FROM} characters.")
    try:
        return parse_mailbox_list(given, "From", _MOST_ADDRESSES)[0]
    except Invalid:
        raise ApiError(300, text=f"Invalid 'From' address: '{given}'.") from None


def _people(fields: Fields, name: str) -> Sequence[Mailbox]:
    given = fields.text(name)
    if given is None or not given.strip(" \t,"):
        return ()
    try:
        return parse_mailbox_list(given, name, _MOST_ADDRESSES)
    except Invalid as error:
        if name == "To":
            raise ApiError(300, text=f"Invalid 'To' address: '{given}'.") from None
        if "@" not in given:
            why = f"Illegal email address '{given}'. It must contain the '@' symbol."
        else:
            why = f"Illegal email address in '{given}': {error.errors[0].reason}."
        raise ApiError(300, text=f"Error parsing '{name}': {why}") from None


def check_lengths(says: Bodies) -> None:
    """Raises ApiError(300) for a subject or body that is too long, or a subject that is no line."""
    if _units(says.subject) > _MOST_SUBJECT:
        raise ApiError(300, text=f"The 'Subject' has more than {_MOST_SUBJECT} characters.")
    if has_refused_characters(says.subject):
        raise ApiError(300, text="Invalid 'Subject': it must be one line without control characters.")
    for name, body in (("HtmlBody", says.html), ("TextBody", says.text)):
        if body is not None and len(body) > _MOST_BODY:
            raise ApiError(300, text=f"The '{name}' is larger than {_MOST_BODY >> 20} MB.")


def _track_links(fields: Fields) -> str:
    value = fields.value("TrackLinks")
    if value is None:
        return ""
    for word in TRACK_LINKS:
        if isinstance(value, str) and value.strip().lower() == word.lower():
            return word
    raise ApiError(300, text=f"Invalid 'TrackLinks': it must be one of {', '.join(TRACK_LINKS)}.")


def _headers(fields: Fields) -> tuple[Sequence[tuple[str, str]], str]:
    """The message's own header fields, and its Message-ID where that is among them."""
    found: list[tuple[str, str]] = []
    message_id = ""
    for one in listed(fields, "Headers"):
        header = fields_of(one, "Headers")
        name, value = header.text("Name") or "", header.text("Value") or ""
        if name.lower() == "message-id":
            message_id = value.strip()
        elif not name.lower().startswith(_WORDS_TO_US):
            found.append((name, value))
    return found, message_id


def _bounce_type(fields: Fields) -> str | None:
    """What an address to try bounces with shall answer."""
    for one in listed(fields, "Headers"):
        header = fields_of(one, "Headers")
        if (header.text("Name") or "").lower() in HEADERS:
            return header.text("Value")
    return None


def _metadata_object(fields: Fields) -> Mapping[str, object]:
    value = fields.value("Metadata")
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ApiError(403, "Metadata")
    return value


def _metadata(fields: Fields) -> dict[str, str]:
    """Names and values as texts."""
    found: dict[str, str] = {}
    for name, value in _metadata_object(fields).items():
        if isinstance(value, bool) or not isinstance(value, str | int | float | None):
            raise ApiError(300, text=f"{_METADATA}The value of '{name}' is not a text.")
        text = "" if value is None else str(value)
        if not name or _units(name) > _MOST_NAME or _units(text) > _MOST_VALUE:
            raise ApiError(300, text=f"{_METADATA}'{name}' is not within that.")
        found[name] = text
    if len(found) > _MOST_METADATA or len({name.lower() for name in found}) < len(found):
        raise ApiError(300, text=f"{_METADATA}Names must differ in more than case.")
    return found


def _units(text: str) -> int:
    """How long it is in the product's count: UTF-16."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2
