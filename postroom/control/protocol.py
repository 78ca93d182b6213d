"""How a command and `serve` talk: one request, one answer, each a length and that many bytes of JSON.

    request   4 bytes, big endian: length   {"op": "key.create", "args": {…}}
    answer    4 bytes, big endian: length   {"ok": …}   or   {"error": {"kind", "text", "fields", …}}

Lengths are checked before anything is read. Errors cross as the kind they are, so that a command ends
with the same text and exit code whether it asked `serve` or did the work itself.
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Mapping
from typing import Any

from postroom.errors import (
    Conflict,
    Denied,
    FieldError,
    Invalid,
    Limited,
    NotFound,
    PostroomError,
    TooLarge,
    Unauthenticated,
    Unavailable,
)

# A message of the largest size a setting allows does not fit; 64 MB holds 25 MB of attachments in base64.
MOST_BYTES = 64 << 20
_LENGTH = struct.Struct(">I")


class InternalError(PostroomError):
    """Postroom failed; the log says how."""


class ProtocolError(Exception):
    """What came over the socket is not this protocol."""


_KINDS: Mapping[type[PostroomError], str] = {
    Invalid: "invalid",
    Unauthenticated: "unauthenticated",
    Denied: "denied",
    NotFound: "not_found",
    Conflict: "conflict",
    TooLarge: "too_large",
    Limited: "limited",
    Unavailable: "unavailable",
    InternalError: "internal",
}


def kind_of(error: PostroomError) -> str:
    """The word for an error in JSON; that of its nearest class in the tree."""
    return next((_KINDS[one] for one in type(error).__mro__ if one in _KINDS), "internal")


def error_to_json(error: PostroomError) -> dict[str, object]:
    """`{"kind", "text"}` and what else the error holds."""
    told: dict[str, object] = {"kind": kind_of(error), "text": str(error)}
    if isinstance(error, Invalid):
        told["fields"] = [{"field": one.field, "reason": one.reason} for one in error.errors]
    elif isinstance(error, NotFound):
        told["what"] = error.kind
    elif isinstance(error, TooLarge):
        told["limit_bytes"] = error.limit_bytes
    elif isinstance(error, Limited | Unavailable):
        told["retry_after_s"] = error.retry_after_s
    return told


def error_from_json(told: Mapping[str, Any]) -> PostroomError:
    """The error again. Raises ProtocolError."""
    try:
        kind, text = str(told["kind"]), str(told["text"])
        if kind == "invalid":
            return Invalid.of([FieldError(str(one["field"]), str(one["reason"])) for one in told["fields"]])
        if kind == "not_found":
            return NotFound(str(told["what"]))
        if kind == "too_large":
            return TooLarge(int(told["limit_bytes"]))
        if kind == "limited":
            return Limited(int(told["retry_after_s"]), text)
        if kind == "unavailable":
            return Unavailable(text, int(told["retry_after_s"]))
        plain = {_KINDS[one]: one for one in (Unauthenticated, Denied, Conflict, InternalError)}
        return plain[kind](text)
    except (LookupError, TypeError, ValueError) as error:
        raise ProtocolError("an error that cannot be read") from error


async def read_frame(reader: asyncio.StreamReader) -> Any:
    """The JSON of one frame. Raises ProtocolError, IncompleteReadError."""
    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    if length > MOST_BYTES:
        raise ProtocolError(f"a frame of {length} bytes is over the limit of {MOST_BYTES}")
    try:
        return json.loads(await reader.readexactly(length))
    except (ValueError, RecursionError) as error:
        raise ProtocolError("a frame that is not JSON") from error


def frame(document: object) -> bytes:
    """A document as it goes over the socket. Raises TooLarge."""
    data = json.dumps(document).encode()
    if len(data) > MOST_BYTES:
        raise TooLarge(MOST_BYTES)
    return _LENGTH.pack(len(data)) + data
