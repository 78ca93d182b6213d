"""What every dialect's calls have in common: an authenticated request, an answer, and a row of its table.

A dialect lists its calls once as `Operation`s; `http.surface` routes them and `http.openapi` describes them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import msgspec

from postroom.actions.checks import is_id
from postroom.actions.context import Actor, Context
from postroom.core.key import Key, Scope
from postroom.errors import NotFound

JSON = "application/json; charset=utf-8"


class Call(msgspec.Struct, frozen=True):
    """A request whose key is known and may do it. `path`: as routed, without prefix and suffix.

    base_url: how callers reach us, without a trailing slash, "" when unknown; from our settings, not from
    the request. origin: the same as this request says it, already checked for being an address at all.
    client: the address it came from.
    """

    ctx: Context
    key: Key
    method: str
    path: str
    params: Mapping[str, str]
    query: Mapping[str, str]
    idempotency_key: str
    raw_body: bytes
    base_url: str
    origin: str
    rate_per_minute: int
    client: str
    body: dict[str, object] = msgspec.field(default_factory=dict)

    @property
    def actor(self) -> Actor:
        """Whom the audit trail names."""
        return Actor(f"key {self.key.key_id}", self.client)

    def id(self, kind: str) -> int:
        """The number in the path. Raises NotFound(kind) for what cannot be one."""
        return number_or_missing(self.params["id"], kind)


class Answer(msgspec.Struct, frozen=True):
    """What an operation answers: JSON, a text of `content_type`, or with None nothing at all."""

    body: Mapping[str, object] | Sequence[object] | str | None
    status: int = 200
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    content_type: str = JSON


@dataclass(frozen=True)
class Told:
    """An error as a dialect tells it."""

    status: int
    body: Mapping[str, object]
    headers: Mapping[str, str]


C = TypeVar("C", bound=Call)


@dataclass(frozen=True)
class Operation(Generic[C]):
    """One call.

    path: below the product's base, `{id}` for a number, another name for a text. scope: None for any key.
    takes and gives name the schemas of the OpenAPI document, gives "" for no body; `errors` the statuses it
    may answer besides 401, 429, 500 and 503, which all have. holds_message: its body may be as large as a
    message. most_texts: its body may list so many short texts, such as addresses. most_tokens: it may have
    so many values, where that is more than others may.
    takes_every_get: whether, being a GET, it takes the parameters all the product's GETs take.
    """

    method: str
    path: str
    run: Callable[[C], Awaitable[Answer]]
    scope: Scope | None
    summary: str
    gives: str
    takes: str = ""
    status: int = 200
    errors: tuple[int, ...] = ()
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    holds_message: bool = False
    most_texts: int = 0
    most_tokens: int = 0
    takes_every_get: bool = True

    @property
    def name(self) -> str:
        """Unique, for operationId."""
        return self.run.__name__ if self.run.__name__ == self.noun else f"{self.noun}_{self.run.__name__}"

    @property
    def noun(self) -> str:
        """What it is about: the first word of its path."""
        return self.path.split("/")[1]


Operations = Sequence[Operation[Any]]  # Any: of one dialect's own kind of Call


def number_or_missing(value: object, kind: str) -> int:
    """An id as a number or digits. Raises NotFound(kind) for anything else: it names nothing."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= 18:
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and is_id(value):
        return value
    raise NotFound(kind)
