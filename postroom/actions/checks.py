"""Small checks on what callers wrote, shared by the actions; each adds to a list of field errors."""

from __future__ import annotations

import ipaddress
import re
import unicodedata

from postroom.errors import FieldError, Invalid
from postroom.mail.address import parse_domain

BLANK = "can't be blank"
INVALID_TEXT = "contains characters that are not allowed"
MOST_LABEL_CHARACTERS = 255
MOST_SECRET_BYTES = 4096
MOST_ID = 2**63 - 1

_HOST_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")  # underscores: names of containers
_NUMBER_LABEL = re.compile(r"[0-9]+|0x[0-9a-f]*")
_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
_DECIMAL = re.compile(r"[+-]?(?:[0-9]{1,400}\.?[0-9]{0,400}|\.[0-9]{1,400})(?:[eE][+-]?[0-9]{1,4})?")

# Controls, lone surrogates, line and paragraph separators, and the overrides that show a text reversed.
_REFUSED_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})
_REFUSED_CHARACTERS = frozenset("\u202d\u202e")


def is_blank(text: str) -> bool:
    """Whether nothing of it can be seen: spaces, zero-width and control characters only."""
    return all(unicodedata.category(char)[0] in "ZC" for char in text)


def has_refused_characters(text: str) -> bool:
    """Whether it holds what no single line of text needs."""
    return not text.isprintable() and any(
        unicodedata.category(char) in _REFUSED_CATEGORIES or char in _REFUSED_CHARACTERS for char in text
    )


def check_label(
    value: object, field: str, errors: list[FieldError], most: int = MOST_LABEL_CHARACTERS
) -> str:
    """A name for people: not blank, at most `most` characters, one line. Stripped; "" with an error added."""
    if value is None:
        errors.append(FieldError(field, BLANK))
    elif not isinstance(value, str):
        errors.append(FieldError(field, "must be text"))
    elif len(value.strip()) > most:
        errors.append(FieldError(field, f"is too long (maximum is {most} characters)"))
    elif is_blank(value):
        errors.append(FieldError(field, BLANK))
    elif has_refused_characters(value):
        errors.append(FieldError(field, INVALID_TEXT))
    else:
        return value.strip()
    return ""


def raise_any(errors: list[FieldError]) -> None:
    """Raise Invalid with all of them, if there are any."""
    if errors:
        raise Invalid.of(errors)


def page(limit: int, offset: int) -> tuple[int, int]:
    """Limit and offset a database takes: negative ones count as 0, huge ones as very large."""
    return max(0, min(limit, MOST_ID)), max(0, min(offset, MOST_ID))


def is_id(number: int) -> bool:
    """Whether it can be an id at all; a database refuses larger numbers with an error of its own."""
    return 0 < number <= MOST_ID


def whole_number(value: object) -> int | str:
    """A whole number, or why it is none."""
    if isinstance(value, bool):
        return "is not a number"
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return "must be an integer" if value - value == 0 else "is not a number"  # infinity and NaN
    if isinstance(value, str):
        text = value.strip()
        if _WHOLE.fullmatch(text):
            return int(text)
        if re.fullmatch(r"[+-]?[0-9]{19,400}", text):
            return -(10**19) if text.startswith("-") else 10**19
        if _DECIMAL.fullmatch(text):
            return "must be an integer"
    return "is not a number"


def secret_fault(text: str) -> str | None:
    """Why `text` cannot be a password or key; None when it can."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        return INVALID_TEXT
    if size > MOST_SECRET_BYTES:
        return f"is too long (maximum is {MOST_SECRET_BYTES} bytes)"
    return INVALID_TEXT if any(char in text for char in "\0\r\n") else None


def host_name(text: str) -> str | None:
    """A host name in lower case (international ones as A-labels) or an IP literal; None when it is neither.

    A name that ends in a number is an address in a spelling of its own (127.1, 0x7f.1): refused.
    Whether the host may be dialled is decided where it is dialled.
    """
    host = text.strip()
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        if "%" not in bare:
            return ipaddress.ip_address(bare).compressed
    except ValueError:
        pass
    host = host.lower().removesuffix(".")
    if not host.isascii():
        try:
            host = parse_domain(host, "host")
        except Invalid:
            return None
    labels = host.split(".")
    if len(host) > 253 or not all(_HOST_LABEL.fullmatch(label) for label in labels):
        return None
    return None if _NUMBER_LABEL.fullmatch(labels[-1]) else host
