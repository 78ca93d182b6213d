"""Operations that show what goes on: the status of a running `serve`, and notices."""

from __future__ import annotations

from collections.abc import Mapping

from postroom.clock import to_iso
from postroom.control.desk import Desk
from postroom.errors import Invalid, Unavailable
from postroom.storage import notices as stored
from postroom.storage.notices import StoredNotice

MOST_NOTICES = 500


async def status(desk: Desk) -> Mapping[str, object]:
    """What `serve` is doing at this moment. Raises Unavailable where none runs."""
    if desk.status is None:
        raise Unavailable("no `serve` is running on this data folder")
    return await desk.status()


async def notices(desk: Desk, *, limit: int = 50, only_open: bool = False) -> dict[str, object]:
    """The newest notices first. only_open: of troubles that last."""
    if not 1 <= limit <= MOST_NOTICES:
        raise Invalid("limit", f"must be from 1 to {MOST_NOTICES}")
    found = await desk.ctx.store.read(lambda: stored.newest(limit, only_open=only_open))
    return {"data": [shown_notice(one) for one in found]}


def shown_notice(one: StoredNotice) -> dict[str, object]:
    """A notice as JSON values."""
    return {
        "notice_id": one.notice_id,
        "account_id": one.account_id or None,
        "kind": one.kind,
        "about": one.about,
        "text": one.text,
        "data": dict(one.data),
        "began_at": to_iso(one.began_at_us),
        "ended_at": to_iso(one.ended_at_us),
    }
