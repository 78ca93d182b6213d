"""Operations that show what goes on: the status of a running `serve`, and notices."""

from __future__ import annotations

from collections.abc import Mapping

from postroom.clock import to_iso
from postroom.control.desk import Desk
from postroom.engine.figures import FigureBook, queue_of
from postroom.errors import Invalid, Unavailable
from postroom.storage import notices as stored
from postroom.storage.notices import StoredNotice
from postroom.storage.processes import Process

MOST_NOTICES = 500


ELSEWHERE = "elsewhere"


async def status(desk: Desk) -> Mapping[str, object]:
    """What the `serve` of this data folder is doing at this moment, and which processes use its database.

    Where none runs here, state `elsewhere` and what the database knows, if others may use it; else raises
    Unavailable.
    """
    if desk.status is None and desk.ctx.peers is None:
        raise Unavailable("no `serve` is running on this data folder")
    found = await _elsewhere(desk) if desk.status is None else await desk.status()
    if desk.ctx.peers is None:
        return found
    try:
        alive = [_shown_process(one) for one in await desk.ctx.peers.alive()]
    except Unavailable:
        return {**found, "alive": None}  # what this process knows is told all the same
    return {**found, "alive": alive}


async def _elsewhere(desk: Desk) -> dict[str, object]:
    figures = await FigureBook(desk.ctx.store, desk.ctx.clock).look()
    return {"state": ELSEWHERE, "queue": queue_of(figures, figures.at_us)}


def _shown_process(one: Process) -> dict[str, object]:
    return {
        "host": one.host,
        "pid": one.pid,
        "roles": list(one.roles),
        "version": one.version,
        "started_at": to_iso(one.started_at_us),
    }


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
