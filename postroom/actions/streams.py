"""Message streams of a server: looked at."""

from __future__ import annotations

from postroom.actions.context import Context
from postroom.actions.servers import owned
from postroom.core.server import Owner
from postroom.core.stream import Stream
from postroom.ids import ServerId
from postroom.storage import streams
from postroom.storage.interface import Work


async def list_streams(ctx: Context, owner: Owner, server_id: ServerId) -> list[Stream]:
    """The streams of one server, archived ones included, by name. Raises NotFound."""

    def work() -> Work[list[Stream]]:
        server = yield from owned(owner, server_id)
        return (yield from streams.list_of(server.account_id, server.server_id))

    return await ctx.store.read(work)
