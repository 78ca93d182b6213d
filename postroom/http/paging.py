"""Query strings, and the limit and offset in them: read leniently, never an error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

DEFAULT_LIMIT = 25
MOST_LIMIT = 250
MOST_OFFSET = 2**62
MOST_PAGE = 10**12
MOST_FIELDS = 100


@dataclass(frozen=True)
class Page:
    """Which part of a list: at most `limit` rows after the first `offset`."""

    limit: int
    offset: int


def parse_query(query: bytes) -> dict[str, str]:
    """The fields of a query string, the last of each name; with more than 100 fields: none."""
    if not query:
        return {}
    try:
        pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=MOST_FIELDS)
    except ValueError:
        return {}
    return dict(pairs)


def page_of(query: Mapping[str, str], *, default: int = DEFAULT_LIMIT, most: int = MOST_LIMIT) -> Page:
    """`limit` and `offset`. No number from 1 (0 for offset) on: the default; large ones clamp."""
    limit, offset = _number(query.get("limit")), _number(query.get("offset"))
    return Page(min(limit, most) if limit else default, min(offset or 0, MOST_OFFSET))


def page_number(query: Mapping[str, str]) -> int:
    """`page`, counted from 1. Anything that is no such number is the first; large ones clamp."""
    return min(_number(query.get("page")) or 1, MOST_PAGE)


def _number(text: str | None) -> int | None:
    if text is None:
        return None
    text = text.strip()
    if not (text.isascii() and text.isdecimal()):
        return None
    return int(text) if len(text) <= 18 else MOST_OFFSET
