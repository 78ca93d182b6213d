"""One authenticated request of this API: which channel it is about, and the object its body wraps."""

from __future__ import annotations

from postroom.actions.servers import get_server
from postroom.core.server import Owner
from postroom.errors import Invalid, NotFound
from postroom.http import calls
from postroom.http.calls import Answer, number_or_missing
from postroom.http.json import Malformed
from postroom.ids import ServerId

__all__ = ["CHANNEL", "CHANNEL_REQUIRED", "Answer", "Call", "number_or_missing"]

CHANNEL = "broadcast_channel_id"
CHANNEL_REQUIRED = "broadcast_channel_id is required for an account key"


class Call(calls.Call, frozen=True):
    """A request whose key is known and may do it."""

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
