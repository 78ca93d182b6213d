"""Which language a caller wants its texts in (Accept-Language, RFC 9110 12.5.4)."""

from __future__ import annotations

import re
from collections.abc import Collection

from postroom.http.asgi import RawHeaders, header_values

MOST_CHARACTERS = 1000
_RANGE = re.compile(r"([A-Za-z]{1,8}(?:[-_][A-Za-z0-9]{1,8})*|\*)(?:\s*;\s*q\s*=\s*([01](?:\.[0-9]{0,3})?))?")


def preferred(headers: RawHeaders, offered: Collection[str], otherwise: str) -> str:
    """The offered language the caller likes best, or `otherwise`.

    offered: primary subtags in lower case, such as `de`; `de-AT` and `de_AT` mean `de`. The first of equal
    weights wins. What cannot be read is passed over; nothing in it is an error.
    """
    best, found = 0.0, otherwise
    for value in header_values(headers, b"accept-language"):
        for part in value[:MOST_CHARACTERS].split(","):
            said = _RANGE.fullmatch(part.strip())
            if said is None:
                continue
            name = re.split("[-_]", said[1].lower(), maxsplit=1)[0]
            weight = 1.0 if said[2] is None else min(float(said[2]), 1.0)
            if name in offered and weight > best:
                best, found = weight, name
            elif name == "*" and weight > best:
                best, found = weight, otherwise
    return found
