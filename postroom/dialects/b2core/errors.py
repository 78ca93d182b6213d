"""Our errors in B2CORE's words: a status and `{"message": text, "errors": {field: [text]}}`.

The product documents its statuses (400 also for data that fails its checks) and not the body of an error;
this shape is ours. Texts are in the caller's language, as far as `texts.toml` goes. A failed status call has
`reason` too, one of `actions.probes.Trouble`, and `detail`: what the server said, in its own words.
"""

from __future__ import annotations

from collections.abc import Mapping

from postroom.actions.probes import Trouble
from postroom.dialects.b2core.calls import language_of
from postroom.dialects.b2core.schema import WIRE_NAMES
from postroom.dialects.b2core.texts import translate
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
_TROUBLES: Mapping[Trouble, str] = {
    Trouble.TIMEOUT: "The server did not answer in time",
    Trouble.REFUSED: "The server refused the connection",
    Trouble.TLS: "The connection could not be secured by TLS",
    Trouble.AUTH: "The server refused the user name or the password",
    Trouble.UNREACHABLE: "The server cannot be reached",
    Trouble.INTERRUPTED: "The test was broken off",
}


class StatusFailed(PostroomError):
    """The provider's settings do not work."""

    def __init__(self, reason: Trouble, detail: str) -> None:
        self.reason, self.detail = reason, detail
        super().__init__(_TROUBLES[reason])


def _text(error: PostroomError) -> str:
    return str(error)


def _missing(error: PostroomError) -> str:
    return "Provider not found" if isinstance(error, NotFound) and error.kind == "connection" else "Not found"


def _too_large(error: PostroomError) -> str:
    assert isinstance(error, TooLarge)
    return f"The request is larger than {error.limit_bytes} bytes"


ROWS: Rows = {
    StatusFailed: (400, _text),
    BodyTooSlow: (408, _text),
    Malformed: (400, _text),
    Invalid: (400, lambda _: "The given data is not valid"),
    Unauthenticated: (401, lambda _: "The token is missing or not known"),
    Denied: (403, lambda _: "The token does not allow this"),
    NotFound: (404, _missing),
    Conflict: (409, _text),
    TooLarge: (413, _too_large),
    Limited: (429, lambda _: "Too many requests"),
    Unavailable: (503, lambda _: "The service is not available now; try again"),
    PostroomError: (500, lambda _: SERVER_ERROR),
}
_ROUTING = {400: "Bad request", 404: "Not found", 405: "Method not allowed"}


def told(error: Exception, headers: RawHeaders = ()) -> Told:
    """The answer to an error, in the language its request asks for."""
    language = language_of(headers)

    def body(error: Exception, status: int, text: str) -> Mapping[str, object]:
        said: dict[str, object] = {"message": translate(text, language), "errors": {}}
        if isinstance(error, StatusFailed):
            said |= {"reason": error.reason.value, "detail": error.detail}
        elif isinstance(error, Invalid) and not isinstance(error, Malformed):
            said["errors"] = {
                WIRE_NAMES.get(one.field, one.field): [translate(one.reason, language)]
                for one in error.errors
            }
        return said

    return tell(error, ROWS, SERVER_ERROR, _ROUTING, body)
