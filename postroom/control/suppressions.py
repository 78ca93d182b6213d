"""Operations on suppression lists."""

from __future__ import annotations

from postroom.actions import suppressions
from postroom.actions.suppressions import Changed
from postroom.clock import to_iso
from postroom.control.desk import Desk, server_of
from postroom.core.server import Owner
from postroom.core.suppression import ALL_STREAMS, Origin, Reason, Suppression
from postroom.ids import ServerId


async def add(
    desk: Desk,
    *,
    addresses: list[str],
    reason: Reason = Reason.MANUAL,
    stream: str = ALL_STREAMS,
    account: int | None = None,
    server: int | None = None,
) -> dict[str, object]:
    """Put up to 10,000 addresses on a server's list, of all streams or of one."""
    owner, server_id = await _owner(desk, account, server)
    done = await suppressions.suppress(
        desk.ctx,
        desk.actor,
        owner,
        server_id,
        addresses,
        reason=reason,
        origin=Origin.ADMIN,
        stream=stream,
    )
    return _told(server_id, done)


async def remove(
    desk: Desk,
    *,
    addresses: list[str],
    stream: str = ALL_STREAMS,
    account: int | None = None,
    server: int | None = None,
) -> dict[str, object]:
    """Take up to 10,000 addresses off a server's list, that of all streams or of one."""
    owner, server_id = await _owner(desk, account, server)
    actor = desk.actor
    done = await suppressions.unsuppress(desk.ctx, actor, owner, server_id, addresses, stream=stream)
    return _told(server_id, done)


async def check(
    desk: Desk, *, address: str, account: int | None = None, server: int | None = None
) -> dict[str, object]:
    """Every row of a server's list that holds mail to this address back."""
    owner, server_id = await _owner(desk, account, server)
    found = await suppressions.find(desk.ctx, owner, server_id, address)
    return {
        "server_id": server_id,
        "address": found.address,
        "suppressed": bool(found.rows),
        "data": [shown_suppression(one) for one in found.rows],
    }


async def list_all(
    desk: Desk,
    *,
    account: int | None = None,
    server: int | None = None,
    stream: str | None = None,
    containing: str = "",
    limit: int = 500,
    offset: int = 0,
) -> dict[str, object]:
    """One page of a server's list, by stream and address, and how many there are."""
    owner, server_id = await _owner(desk, account, server)
    rows, total = await suppressions.list_suppressions(
        desk.ctx, owner, server_id, stream=stream, containing=containing, limit=limit, offset=offset
    )
    return {"data": [shown_suppression(one) for one in rows], "total": total}


async def _owner(desk: Desk, account: int | None, server: int | None) -> tuple[Owner, ServerId]:
    found = await server_of(desk, account, server)
    return Owner(found.account_id, found.server_id), found.server_id


def _told(server_id: ServerId, done: Changed) -> dict[str, object]:
    return {
        "server_id": server_id,
        "changed": len(done.changed),
        "unchanged": len(done.unchanged),
        "invalid": list(done.invalid),
    }


def shown_suppression(row: Suppression) -> dict[str, object]:
    """A suppression as JSON values; stream null: all streams."""
    return {
        "suppression_id": row.suppression_id,
        "server_id": row.server_id,
        "stream": row.stream or None,
        "address": row.address,
        "reason": row.reason.value,
        "origin": row.origin.value,
        "created_at": to_iso(row.created_at_us),
    }
