"""Parse: a message's bytes as a small value to show, forgiving and within limits.

For the test inbox, for what clients submit, and as the first look at mail that comes in. It never
raises and never trusts: whatever it cannot make sense of is kept as text or named in `defects`. The
address fields here are for people; `address` decides what may be sent to.
"""

from __future__ import annotations

import re

import msgspec

from postroom.mail.content import Mailbox
from postroom.mail.mime import Limits, Part, one_line, walk

_ADDRESS_TOKENS = re.compile(r'"(?:[^"\\]|\\.)*(?:"|$)|<[^<>]*>|[(),;:]|[^"<(),;:]+|.', re.DOTALL)
_QUOTED_PAIR = re.compile(r"\\(.)", re.DOTALL)


class ParsedAttachment(msgspec.Struct, frozen=True):
    """What is known of an attachment without opening it. `part` is its index in `mime.walk`'s parts."""

    name: str
    content_type: str
    size_bytes: int
    content_id: str
    part: int


class Parsed(msgspec.Struct, frozen=True):
    """A message to look at. All text is free of NUL and line breaks, but `text` and `html`."""

    subject: str
    sender: tuple[Mailbox, ...]  # more than one, or none: not to be trusted
    to: tuple[Mailbox, ...]
    cc: tuple[Mailbox, ...]
    reply_to: tuple[Mailbox, ...]
    message_id: str  # as written, with its angle brackets if it has them
    text: str | None
    html: str | None
    attachments: tuple[ParsedAttachment, ...]
    headers: tuple[tuple[str, str], ...]  # in order, decoded
    defects: tuple[str, ...]


def parse(data: bytes, limits: Limits | None = None) -> Parsed:
    """`data` as a value. The first text/plain and the first text/html that are no attachments are
    shown, apart from each other; every other part is an attachment."""
    limits = limits or Limits()
    parts, defects = walk(data, limits)
    top = parts[0]
    text: str | None = None
    html: str | None = None
    attachments: list[ParsedAttachment] = []
    for index, part in enumerate(parts):
        if part.content_type.startswith("multipart/") and not part.body:
            continue
        shown = part.disposition != "attachment" and not part.file_name
        if shown and text is None and part.content_type == "text/plain":
            text = _text(part, limits, defects)
        elif shown and html is None and part.content_type == "text/html":
            html = _text(part, limits, defects)
        elif shown and index == 0 and text is None and not part.content_type.startswith("message/"):
            text = _text(part, limits, defects)
        else:
            attachments.append(_attachment(part, index))
    fields = {name.lower(): value for name, value in reversed(top.fields)}

    def mailboxes(name: str) -> tuple[Mailbox, ...]:
        return lenient_mailboxes(fields.get(name, ""), limits.addresses)

    return Parsed(
        subject=one_line(fields.get("subject", "")),
        sender=mailboxes("from"),
        to=mailboxes("to"),
        cc=mailboxes("cc"),
        reply_to=mailboxes("reply-to"),
        message_id=one_line(fields.get("message-id", "")),
        text=text,
        html=html,
        attachments=tuple(attachments),
        headers=tuple((name, one_line(value)) for name, value in top.fields),
        defects=tuple(dict.fromkeys(defects)),
    )


def _text(part: Part, limits: Limits, defects: list[str]) -> str:
    if len(part.body) > limits.text_bytes:
        defects.append("text is cut")
    return part.text(limits.text_bytes)


def _attachment(part: Part, index: int) -> ParsedAttachment:
    content_id = one_line(part.value("Content-ID")).removeprefix("<").removesuffix(">")
    return ParsedAttachment(
        name=part.file_name,
        content_type=one_line(part.content_type),
        size_bytes=len(part.decoded()),
        content_id=content_id,
        part=index,
    )


def lenient_mailboxes(value: str, limit: int) -> tuple[Mailbox, ...]:
    """The mailboxes of an address field as a person would read them; at most `limit`, linear time.

    Comments are left out, groups opened. An entry without an address keeps its text as the address, so
    that nothing disappears from view.
    """
    found: list[Mailbox] = []
    words: list[str] = []
    address: str | None = None
    comment_depth = 0
    for token in _ADDRESS_TOKENS.findall(value + ","):
        if token == "(":  # noqa: S105 (a token of the grammar)
            comment_depth += 1
        elif comment_depth:
            comment_depth -= token == ")"  # noqa: S105
        elif token in (",", ";"):
            if address is None and "".join(words).strip():
                address, words = "".join(words).strip(), []
            if address is not None:
                found.append(Mailbox(one_line(address), one_line("".join(map(_unquoted, words)))))
                if len(found) == limit:
                    break
            words, address = [], None
        elif token == ":":  # noqa: S105
            words = []
        elif token.startswith("<") and token.endswith(">") and address is None:
            address = token[1:-1].strip()
        else:
            words.append(token)
    return tuple(found)


def _unquoted(token: str) -> str:
    if not token.startswith('"'):
        return token
    inner = token[1:-1] if token.endswith('"') else token[1:]
    return _QUOTED_PAIR.sub(r"\1", inner)
