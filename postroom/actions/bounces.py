"""Looking at what bounced, and letting mail go to an address again that a bounce stopped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from postroom.actions.context import Actor, Context
from postroom.actions.looking import look_through
from postroom.core.bounce import Bounce, BounceKind
from postroom.core.server import Owner
from postroom.core.suppression import ALL_STREAMS, Reason
from postroom.errors import Conflict, NotFound
from postroom.ids import BounceId, ServerId
from postroom.storage import audit, bounce_search, suppressions
from postroom.storage.bounce_search import Wanted
from postroom.storage.interface import Work, now

__all__ = [
    "Bounce",
    "BounceKind",
    "BouncePage",
    "Stats",
    "Wanted",
    "activate",
    "get",
    "search",
    "stats",
    "tags",
]


@dataclass(frozen=True)
class BouncePage:
    """One page of what was found, newest first, and how many there are: at most MOST_FOUND are counted."""

    total: int
    bounces: Sequence[Bounce]


@dataclass(frozen=True)
class Stats:
    """Of a server: how many bounces of each kind, and how many rows its suppression lists have."""

    counts: Mapping[BounceKind, int]
    inactive: int


class CannotActivate(Conflict):
    """The recipient himself said that he wants no mail."""


async def search(
    ctx: Context, owner: Owner, server_id: ServerId, wanted: Wanted, *, count: int, offset: int
) -> BouncePage:
    """The bounces of a server that fit."""
    account_id, until_us, before = owner.account_id, wanted.until_us, None
    if until_us is not None:
        at_us = until_us
        before = await ctx.store.read(lambda: bounce_search.place_of(account_id, server_id, at_us))
    found = await look_through(ctx, partial(bounce_search.look, account_id, server_id, wanted), before)
    page = found[offset : offset + count]
    rows = await ctx.store.read(lambda: bounce_search.get_many(account_id, server_id, page)) if page else []
    return BouncePage(len(found), rows)


async def get(ctx: Context, owner: Owner, server_id: ServerId, bounce_id: BounceId) -> Bounce:
    """One bounce of a server. Raises NotFound(bounce)."""
    return await ctx.store.read(lambda: _get(owner, server_id, bounce_id))


async def activate(
    ctx: Context, actor: Actor, owner: Owner, server_id: ServerId, bounce_id: BounceId
) -> Bounce:
    """Let mail go to a bounce's address again, where a hard bounce stopped it; the bounce as it is then.

    Raises NotFound(bounce), CannotActivate.
    """

    def work() -> Work[Bounce]:
        bounce = yield from _get(owner, server_id, bounce_id)
        if bounce.kind is BounceKind.COMPLAINT:
            raise CannotActivate("the recipient called mail of this server spam")
        at_us = yield from now()
        lists = (ALL_STREAMS, bounce.stream)
        rows = yield from suppressions.of_addresses(owner.account_id, server_id, lists, [bounce.address])
        for row in rows:
            if row.reason is not Reason.HARD_BOUNCE:
                continue
            yield from suppressions.remove(owner.account_id, server_id, [row.address], stream=row.stream)
            detail: dict[str, object] = {
                "stream": row.stream or "all",
                "count": 1,
                "addresses": [row.address],
                "bounce": bounce_id,
            }
            target = f"server {server_id}"
            yield from audit.add(owner.account_id, at_us, actor, "suppression.remove", target, detail)
        return replace(bounce, inactive=False)

    return await ctx.store.write(work)


async def stats(ctx: Context, owner: Owner, server_id: ServerId) -> Stats:
    """What a server's bounces come to."""

    def work() -> Work[Stats]:
        found = yield from bounce_search.counts(owner.account_id, server_id)
        return Stats(found, (yield from suppressions.count(owner.account_id, server_id)))

    return await ctx.store.read(work)


async def tags(ctx: Context, owner: Owner, server_id: ServerId) -> list[str]:
    """The tags of what bounced, by name."""
    return await ctx.store.read(lambda: bounce_search.tags(owner.account_id, server_id))


def _get(owner: Owner, server_id: ServerId, bounce_id: BounceId) -> Work[Bounce]:
    found = yield from bounce_search.get_many(owner.account_id, server_id, [bounce_id])
    if not found or not owner.sees_server(server_id):
        raise NotFound("bounce")
    return found[0]
