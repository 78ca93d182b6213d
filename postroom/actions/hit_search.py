"""Searching what people opened and followed of a server's mail, and of one message."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from postroom.actions.context import Context
from postroom.actions.looking import MOST_FOUND, look_through
from postroom.actions.messages import owned
from postroom.core.server import Owner
from postroom.errors import NotFound
from postroom.ids import ServerId
from postroom.storage import hit_search, link_targets
from postroom.storage.bounces import tag_of
from postroom.storage.hit_search import FoundHit, Wanted
from postroom.storage.interface import Work

__all__ = ["MOST_FOUND", "HitPage", "SeenHit", "Wanted", "of_message", "search"]


@dataclass(frozen=True)
class SeenHit:
    """The first time a person opened a copy, or followed a link of it to `target`."""

    at_us: int
    recipient: str
    public_id: str
    stream: str
    tag: str
    user_agent: str
    in_text: bool
    target: str


@dataclass(frozen=True)
class HitPage:
    """One page of what was found, newest first, and how many there are: at most MOST_FOUND are counted."""

    total: int
    hits: Sequence[SeenHit]


async def search(
    ctx: Context, owner: Owner, server_id: ServerId, wanted: Wanted, *, tag: str, count: int, offset: int
) -> HitPage:
    """What fits. tag: of the message, "" for any."""
    look = partial(hit_search.look, owner.account_id, server_id, wanted)

    def fits(one: FoundHit) -> bool:
        return not tag or tag_of(json.loads(one.options)) == tag

    found = await look_through(ctx, look, None, fits)
    return await _page(ctx, found, count, offset)


async def of_message(
    ctx: Context, owner: Owner, public_id: str, *, clicks: bool, count: int, offset: int
) -> HitPage:
    """Those of one message. Raises NotFound(message)."""

    def work() -> Work[list[FoundHit]]:
        message = yield from owned(owner, public_id)
        if message.public_id != public_id:
            raise NotFound("message")
        return (
            yield from hit_search.of_message(
                message.account_id, message.message_id, clicks=clicks, most=MOST_FOUND
            )
        )

    return await _page(ctx, await ctx.store.read(work), count, offset)


async def _page(ctx: Context, found: Sequence[FoundHit], count: int, offset: int) -> HitPage:
    page = found[offset : offset + count]
    contents = {one.content_id for one in page if one.link >= 0}

    def work() -> Work[dict[int, Sequence[str]]]:
        targets = {}
        for one in sorted(contents):
            targets[one] = yield from link_targets.of_content(one)
        return targets

    targets = await ctx.store.read(work) if contents else {}
    return HitPage(len(found), [_seen(one, targets.get(one.content_id, ())) for one in page])


def _seen(one: FoundHit, targets: Sequence[str]) -> SeenHit:
    return SeenHit(
        at_us=one.at_us,
        recipient=one.recipient,
        public_id=one.public_id,
        stream=one.stream,
        tag=tag_of(json.loads(one.options)),
        user_agent=one.user_agent,
        in_text=one.in_text,
        target=targets[one.link] if 0 <= one.link < len(targets) else "",
    )
