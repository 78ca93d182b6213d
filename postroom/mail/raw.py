"""Messages that a client made itself: what is taken away, supplied and put on top before they are sent.

The body and all other header fields stay byte for byte, but for line ends, which become CRLF everywhere
(RFC 5321 2.3.8): what is stored, signed and sent must be the same lines for every program that reads it.
"""

from __future__ import annotations

import re

from postroom.errors import Invalid
from postroom.mail.headers import date_header, header_line, is_message_id

_MESSAGE_ID = re.compile(rb"<[^<>\s]+>")
_MOST_ID = 998  # kept of it; longer ones stand in no line that is taken
_BARE = re.compile(rb"\r\n|\r|\n")
_FIELD_START = re.compile(rb"[!-9;-~]+[ \t]*:")
# RFC 5322 3.6.3: Bcc is for the sender's eyes. RFC 5321 4.4: whoever sends must not set Return-Path.
_DROPPED = frozenset({b"bcc", b"resent-bcc", b"return-path"})


def normalise_line_ends(data: bytes) -> bytes:
    """`data` with every CR, LF and CRLF as CRLF."""
    pairs = data.count(b"\r\n")
    if pairs == data.count(b"\n") and pairs == data.count(b"\r"):
        return data
    return _BARE.sub(b"\r\n", data)


def split_raw(data: bytes) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """(fields as (lower-case name, whole field with its CRLFs), body) of a message with CRLF line ends.

    The header ends at the blank line, which is in neither, or before the first line that is no field:
    from there on it is body, as every lenient reader has it. An mbox "From " line in front is skipped.
    """
    fields: list[tuple[bytes, bytes]] = []
    position = 0
    if data.startswith((b"From ", b">From ")):
        end = data.find(b"\r\n")
        position = end + 2 if end >= 0 else len(data)
    start, name = position, b""
    while position < len(data):
        end = data.find(b"\r\n", position)
        after = end + 2 if end >= 0 else len(data)
        if end == position:
            return _with(fields, name, data[start:position]), data[after:]
        if not (name and data[position] in b" \t"):
            field = _FIELD_START.match(data, position, after)
            _with(fields, name, data[start:position])
            start, name = position, b""
            if field is None:
                return fields, data[position:]
            name = field.group()[:-1].rstrip(b" \t").lower()
        position = after
    return _with(fields, name, data[start:]), b""


def _with(fields: list[tuple[bytes, bytes]], name: bytes, field: bytes) -> list[tuple[bytes, bytes]]:
    if name:
        fields.append((name, field if field.endswith(b"\r\n") else field + b"\r\n"))
    return fields


def compose_raw(
    raw: bytes, *, message_id: str, date_us: int, extra_headers: tuple[tuple[str, str], ...]
) -> bytes:
    """`raw` ready to be sent: see `postroom.mail.compose.compose`."""
    fields, body = split_raw(normalise_line_ends(raw))
    dropped = _DROPPED | {name.lower().encode("ascii") for name, _ in extra_headers if name.isascii()}
    kept = [(name, field) for name, field in fields if name not in dropped]
    own_id = _message_id_of(kept)
    if not own_id:  # an empty field would be no id at all
        kept = [(name, field) for name, field in kept if name != b"message-id"]
    names = {name for name, _ in kept} | {name.lower().encode("ascii") for name, _ in extra_headers}
    head = [header_line(name, value).encode("ascii") for name, value in extra_headers]
    if b"date" not in names:
        head.append(f"Date: {date_header(date_us)}\r\n".encode("ascii"))
    if not own_id and b"message-id" not in names:
        if not is_message_id(message_id):
            raise Invalid("message_id", "is not a message id in angle brackets")
        head.append(f"Message-ID: {message_id}\r\n".encode("ascii"))
    if body and not body.endswith(b"\r\n"):
        body += b"\r\n"
    return b"".join([*head, *[field for _, field in kept], b"\r\n", body])


def raw_message_id(raw: bytes) -> str:
    """The Message-ID that `raw` is sent under, usually in angle brackets; "" when one is supplied instead."""
    end = raw.find(b"\r\n\r\n")  # without a copy of a large body; any other blank line ends it sooner
    fields, _ = split_raw(normalise_line_ends(raw if end < 0 else raw[: end + 2]))
    return _message_id_of(fields)


def _message_id_of(fields: list[tuple[bytes, bytes]]) -> str:
    """The first Message-ID field's id without comments, or what stands there instead of one."""
    whole = next((field for name, field in fields if name == b"message-id"), b"")
    value = whole.partition(b":")[2].replace(b"\r\n", b"").strip(b" \t")
    found = _MESSAGE_ID.search(value)
    return (found.group() if found else value)[:_MOST_ID].decode("ascii", "replace")


def raw_needs_utf8(raw: bytes) -> bool:
    """Whether a header field of `raw` has bytes above 127 (RFC 6532)."""
    if raw.isascii():
        return False
    fields, _ = split_raw(normalise_line_ends(raw))
    return any(not field.isascii() for _, field in fields)
