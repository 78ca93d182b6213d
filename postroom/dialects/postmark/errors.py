"""Errors in Postmark's words: an HTTP status and `{"ErrorCode": 603, "Message": "…"}`.

An operation raises `ApiError(code)` for what the product has a code for. Errors of our own tree that reach
this far are told by the table below, so that none goes without an answer. The code is in a header too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from postroom.dialects.postmark.codes import CODES
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

CODE_HEADER = "X-PM-ApiErrorCode"


class ApiError(PostroomError):
    """What the product has a code for. about: the value its text names; text: another text."""

    def __init__(self, code: int, about: str = "", *, text: str = "") -> None:
        self.code = code
        self.status, usual = CODES[code]
        super().__init__(text or usual.replace("{}", about))

    def body(self) -> dict[str, object]:
        """As an answer, or an item of one, has it."""
        return {"ErrorCode": self.code, "Message": str(self)}


class Errors(ApiError):
    """Several at once, each with the name of the field it is about."""

    def __init__(self, errors: Sequence[tuple[str, ApiError]]) -> None:
        self.errors = tuple(errors)
        super().__init__(11)

    def body(self) -> dict[str, object]:
        """With all of them by field."""
        named: dict[str, list[object]] = {}
        for field, error in self.errors:
            named.setdefault(field, []).append(error.body())
        return {**super().body(), "Errors": named}


_KINDS = {"inbound rule": 812, "server": 601, "stream": 1226, "message": 701, "account": 422}
_ROUTING = {
    400: "This request cannot be read.",
    404: "There is no such call here.",
    405: "This call is not made with this method.",
}
_ROUTING_CODES = {400: 402, 404: 404, 405: 405}


def _text(error: PostroomError) -> str:
    return str(error)


def _usual(code: int) -> tuple[int, str]:
    return CODES[code]


def _code(error: Exception, status: int) -> int:
    """The product's code of an error of ours."""
    if isinstance(error, ApiError):
        return error.code
    if isinstance(error, NotFound):
        return _KINDS.get(error.kind, 422)
    for kind, code in _CODES.items():
        if isinstance(error, kind):
            return code
    return _ROUTING_CODES.get(status, 101)


_CODES: Mapping[type[PostroomError], int] = {
    Malformed: 402,
    Invalid: 300,
    Unauthenticated: 10,
    Denied: 10,
    Conflict: 409,
    TooLarge: 413,
    Limited: 429,
    Unavailable: 100,
}


def _missing(error: PostroomError) -> str:
    assert isinstance(error, NotFound)
    return CODES[_KINDS.get(error.kind, 422)][1]


def _too_large(error: PostroomError) -> str:
    assert isinstance(error, TooLarge)
    return CODES[413][1].replace("{}", str(error.limit_bytes))


ROWS: Rows = {
    BodyTooSlow: (408, _text),
    Malformed: (422, _text),
    Invalid: (422, _text),
    Unauthenticated: (401, lambda _: CODES[10][1]),
    Denied: (401, lambda _: "The API token does not allow this."),
    NotFound: (422, _missing),
    Conflict: (409, _text),
    TooLarge: (413, _too_large),
    Limited: (429, lambda _: CODES[429][1]),
    Unavailable: (503, lambda _: CODES[100][1]),
    PostroomError: (500, lambda _: CODES[101][1]),
}


def told(error: Exception, headers: RawHeaders = ()) -> Told:
    """The answer to an error."""
    if isinstance(error, ApiError):
        return Told(error.status, error.body(), {CODE_HEADER: str(error.code)})

    def body(error: Exception, status: int, text: str) -> Mapping[str, object]:
        return {"ErrorCode": _code(error, status), "Message": text}

    found = tell(error, ROWS, CODES[101][1], _ROUTING, body)
    kept = {name: value for name, value in found.headers.items() if name != "WWW-Authenticate"}
    return Told(found.status, found.body, {**kept, CODE_HEADER: str(found.body["ErrorCode"])})
