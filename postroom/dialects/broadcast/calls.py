"""One authenticated request, and what an operation answers; what both sides of the routes share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from postroom.actions.context import Actor, Context
from postroom.actions.servers import get_server
from postroom.core.key import Key
from postroom.core.server import Owner
from postroom.errors import Invalid, NotFound
from postroom.http.json import Malformed
from postroom.ids import ServerId

CHANNEL = "broadcast_channel_id"
CHANNEL_REQUIRED = "broadcast_channel_id is required for an account key"


@dataclass(frozen=True)
class Call:
    """A request whose key is known and may do it. `path`: as routed, without prefix and `.json`.

    base_url: how callers reach us, without a trailing slash, "" when unknown; from our settings, not from
    the request. origin: the same as this request says it, already checked for being an address at all.
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
    body: dict[str, object] = field(default_factory=dict)

    @property
    def actor(self) -> Actor:
        return Actor(f"key {self.key.key_id}", self.key.account_id)

    def id(self, kind: str) -> int:
        """The number in the path. Raises NotFound(kind) for what cannot be one."""
        return number_or_missing(self.params["id"], kind)

    async def channel(self) -> Owner:
        """Whose things this is about: the key's channel, or the one an account key names.

        Raises Invalid when an account key names none; NotFound(server) for one that is not its own.
        """
        named = self.body.get(CHANNEL, self.query.get(CHANNEL))
        blank = named is None or named == ""
        if self.key.server_id is not None:
            if not blank and number_or_missing(named, "server") != self.key.server_id:
                raise NotFound("server")
            return Owner(self.key.account_id, self.key.server_id)
        if blank:
            raise Invalid("", CHANNEL_REQUIRED)
        server_id = ServerId(number_or_missing(named, "server"))
        await get_server(self.ctx, Owner(self.key.account_id), server_id)
        return Owner(self.key.account_id, server_id)

    async def named_channel(self) -> Owner | None:
        """The same, and None for an account key that names none."""
        if self.key.server_id is None and self.body.get(CHANNEL, self.query.get(CHANNEL)) in (None, ""):
            return None
        return await self.channel()

    def wrapped(self, name: str, *, may_be_empty: bool) -> dict[str, object]:
        """The object under `name` in the body. Raises Malformed when it is not there."""
        value = self.body.get(name)
        if value is None or (value == {} and not may_be_empty):
            raise Malformed(f"param is missing or the value is empty: {name}")
        if not isinstance(value, dict):
            raise Malformed(f"{name} must be an object")
        return value


@dataclass(frozen=True)
class Answer:
    """What an operation answers: an object as JSON, or a text of `content_type`."""

    body: Mapping[str, object] | str
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json; charset=utf-8"


def number_or_missing(value: object, kind: str) -> int:
    """An id as a number or digits. Raises NotFound(kind) for anything else: it names nothing."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= 18:
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**63:
        return value
    raise NotFound(kind)
