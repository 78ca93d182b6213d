"""Walking through messages until enough are found: the loop under lists and searches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from postroom.actions.context import Context
from postroom.ids import AccountId, MessageId, ServerId
from postroom.storage import message_search, subject_search
from postroom.storage.interface import Work
from postroom.storage.message_search import Plan, Search, Slice
from postroom.storage.subject_search import Effort, Pace, Step

FIRST_SLICE = 250  # what is looked for is often among the newest
SLICE = 5000
MANY = 20  # where one of so many on another index fits, blocks of subjects are no help
MOST_LOOKED = 50_000
MOST_BLOCKS = 16  # of subjects that are looked through: of 80,000 messages
MOST_BITMAPS = 1000  # of blocks that are passed by, mostly
# So many messages of a block are looked up each before walking costs less; of a shorter index a tenth.
CROWDED = 500
_FIRST_BITMAPS, _BITMAPS_AT_ONCE, _BLOCKS_AT_ONCE = 20, 200, 10


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
    """At least `enough` of the newest older than `before`, where there are; or what the bounds above brought.

    How many there are is counted up to `count_to` where an index knows everything that is asked, and each
    costs next to nothing; else `more` beyond enough are looked for.
    """

    def begin() -> Work[tuple[Plan, Slice, int]]:
        at = before
        if search.until_us is not None and server_id is not None:
            place = yield from message_search.place_of(account_id, server_id, search.until_us)
            at = place if at is None or (place is not None and place < at) else at
        plan = yield from message_search.plan(account_id, server_id, search)
        walk = plan.walk
        looked = yield from message_search.look(walk, search, at, enough if walk.whole else FIRST_SLICE)
        if not (walk.whole and count_to and looked.last is not None):
            return plan, looked, len(looked.found)
        return plan, looked, (yield from message_search.total(walk, at, count_to))

    plan, looked, total = await ctx.store.read(begin)
    if plan.walk.whole:
        return Found(looked.found, looked.last, total)
    numbers, last, effort = list(looked.found), looked.last, Effort(FIRST_SLICE)
    if not _by_stream(plan) and len(numbers) * MANY >= FIRST_SLICE:
        plan = Plan(plan.walk)
    while last is not None and (lacking := enough + more - len(numbers)) > 0 and _goes_on(plan, effort):
        if plan.blocks is not None:
            ctx.subjects.note(plan.blocks.stream, ctx.clock.steady_s())
        rows = _rows(lacking, len(numbers), effort.rows)
        step = await ctx.store.read(partial(_step, plan, search, last, lacking, rows, effort))
        numbers += step.found
        last = None if step.before is None else MessageId(step.before)
        effort.add(step.effort)
    return Found(numbers, last, len(numbers))


def _goes_on(plan: Plan, effort: Effort) -> bool:
    """Whether more may be looked at. Where another index is walked, it is when no more blocks may be read."""
    if _by_stream(plan) and _enough_blocks(effort):
        return False
    return effort.rows < MOST_LOOKED


def _by_stream(plan: Plan) -> bool:
    return plan.blocks is not None and plan.walk == plan.blocks.walk


def _enough_blocks(effort: Effort) -> bool:
    return effort.blocks >= MOST_BLOCKS or effort.bitmaps >= MOST_BITMAPS


def _rows(lacking: int, found: int, looked: int) -> int:
    """How many rows to walk until nothing is lacking, a quarter more than if what comes is as what came."""
    return min(SLICE, max(FIRST_SLICE, lacking * looked * 5 // (found * 4))) if found else SLICE


def _step(plan: Plan, search: Search, before: int, lacking: int, rows: int, effort: Effort) -> Work[Step]:
    if plan.blocks is not None and not _enough_blocks(effort):
        at_once = _BITMAPS_AT_ONCE if effort.bitmaps else _FIRST_BITMAPS
        pace = Pace(
            rows,
            bitmaps=min(at_once, MOST_BITMAPS - effort.bitmaps),
            blocks=min(_BLOCKS_AT_ONCE, MOST_BLOCKS - effort.blocks),
            crowded=CROWDED if _by_stream(plan) else CROWDED // 10,
        )
        return (yield from subject_search.look(plan, search, before, lacking, pace))
    step = Step(before)
    step.take((yield from message_search.look(plan.walk, search, before, rows)), rows)
    return step
