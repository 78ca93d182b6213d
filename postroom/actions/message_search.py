"""Searching one server's messages, page by page, and one of them with what became of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from postroom.actions.context import Context
from postroom.actions.messages import KIND, Seen, owned
from postroom.core.server import Owner
from postroom.errors import NotFound
from postroom.ids import AccountId, MessageId, ServerId
from postroom.storage import message_search, messages, servers
from postroom.storage.interface import Work
from postroom.storage.message_search import Search, Slice, StoredEvent
from postroom.storage.messages import StoredDelivery

__all__ = ["MOST_FOUND", "History", "Page", "Search", "StoredDelivery", "StoredEvent", "history", "search"]

MOST_FOUND = 10_000
MOST_SLICES = 25  # so many times 2000 messages are looked through in one search
_MOST_EVENTS = 1000


@dataclass(frozen=True)
class Page:
    """One page of what was found, newest first, and how many there are: at most MOST_FOUND are counted."""

    total: int
    seen: Sequence[Seen]
    sandbox: bool


@dataclass(frozen=True)
class History:
    """A message with its content and its events in their order."""

    seen: Seen
    events: Sequence[StoredEvent]
    sandbox: bool


async def search(
    ctx: Context,
    account_id: AccountId,
    server_id: ServerId,
    wanted: Search,
    fits: Callable[[dict[str, object]], bool],
    *,
    count: int,
    offset: int,
) -> Page:
    """The messages of a server that fit; `fits`: what else their stored options must be."""
    found: list[MessageId] = []
    before: int | None = None
    until_us = wanted.until_us
    if until_us is not None:
        at_us = until_us
        before = await ctx.store.read(lambda: message_search.place_of(account_id, server_id, at_us))
    narrowed = bool(wanted.holds)
    for _ in range(MOST_SLICES):

        def work(before: int | None = before) -> Work[Slice]:
            return message_search.look(account_id, server_id, wanted, before)

        looked = await ctx.store.read(work)
        found += [number for number, options in looked.found if not narrowed or fits(json.loads(options))]
        before = looked.last
        if before is None or len(found) >= MOST_FOUND:
            break
    del found[MOST_FOUND:]
    wanted_now = found[offset : offset + count]

    def rows() -> Work[Page]:
        server = yield from servers.get(account_id, server_id)
        seen = []
        for message in (yield from message_search.get_many(account_id, wanted_now)) if wanted_now else ():
            deliveries = yield from messages.deliveries(account_id, message.message_id)
            seen.append(Seen(message, tuple(deliveries)))
        return Page(len(found), seen, server is not None and server.sandbox)

    return await ctx.store.read(rows)


async def history(ctx: Context, owner: Owner, public_id: str) -> History:
    """A message by its public id. Raises NotFound."""

    def work() -> Work[History]:
        message = yield from owned(owner, public_id)
        if message.public_id != public_id:
            raise NotFound(KIND)
        server = yield from servers.get(message.account_id, message.server_id)
        found = yield from messages.deliveries(message.account_id, message.message_id)
        content = yield from messages.content(message.account_id, message.content_id)
        events = yield from message_search.events(message.account_id, message.message_id, _MOST_EVENTS)
        seen = replace(Seen(message, tuple(found)), content=content)
        return History(seen, events, server is not None and server.sandbox)

    return await ctx.store.read(work)
