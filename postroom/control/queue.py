"""Operations on the queue: show it; pause and resume everything, a server or a connection."""

from __future__ import annotations

from collections.abc import Mapping

from postroom.actions import pauses
from postroom.actions.pauses import Target
from postroom.clock import to_iso
from postroom.control.desk import Desk, account_of
from postroom.core.server import Owner
from postroom.engine.queue_view import Wanted
from postroom.errors import Invalid, Unavailable
from postroom.ids import ConnectionId, ServerId
from postroom.storage.pauses import Pause, PauseScope


async def show(
    desk: Desk, *, account: int | None = None, server: int | None = None, connection: int | None = None
) -> Mapping[str, object]:
    """What waits to be sent, and for what: everybody's, an account's, a server's, or for a connection."""
    if desk.queue is None:
        raise Unavailable("nothing here knows the queue")
    account_id = None if account is None else (await account_of(desk, account)).account_id
    return await desk.queue(
        Wanted(
            account_id,
            None if server is None else ServerId(server),
            None if connection is None else ConnectionId(connection),
        )
    )


async def pause(
    desk: Desk,
    *,
    everything: bool = False,
    server: int | None = None,
    connection: int | None = None,
    reason: str = "",
    account: int | None = None,
) -> dict[str, object]:
    """Claim nothing more of it until it is resumed; exactly one of the three says of what."""
    target = await _target(desk, everything, server, connection, account)
    done = await pauses.pause(desk.ctx, desk.actor, target, reason)
    return {**shown_pause(done.pause), "made": done.made, "on_their_way": done.on_their_way}


async def resume(
    desk: Desk,
    *,
    everything: bool = False,
    server: int | None = None,
    connection: int | None = None,
    account: int | None = None,
) -> dict[str, object]:
    """End a pause; its mail goes on at once. `still`: what is paused all the same."""
    target = await _target(desk, everything, server, connection, account)
    ended = await pauses.resume(desk.ctx, desk.actor, target)
    left = [one for one in await pauses.list_pauses(desk.ctx) if everything or one.scope is PauseScope.ALL]
    return {
        "resumed": ended is not None,
        "ended": None if ended is None else shown_pause(ended),
        "still": [shown_pause(one) for one in left],
    }


async def _target(
    desk: Desk, everything: bool, server: int | None, connection: int | None, account: int | None
) -> Target:
    if everything + (server is not None) + (connection is not None) != 1:
        raise Invalid("base", "say what is meant, one of --all, --server and --connection")
    if everything:
        return Target.everything()
    owner = Owner((await account_of(desk, account)).account_id, whole_account=True)
    if server is not None:
        return Target.server(owner, ServerId(server))
    return Target.connection(owner, ConnectionId(connection or 0))


def shown_pause(one: Pause) -> dict[str, object]:
    """A pause as JSON values."""
    return {
        "what": pauses.name_of(one),
        "scope": one.scope.value,
        "id": one.target_id or None,
        "since": to_iso(one.created_at_us),
        "by": one.actor,
        "reason": one.reason,
    }
