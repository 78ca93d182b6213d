"""The operator's reset of a connection's hourly and daily windows.

The one exception, besides a clock set forward, to caps that are exact: after it a peer may see up to twice
the cap within an hour or a day. So it is asked for by name, and written down with what it forgot.
"""

from __future__ import annotations

from dataclasses import dataclass

from postroom.actions.checks import is_id
from postroom.actions.context import Actor, Context
from postroom.core.server import Owner
from postroom.errors import NotFound
from postroom.ids import ConnectionId
from postroom.storage import audit, connections, room
from postroom.storage.interface import Work, now
from postroom.storage.room import Counted


@dataclass(frozen=True)
class Reset:
    """What was counted before, and the caps it was counted against (None: no such cap)."""

    before: Counted
    hourly_cap: int | None
    daily_cap: int | None


async def reset_window(ctx: Context, actor: Actor, owner: Owner, connection_id: ConnectionId) -> Reset:
    """Let a connection send its whole hourly and daily cap anew, from now on. Raises NotFound."""

    def work() -> Work[Reset]:
        found = (yield from connections.get_owned(owner, connection_id)) if is_id(connection_id) else None
        if found is None:
            raise NotFound("connection")
        at = yield from now()
        before = yield from room.reset(found.account_id, connection_id, at)
        detail = {
            "before": {"hour": before.hour, "day": before.day, "under_way": before.under_way},
            "hourly_cap": found.hourly_cap,
            "daily_cap": found.daily_cap,
        }
        if before.hour or before.day:
            target = f"connection {connection_id}"
            yield from audit.add(found.account_id, at, actor, "connection.reset_window", target, detail)
        return Reset(before, found.hourly_cap, found.daily_cap)

    done = await ctx.store.write(work)
    ctx.hearer.room_changed(connection_id)
    return done
