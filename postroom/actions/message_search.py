"""Finding messages among many, page by page, and one of them with what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from postroom.actions.context import Context
from postroom.actions.finding import find
from postroom.actions.looking import MOST_FOUND
from postroom.actions.messages import KIND, Seen, owned, with_deliveries
from postroom.core.bounce import Bounce
from postroom.core.server import Owner
from postroom.errors import NotFound
from postroom.ids import AccountId, ServerId
from postroom.storage import bounce_search, link_targets, message_search, messages, servers
from postroom.storage.interface import Work
from postroom.storage.labels import Label
from postroom.storage.message_search import Search, StoredEvent
from postroom.storage.messages import StoredDelivery

__all__ = [
    "MOST_FOUND",
    "History",
    "Label",
    "Page",
    "Search",
    "StoredDelivery",
    "StoredEvent",
    "history",
    "search",
]

_MORE = 250  # counted beyond a page where each message has to be looked at
_MOST_EVENTS = 1000


@dataclass(frozen=True)
class Page:
    """One page of what was found, newest first, and how many there are, as far as they are counted: up to
    MOST_FOUND where an index knows all that was asked, else somewhat beyond the page."""

    total: int
    seen: Sequence[Seen]
    sandbox: bool


@dataclass(frozen=True)
class History:
    """A message with its content and its events in their order."""

    seen: Seen
    events: Sequence[StoredEvent]
    sandbox: bool
    bounces: Sequence[Bounce] = ()
    targets: Sequence[str] = ()  # of its tracked links

    def bounce_of(self, event: StoredEvent) -> Bounce | None:
        """The bounce that an event tells of, as long as it is kept."""
        of_delivery = [one for one in self.bounces if one.delivery_id == event.delivery_id]
        at_once = [one for one in of_delivery if one.at_us == event.at_us]
        return next(iter(at_once or of_delivery), None)


async def search(
    ctx: Context, account_id: AccountId, server_id: ServerId, wanted: Search, *, count: int, offset: int
) -> Page:
    """The messages of a server that fit."""
    server = await ctx.store.read(lambda: servers.get(account_id, server_id))
    sandbox = server is not None and server.sandbox
    if sandbox and wanted.settled is not None:
        if not wanted.settled:
            return Page(0, (), sandbox)
        wanted = replace(wanted, settled=None)  # what a sandbox keeps has ended there
    found = await find(
        ctx,
        account_id,
        server_id,
        wanted,
        enough=offset + count,
        more=_MORE,
        count_to=MOST_FOUND,
    )
    numbers = found.numbers[:MOST_FOUND]

    def page() -> Work[Sequence[Seen]]:
        listed = yield from message_search.get_many(account_id, numbers[offset : offset + count])
        return (yield from with_deliveries(account_id, listed))

    return Page(min(found.total, MOST_FOUND), await ctx.store.read(page), sandbox)


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
        bounced = yield from bounce_search.of_message(
            message.account_id, message.server_id, message.public_id, _MOST_EVENTS
        )
        targets = yield from link_targets.of_content(message.content_id)
        seen = replace(Seen(message, tuple(found)), content=content)
        return History(seen, events, server is not None and server.sandbox, bounced, targets)

    return await ctx.store.read(work)
