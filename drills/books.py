"""The books of a drill whose processes live on: what was accepted, and what became of it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from drills.feed import OneByOne, Told
from drills.judge import WAITING
from drills.post import Post
from postroom.core.message import DeliveryState
from tests.support.sink import copies, read_log

SETTLED_WITHIN_S = 60.0
_LIVES = (
    "a worker's lease is over",
    "this worker was taken for dead",
    "this process begins anew",
    "a dead worker's journal was replayed",
)


class Mail:
    """A feed that sends so many at a time."""

    def __init__(self, feed: OneByOne) -> None:
        self._feed, self._sent = feed, 0

    def begin_at(self, number: int) -> None:
        """Its messages are numbered from here on, apart from those of another feed."""
        self._sent = number

    async def send(self, count: int) -> None:
        """So many more, at once; returns when each has its yes."""
        first, self._sent = self._sent, self._sent + count
        await asyncio.gather(*(self._feed.send(first + n) for n in range(count)))


@dataclass(frozen=True)
class Books:
    """At one moment. copies: of all messages together."""

    accepted: int
    lost: int
    copies: int
    unverified: int


NOTHING = Books(0, 0, 0, 0)


def books(post: Post, told: Told, log: Path) -> Books:
    """As they stand now; log: the sink's."""
    records = read_log(log)
    at_sink = {record.recipient for record in records}
    states = post.recipients()
    unverified = {one for one, state in states.items() if state == DeliveryState.UNVERIFIED}
    lost = told.accepted - at_sink - unverified
    again = sum(count - 1 for count in copies(records).values())
    return Books(len(told.accepted), len(lost), again, len(unverified))


async def settled(post: Post, within_s: float = SETTLED_WITHIN_S) -> int:
    """Wait until nothing waits any more; what still does when that takes too long."""
    until_s = time.monotonic() + within_s
    while True:
        states = await asyncio.to_thread(post.states)
        left = sum(states[state] for state in WAITING)
        if not left or time.monotonic() > until_s:
            return left
        await asyncio.sleep(0.1)


def deaths(*logs: Path) -> Counter[str]:
    """How often workers were taken for dead, by these logs of `serve`."""
    text = "".join(log.read_text("utf-8") for log in logs if log.exists())
    return Counter({words: text.count(words) for words in _LIVES})
