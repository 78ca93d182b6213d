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

_FEW_ESCAPES, _MOST_BACKSLASHES = 100, 64
_STRUCTURE = re.compile(rb"[\[\]{},]")
_COLON = re.compile(rb"[ \t\r\n]*+:")  # possessive: nothing is read twice
# What stands between most strings, and how many values it has.
_BETWEEN = {b"": 0, b" ": 0, b",": 1, b", ": 1}
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
    tokens = at = 0
    flat = body
    few = _FEW_ESCAPES
    while True:
        quote = flat.find(b'"', at)  # a long text is passed over at the speed of a search
        between = flat[at : quote if quote >= 0 else None]
        known = _BETWEEN.get(between)
        if known is None:
            known = 0
            for token in _STRUCTURE.finditer(between):
                known += 1
                if tokens + known > most_tokens:
                    break
                _step(token[0], names, most_depth)
        tokens += known + (quote >= 0)
        if tokens > most_tokens:
            raise Malformed("The JSON has too many values")
        if quote < 0:
            return
        end = flat.find(b'"', quote + 1)
        while end > 0 and flat[end - 1] == 0x5C and _is_escaped(flat, quote, end):
            few -= 1
            if few:
                end = flat.find(b'"', end + 1)
            else:  # of the same length, so that places are the same, and no quote is escaped any more
                flat = body.replace(b"\\\\", b"__").replace(b'\\"', b"__")
                end = flat.find(b'"', quote + 1)
        if end < 0:
            return  # it never ends, which the decoder says
        at = end + 1
        if (colon := _COLON.match(flat, at)) is not None:
            at = colon.end()
            if names and (mine := names[-1]) is not None:
                name = _plain_name(body[quote + 1 : end])
                if name in mine:
                    raise Malformed("The JSON has the same name twice in one object")
                mine.add(name)


def _is_escaped(body: bytes, start: int, quote: int) -> bool:
    """Whether the quote after this backslash, in the string that begins at `start`, is part of it."""
    written = body[max(start + 1, quote - _MOST_BACKSLASHES) : quote]
    count = len(written) - len(written.rstrip(b"\\"))
    # Of very many the parity is told by all of them.
    return (count if count < len(written) else _backslashes(body, start, quote)) % 2 == 1


def _backslashes(body: bytes, start: int, quote: int) -> int:
    written = body[start + 1 : quote]
    return len(written) - len(written.rstrip(b"\\"))


def _step(token: bytes, names: list[set[bytes] | None], most_depth: int) -> None:
    """One structural character. Raises Malformed."""
    if token in b"{[":
        if len(names) >= most_depth:
            raise Malformed(f"The JSON is nested more than {most_depth} deep")
        names.append(set() if token == b"{" else None)
    elif token in b"}]" and names:
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
