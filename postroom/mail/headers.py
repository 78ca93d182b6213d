"""Header fields: what callers may set, and how names, values and address lists become folded lines.

Follows RFC 5322 2.2 and 3.6, RFC 2047, RFC 2369 and RFC 8058. Every line made here goes through one
guard, so that no value, checked before or not, can begin a second header field.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import timedelta
from functools import lru_cache

from postroom.clock import MICROS, to_datetime
from postroom.errors import Invalid
from postroom.mail.address import parse_domain, wire_address
from postroom.mail.content import Mailbox
from postroom.mail.words import FORBIDDEN, check_text, encode_words

MAX_LINE = 998  # RFC 5322 2.1.1, without CRLF
_LINE = 78  # RFC 5322 2.1.1: what lines should keep to
_WORD_LINE = 76  # RFC 2047 2: a line that holds an encoded-word

_NAME = re.compile(r"[!-9;-~]{1,126}")
_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_TOKEN_OR_BLANKS = re.compile(r"[ \t]*[^ \t]+")
_MESSAGE_ID = re.compile(r"<[!-;=?-~]{1,900}>")
_LIST_URI = re.compile(r"<(?:https?://|mailto:)[!#-;=?-\[\]_a-z~|]{1,900}>", re.IGNORECASE)

# Written by us, by the connection, or by the systems on the way; a caller's copy would lie or clash.
_OURS = frozenset(
    {"from", "sender", "reply-to", "to", "cc", "bcc", "subject", "date", "message-id", "mime-version"}
    | {"dkim-signature", "domainkey-signature", "authentication-results", "received-spf"}
    | {"return-path", "received", "delivered-to", "apparently-to", "x-original-to"}
)
_OURS_PREFIXES = ("content-", "x-postroom-", "arc-", "resent-")
_OWN_FIELD = frozenset({"reply-to", "subject", "to", "cc", "bcc", "from"})
_LIST_URIS = frozenset(
    {"list-unsubscribe", "list-help", "list-subscribe", "list-post", "list-owner", "list-archive"}
)
# RFC 5322 3.6 and RFC 2369 3.4: at most one of each.
_ONCE = _LIST_URIS | {"in-reply-to", "references", "list-unsubscribe-post", "list-id", "auto-submitted"}
_ONE_CLICK = "List-Unsubscribe=One-Click"  # RFC 8058 3.1


def check_header_name(name: str, field: str) -> None:
    """Refuse what is no field name (RFC 5322 3.6.8: printable ASCII but the colon; at most 126)."""
    if not _NAME.fullmatch(name):
        raise Invalid(field, "is not a valid header name")


def check_header_value(value: str, field: str) -> None:
    """Refuse line breaks, controls and encoded-words that hide them (RFC 5322 2.2)."""
    check_text(value, field)


def is_reserved(name: str) -> bool:
    """Whether a header of this name is ours or the transport's to write, never the caller's."""
    lower = name.lower()
    return lower in _OURS or lower.startswith(_OURS_PREFIXES)


def check_custom_headers(
    headers: Iterable[tuple[str, str]], field: str, *, most: int = 200, most_bytes: int = 100 << 10
) -> tuple[tuple[str, str], ...]:
    """The caller's extra headers, checked, in their order, values without blanks around them.

    Raises Invalid(field, reason naming the header): for a reserved name, a value that is not one line,
    a second header where one is allowed, a List-* header that is not `<uri>, <uri>` with http, https or
    mailto (RFC 2369 2), a List-Unsubscribe-Post that is not RFC 8058's or stands without an https URI,
    more than `most` headers, or more than `most_bytes` of names and values together.
    """
    checked: list[tuple[str, str]] = []
    size = 0
    seen: dict[str, str] = {}
    for name, value in headers:
        if len(checked) == most:
            raise Invalid(field, f"has more than {most} headers")
        check_header_name(name, field)
        lower = name.lower()
        if is_reserved(name):
            hint = (
                "it has a field of its own" if lower in _OWN_FIELD else "it is set when the message is sent"
            )
            raise Invalid(field, f"must not contain the header {name!r}: {hint}")
        try:
            check_header_value(value, field)
        except Invalid as error:
            raise Invalid(field, f"header {name!r} {error.errors[0].reason}") from None
        size += len(name) + len(value.encode("utf-8"))
        if size > most_bytes:
            raise Invalid(field, f"is larger than {most_bytes} bytes")
        if lower in _ONCE and lower in seen:
            raise Invalid(field, f"must not contain the header {name!r} twice")
        value = value.strip(" \t")
        if lower in _LIST_URIS and not (lower == "list-post" and value.upper() == "NO"):
            _check_list_uris(name, value, field)
        seen[lower] = value
        checked.append((name, value))
    if "list-unsubscribe-post" in seen:
        if seen["list-unsubscribe-post"] != _ONE_CLICK:
            raise Invalid(field, f"header 'List-Unsubscribe-Post' must be {_ONE_CLICK!r}")
        if "<https://" not in seen.get("list-unsubscribe", "").lower():
            raise Invalid(
                field, "header 'List-Unsubscribe-Post' needs a 'List-Unsubscribe' with an https URI"
            )
    return tuple(checked)


def _check_list_uris(name: str, value: str, field: str) -> None:
    position = 0
    while True:
        uri = _LIST_URI.match(value, position)
        if uri is None:
            raise Invalid(field, f"header {name!r} must be a list of <https://...> or <mailto:...>")
        rest = value[uri.end() :].lstrip(" \t")
        if not rest:
            return
        if not rest.startswith(","):
            raise Invalid(field, f"header {name!r} must be a list of <https://...> or <mailto:...>")
        position = len(value) - len(rest[1:].lstrip(" \t"))


def is_list_uri(uri: str) -> bool:
    """Whether `uri` may stand between the angle brackets of a List-* field: https, http or mailto."""
    return _LIST_URI.fullmatch(f"<{uri}>") is not None


def unsubscribe_headers(uri: str, one_click: bool = False) -> tuple[tuple[str, str], ...]:
    """List-Unsubscribe (RFC 2369 3.2) and, if `one_click`, List-Unsubscribe-Post (RFC 8058 3.1).

    `uri`: "https://...", "http://..." or "mailto:...". `one_click` only with https (RFC 8058 3.1). Raises
    Invalid("list_unsubscribe", ...) for what does not fit.
    """
    headers = [("List-Unsubscribe", f"<{uri}>")]
    if one_click:
        headers.append(("List-Unsubscribe-Post", _ONE_CLICK))
    return check_custom_headers(headers, "list_unsubscribe")


def new_message_id(uid: str, domain: str) -> str:
    """`<uid@domain>` (RFC 5322 3.6.4): the same for the same message, whenever it is asked for.

    uid: a UUID as text. `domain` may be Unicode. Raises Invalid("domain", ...) when it is none.
    """
    return f"<{uid}@{parse_domain(domain, 'domain')}>"


def is_message_id(text: str) -> bool:
    """Whether `text` is one `<...>` that can stand in a Message-ID field."""
    return _MESSAGE_ID.fullmatch(text) is not None


def date_header(us: int) -> str:
    """Microseconds since 1970 as `Mon, 01 Jan 2024 12:00:00 +0000` (RFC 5322 3.3), whole seconds."""
    return _date_of_second(us // MICROS)


@lru_cache(maxsize=64)
def _date_of_second(second: int) -> str:
    moment = to_datetime(0) + timedelta(seconds=second)
    # strftime would answer in the language of the process.
    day = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")[moment.weekday()]
    month = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")[
        moment.month - 1
    ]
    return f"{day}, {moment.day:02} {month} {moment:%Y %H:%M:%S} +0000"


def header_line(name: str, value: str) -> str:
    """The complete field `Name: value` with CRLF, folded (RFC 5322 2.2.3), ASCII.

    A value that is not ASCII, or that a reader would decode or trim, is written as encoded-words, so a
    reader sees exactly `value`. Raises Invalid(name, ...) for a name or value that is not one line.
    """
    if not _NAME.fullmatch(name):
        raise Invalid("headers", "is not a valid header name")
    if FORBIDDEN.search(value):
        check_text(value, name)
    return f"{name}: {encode_unstructured(value, len(name) + 2)}\r\n"


def encode_unstructured(text: str, used: int = 0) -> str:
    """`text` as an unstructured field body (RFC 5322 3.2.5, RFC 2047 5 (1)), folded, without the last CRLF.

    `used`: how many characters of the first line are taken. No line is longer than 998.
    """
    if text.isascii() and "=?" not in text:
        if used + len(text) <= _LINE and (not text or (text[0] > " " and text[-1] > " ")):
            return text
        folded = fold(text, used)
        if folded is not None:
            return folded
    return "\r\n ".join(encode_words(text, _WORD_LINE - used))


def fold(text: str, used: int) -> str | None:
    """ASCII `text` broken before single blanks into lines of at most 78 where its words allow it.

    Unfolding gives `text` back exactly. None when that cannot be promised: blanks at an end (readers
    trim them), or a word that leaves no line within 998.
    """
    if text != text.strip(" \t"):
        return None
    lines: list[str] = []
    line = ""
    room = _LINE - used
    limit = MAX_LINE - used
    for token in _TOKEN_OR_BLANKS.findall(text):
        # A run of blanks stays inside a line: at a line's end it would be trimmed on the way.
        if line and len(line) + len(token) > room and (token[0] in " \t" and token[1] not in " \t"):
            lines.append(line)
            line, room, limit = token, _LINE, MAX_LINE
        else:
            line += token
        if len(line) > limit:
            return None
    return "\r\n".join([*lines, line])


def format_mailbox(mailbox: Mailbox) -> str:
    """One mailbox for an address field: `Name <address>`, folded by itself only between encoded-words.

    The domain is written as A-labels; a local part that is not ASCII stays UTF-8 (RFC 6532 3.2).
    """
    return "\r\n ".join(_mailbox_pieces(mailbox))


def _mailbox_pieces(mailbox: Mailbox) -> list[str]:
    """What may stand on lines of its own; each at most 75 long, or one address."""
    address = wire_address(mailbox.address)
    name = mailbox.name
    if not name:
        return [address]
    if FORBIDDEN.search(name):
        check_text(name, "name")
    if name.isascii() and "=?" not in name and len(name) <= 60:
        if _ATOMS.fullmatch(name):
            return [*name.split(" "), f"<{address}>"]
        if name == name.strip(" \t"):
            quoted = name.replace("\\", "\\\\").replace('"', '\\"')
            return [f'"{quoted}"', f"<{address}>"]
    return [*encode_words(name, _WORD_LINE - 14), f"<{address}>"]


def address_line(name: str, mailboxes: Iterable[Mailbox]) -> str:
    """The complete address field with CRLF, folded between mailboxes and words (RFC 5322 3.4, 3.6.3)."""
    lines: list[str] = []
    line = f"{name}:"
    for number, mailbox in enumerate(mailboxes):
        if number:
            line += ","
        for piece in _mailbox_pieces(mailbox):
            if len(line) + 1 + len(piece) > _WORD_LINE and len(line) > len(name) + 1:
                lines.append(line)
                line = ""
            line += f" {piece}"
    return "\r\n".join([*lines, line]) + "\r\n"
