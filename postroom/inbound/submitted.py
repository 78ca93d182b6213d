"""What a client handed in over SMTP, read as a `Submission`: its From, its recipients, and what is refused.

The header decides who the sender is and the envelope who gets it (RFC 6409 6.1). The bytes stay as they are;
what is looked at here is only the header section. Refused: NUL, lines over 998 (RFC 5322 2.1.1), a From that
is not exactly one field with one address, line breaks hidden in encoded-words, and a message that has
travelled in circles (RFC 5321 6.3).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from postroom.actions.accept import Submission
from postroom.core.key import Key
from postroom.core.message import Purpose
from postroom.errors import Invalid
from postroom.ids import ServerId
from postroom.mail.address import Address, parse_address, parse_mailbox
from postroom.mail.content import Mailbox
from postroom.mail.headers import MAX_LINE
from postroom.mail.parse import lenient_mailboxes
from postroom.mail.raw import split_raw
from postroom.mail.trace import Arrival, goes_in_circles
from postroom.mail.words import check_text, decode_text, decode_words

ORIGIN = "smtp"
_MOST_SHOWN = 1000  # addresses of To and Cc


class Looping(Invalid):
    """The message has passed too many servers, or us too often."""


def read_submission(
    content: bytes,
    recipients: Sequence[Address],
    key: Key,
    server_id: ServerId,
    *,
    mail_from: str,
    max_headers: int,
    max_header_bytes: int,
    arrival: Arrival,
) -> Submission:
    """The submission of `content` (CRLF line ends, dots unstuffed) to `recipients`, each once.

    mail_from: the envelope sender, "" for the null sender; kept to be shown, it decides nothing. arrival: for
    its trace. Raises Invalid (fields: message, from, subject) and Looping.
    """
    _check_bytes(content)
    fields = _header(content, max_headers, max_header_bytes)
    senders = [whole for name, whole in fields if name == b"from"]
    if len(senders) != 1:
        raise Invalid("from", "must be exactly one header field" if senders else "is missing in the header")
    sender = parse_mailbox(_text(senders[0], "from"), "from")
    if circles := goes_in_circles(fields, arrival.instance):
        raise Looping("message", circles)
    shown = {name: list(_mailboxes(fields, name)) for name in (b"to", b"cc")}
    kinds = _by_kind(recipients, shown)
    return Submission(
        account_id=key.account_id,
        server_id=server_id,
        purpose=Purpose.TRANSACTIONAL,
        origin=ORIGIN,
        to=kinds["to"],
        cc=kinds["cc"],
        bcc=kinds["bcc"],
        sender=sender,
        subject=_subject(fields),
        raw=content,
        arrival=arrival,
        stream="outbound",
        key_id=key.key_id,
        options={"mail_from": mail_from},
    )


def _check_bytes(content: bytes) -> None:
    if b"\0" in content:
        raise Invalid("message", "must not contain a NUL character")
    position = 0
    while len(content) - position > MAX_LINE:
        end = content.rfind(b"\n", position, position + MAX_LINE + 2)
        if end < 0:
            raise Invalid("message", f"must not have lines longer than {MAX_LINE} bytes")
        position = end + 1


def _header(content: bytes, most: int, most_bytes: int) -> list[tuple[bytes, bytes]]:
    """The header's fields, without copying a large body."""
    end = content.find(b"\r\n\r\n")
    if (end if end >= 0 else len(content)) > most_bytes:
        raise Invalid("message", f"has a header larger than {most_bytes} bytes")
    fields, _ = split_raw(content if end < 0 else content[: end + 2])
    if len(fields) > most:
        raise Invalid("message", f"has more than {most} header fields")
    return fields


def _text(whole: bytes, field: str) -> str:
    """The unfolded value of a field whose exact reading matters."""
    try:
        return whole.partition(b":")[2].replace(b"\r\n", b"").decode("utf-8")
    except UnicodeDecodeError:
        raise Invalid(field, "must be ASCII or UTF-8") from None


def _subject(fields: Sequence[tuple[bytes, bytes]]) -> str:
    found = next((whole for name, whole in fields if name == b"subject"), b"")
    value = decode_text(found.partition(b":")[2].replace(b"\r\n", b"")).strip(" \t")
    check_text(value, "subject")  # also what its encoded-words hide
    return decode_words(value)


def _mailboxes(fields: Sequence[tuple[bytes, bytes]], wanted: bytes) -> Iterator[tuple[str, Mailbox]]:
    """(compare key, mailbox) of everyone named in the fields of this name, as far as they can be read."""
    for name, whole in fields:
        if name == wanted:
            value = decode_text(whole.partition(b":")[2].replace(b"\r\n", b""))
            for box in lenient_mailboxes(value, _MOST_SHOWN):
                try:
                    yield parse_address(box.address, "to").key, box
                except Invalid:
                    continue


def _by_kind(
    recipients: Sequence[Address], shown: dict[bytes, list[tuple[str, Mailbox]]]
) -> dict[str, list[Mailbox]]:
    """Each recipient of the envelope by where the header names it; who is named nowhere gets a blind copy."""
    to, cc = (dict(reversed(shown[name])) for name in (b"to", b"cc"))
    kinds: dict[str, list[Mailbox]] = {"to": [], "cc": [], "bcc": []}
    for address in recipients:
        kind = "to" if address.key in to else "cc" if address.key in cc else "bcc"
        named = to.get(address.key) or cc.get(address.key)
        kinds[kind].append(Mailbox(address.text, named.name if named else ""))
    return kinds
