"""Searching a stream for a part of the subject by its blocks: down from the newest, a bounded step at a time.

What no block speaks for is walked as any search walks. Of the blocks only those are read whose bitmaps have
all that the text needs; what the subjects do not say is asked of the messages that are left.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from postroom.ids import MessageId
from postroom.storage import message_search, subject_blocks
from postroom.storage.interface import Compute, Sql, Work
from postroom.storage.message_search import Blocks, Plan, Search, Slice
from postroom.storage.subject_blocks import Bitmap, StreamKey
from postroom.storage.trigrams import bits_of, has


@dataclass(frozen=True)
class Pace:
    """How much a step does at most. slice: rows walked. crowded: where more messages of a block have the text
    and something else is asked, a slice is walked from there as if no block were there."""

    slice: int
    bitmaps: int
    blocks: int
    crowded: int


@dataclass
class Effort:
    """What a search looked at: rows walked, bitmaps, and the subjects of blocks."""

    rows: int = 0
    bitmaps: int = 0
    blocks: int = 0

    def add(self, other: Effort) -> None:
        """And this."""
        self.rows += other.rows
        self.bitmaps += other.bitmaps
        self.blocks += other.blocks


@dataclass
class Step:
    """What a step found, newest first. before: everything older is still to be looked at; None: there is
    nothing older."""

    before: int | None
    found: list[MessageId] = field(default_factory=list)
    effort: Effort = field(default_factory=Effort)

    def take(self, looked: Slice, rows: int) -> None:
        """A stretch was walked."""
        self.found += looked.found
        self.before = looked.last
        self.effort.rows += rows


def look(plan: Plan, search: Search, before: int, enough: int, pace: Pace) -> Work[Step]:
    """A step down from the message `before`; it ends sooner when it has enough, and may bring more."""
    assert plan.blocks is not None
    stream, step = plan.blocks.stream, Step(before)
    newest = yield from subject_blocks.newest_below(stream, before)
    if newest is None or newest + 1 < before:
        looked = yield from message_search.look(plan.walk, search, before, pace.slice, newest or 0)
        step.take(looked, pace.slice)
        if newest is None or step.before != newest + 1:
            return step
    bits = bits_of(plan.walk.subject)
    for bitmap in (yield from subject_blocks.bitmaps_below(stream, min(before, newest + 1), pace.bitmaps)):
        step.effort.bitmaps += 1
        if step.before is None or bitmap.last_id + 1 < step.before:
            break
        if not has(bitmap.grams, bits):
            step.before = bitmap.first_id
        elif len(step.found) >= enough or step.effort.blocks >= pace.blocks:
            break
        elif not (yield from _through(plan, plan.blocks, search, bitmap, step, pace)):
            return step
    if step.before == 1 or (yield from _is_past(stream, search, step)):
        return replace(step, before=None)
    return step


def _through(
    plan: Plan, blocks: Blocks, search: Search, bitmap: Bitmap, step: Step, pace: Pace
) -> Work[bool]:
    """Search one block; False: walking on from it did as well, and more."""
    packed = yield from subject_blocks.subjects_of(blocks.stream, bitmap.first_id)
    step.effort.blocks += 1

    def match() -> list[MessageId]:
        return subject_blocks.matching(bitmap.first_id, packed, plan.walk.subject)

    rows = yield Compute(match, len(packed))
    numbers = [one for one in rows[0][0] if step.before is None or one < step.before]
    if blocks.walk.conditions and len(numbers) > pace.crowded:
        step.take((yield from message_search.look(plan.walk, search, step.before, pace.slice)), pace.slice)
        return False
    step.found += yield from message_search.fitting(blocks.walk, numbers)
    step.before = bitmap.first_id
    return True


def _is_past(stream: StreamKey, search: Search, step: Step) -> Work[bool]:
    """Whether what is older than this step is too old."""
    if search.since_us is None:
        return False
    rows = yield Sql(
        "SELECT created_at FROM messages WHERE account_id = :account_id AND server_id = :server_id"
        " AND stream = :stream AND message_id < :before ORDER BY message_id DESC LIMIT 1",
        stream.named(before=step.before),
    )
    return not rows or rows[0][0] < search.since_us
