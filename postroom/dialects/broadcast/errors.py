"""Our errors in Broadcast's words: one table from the error tree to a status and `{"error": text}`.

A key that lacks a permission is refused like one that does not exist (401), as the product documents; 403 is
for what this kind of key can never do. Its clients retry an answer only when its text holds "Server error",
so that text is kept for what is worth another try.
"""

from __future__ import annotations

from postroom.dialects.broadcast.schema import sentence
from postroom.errors import (
    Conflict,
    Denied,
    Invalid,
    Limited,
    NotFound,
    PostroomError,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from postroom.http.asgi import RawHeaders
from postroom.http.body_limits import BodyTooSlow
from postroom.http.calls import Told
from postroom.http.errors import Rows, tell
from postroom.http.json import Malformed

SERVER_ERROR = "Server error"
_KINDS = {"connection": "Email server", "server": "Channel", "message": "Transactional", "account": "Account"}


def _text(error: PostroomError) -> str:
    return str(error)


def _sentences(error: PostroomError) -> str:
    assert isinstance(error, Invalid)
    return ", ".join(sentence(one.field, one.reason) for one in error.errors)


def _not_found(error: PostroomError) -> str:
    assert isinstance(error, NotFound)
    return f"{_KINDS.get(error.kind, error.kind.capitalize())} not found"


def _too_large(error: PostroomError) -> str:
    assert isinstance(error, TooLarge)
    return f"The request is larger than {error.limit_bytes} bytes"


ROWS: Rows = {
    BodyTooSlow: (408, _sentences),
    Malformed: (400, _sentences),
    Invalid: (422, _sentences),
    Unauthenticated: (401, lambda _: "Unauthorized"),
    Denied: (403, _text),
    NotFound: (404, _not_found),
    Conflict: (409, _text),
    TooLarge: (413, _too_large),
    Limited: (429, lambda error: str(error) or "Rate limit exceeded"),
    Unavailable: (503, lambda error: f"{SERVER_ERROR}: {error}"),
    PostroomError: (500, lambda _: SERVER_ERROR),
}

_ROUTING = {400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed"}


def told(error: Exception, _: RawHeaders = ()) -> Told:
    """The answer to an error."""
    return tell(error, ROWS, SERVER_ERROR, _ROUTING, lambda _error, _status, text: {"error": text})
