"""Strict JSON (RFC 8259, with the names of an object unique) from people we do not know.

msgspec refuses what is no JSON: NaN, numbers out of range, lone surrogates, a byte order mark, UTF-16, text
after the value. A scan before it refuses what is JSON and still a trap: deep nesting, one name twice (two
readers, two meanings), and so many values that building them would take long. All of it is linear.
"""

from __future__ import annotations

import re

import msgspec

from postroom.errors import Invalid

MOST_DEPTH = 64
MOST_TOKENS = 200_000

# A string with the colon that makes it a name, or one structural character, where no quote is escaped any
# more. Possessive, and content with a string that never ends: nothing is read twice.
_TOKEN = re.compile(rb'"([^"]*+)"?+(?>([ \t\r\n]*+:)?)|[\[\]{},]')
_decode = msgspec.json.Decoder().decode


class Malformed(Invalid):
    """The request cannot be read at all; the text says why and repeats nothing of it."""

    def __init__(self, text: str) -> None:
        super().__init__("", text)


def check_shape(body: bytes, *, most_depth: int = MOST_DEPTH, most_tokens: int = MOST_TOKENS) -> None:
    """Raise Malformed for JSON that is too deep, too long in values, or names a member twice.

    Whether it is JSON at all is for the decoder to say, which may read it into any type afterwards.
    """
    names: list[set[bytes] | None] = []  # of each open object; None for an array
    tokens = 0
    # Of the same length, so that places are the same: a long text is passed over at the speed of a search.
    flat = body.replace(b"\\\\", b"__").replace(b'\\"', b"__")
    for token in _TOKEN.finditer(flat):
        tokens += 1
        if tokens > most_tokens:
            raise Malformed("The JSON has too many values")
        if token.lastindex == 2:
            if names and (known := names[-1]) is not None:
                name = _plain_name(body[token.start(1) : token.end(1)])
                if name in known:
                    raise Malformed("The JSON has the same name twice in one object")
                known.add(name)
            continue
        first = body[token.start()]
        if first == 0x7B or first == 0x5B:  # { [
            if len(names) >= most_depth:
                raise Malformed(f"The JSON is nested more than {most_depth} deep")
            names.append(set() if first == 0x7B else None)
        elif (first == 0x7D or first == 0x5D) and names:  # } ]
            names.pop()


def parse(body: bytes, *, most_depth: int = MOST_DEPTH, most_tokens: int = MOST_TOKENS) -> object:
    """The value of a JSON text. Raises Malformed."""
    check_shape(body, most_depth=most_depth, most_tokens=most_tokens)
    try:
        value: object = _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise Malformed("The body is not valid JSON") from None
    return value


def parse_object(body: bytes, *, most_tokens: int = MOST_TOKENS) -> dict[str, object]:
    """A JSON object; an empty body is an empty one. Raises Malformed."""
    if not body.strip():
        return {}
    value = parse(body, most_tokens=most_tokens)
    if not isinstance(value, dict):
        raise Malformed("The body must be a JSON object")
    return value


def _plain_name(raw: bytes) -> bytes:
    """A name as it will be read: its escapes undone."""
    if b"\\" not in raw:
        return raw
    try:
        return str(_decode(b'"' + raw + b'"')).encode()
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise Malformed("The body is not valid JSON") from None
