"""Walking through messages until enough are found: the loop under lists and searches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from postroom.actions.context import Context
from postroom.ids import AccountId, MessageId, ServerId
from postroom.storage import message_search
from postroom.storage.interface import Work
from postroom.storage.message_search import Search, Slice, Walk

FIRST_SLICE = 250  # what is looked for is often among the newest
SLICE = 5000
MOST_LOOKED = 50_000


@dataclass(frozen=True)
class Found:
    """Messages that fit, newest first. last: the oldest that was looked at; None: there is nothing older.

    total: how many there are, as far as it was counted.
    """

    numbers: Sequence[MessageId]
    last: MessageId | None
    total: int


async def find(
    ctx: Context,
    account_id: AccountId,
    server_id: ServerId | None,
    search: Search,
    *,
    enough: int,
    more: int = 0,
    count_to: int = 0,
    before: int | None = None,
) -> Found:
    """At least `enough` of the newest older than `before`, where there are; or what MOST_LOOKED brought.

    How many there are is counted up to `count_to` where an index knows everything that is asked, and each
    costs next to nothing; else `more` beyond enough are looked for.
    """

    def begin() -> Work[tuple[Walk, Slice, int]]:
        at = before
        if search.until_us is not None and server_id is not None:
            place = yield from message_search.place_of(account_id, server_id, search.until_us)
            at = place if at is None or (place is not None and place < at) else at
        walk = yield from message_search.plan(account_id, server_id, search)
        looked = yield from message_search.look(walk, search, at, enough if walk.whole else FIRST_SLICE)
        if not (walk.whole and count_to and looked.last is not None):
            return walk, looked, len(looked.found)
        return walk, looked, (yield from message_search.total(walk, at, count_to))

    walk, looked, total = await ctx.store.read(begin)
    if walk.whole:
        return Found(looked.found, looked.last, total)
    numbers, seen = list(looked.found), FIRST_SLICE
    while looked.last is not None and len(numbers) < enough + more and seen < MOST_LOOKED:
        older_than = looked.last

        def go_on(older_than: int = older_than) -> Work[Slice]:
            return message_search.look(walk, search, older_than, SLICE)

        looked = await ctx.store.read(go_on)
        numbers += looked.found
        seen += SLICE
    return Found(numbers, looked.last, len(numbers))
