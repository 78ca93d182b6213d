"""Tells the other processes what changed here: gathered, ten times a second at most, until it is said.

Fresh mail is a case of its own. A process that delivers takes most of it itself within moments, and every
process told of it would open a session for nothing; so it tells after a while, and only what waits still.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from postroom.engine.news import News
from postroom.ids import LaneId
from postroom.logs import Trouble, logger

EVERY_S = 0.1
OURS_FIRST_S = 0.25
_AGAIN_S = 1.0
_LAST_WORDS_S = 3.0
log = logger("news")


class Wire(Protocol):
    """The way to the other processes."""

    async def say(self, text: str) -> None:
        """Every process that listens hears this, this one too. Raises Unavailable."""


class Teller:
    """Used on one event loop."""

    def __init__(self, wire: Wire, name: str, waits: Callable[[LaneId], int | None]) -> None:
        """name: of this process. waits: about how many wait on a lane now; None: nothing delivers here."""
        self._wire, self._name, self._waits = wire, name, waits
        self._news = News()
        self._lanes: Counter[LaneId] = Counter()
        self._quiet = asyncio.Event()
        self._saying: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._trouble = Trouble(log)
        self.said = 0

    def tell(self, news: News) -> None:
        """Say it soon."""
        self._news.add(news)
        self._quiet.clear()
        if self._saying is None or self._saying.done():
            self._saying = asyncio.create_task(self._say())

    def woke(self, lanes: Counter[LaneId]) -> None:
        """So many deliveries became ready on these lanes."""
        if any(self._waits(lane) is None for lane in lanes):
            self.tell(News(lanes=lanes))
            return
        self._lanes += lanes
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(OURS_FIRST_S, self._left_over)

    def _left_over(self) -> None:
        self._timer = None
        lanes, self._lanes = self._lanes, Counter()
        left = Counter({lane: min(count, self._still(lane, count)) for lane, count in lanes.items()})
        if +left:
            self.tell(News(lanes=+left))

    def _still(self, lane: LaneId, count: int) -> int:
        waits = self._waits(lane)
        return count if waits is None else waits

    async def _say(self) -> None:
        text = ""
        while text or self._news:
            text = text or self._news.take_text(self._name)
            if not await self._said(text):
                await asyncio.sleep(_AGAIN_S)
                continue
            text = ""
            if not self._news:
                self._quiet.set()
            await asyncio.sleep(EVERY_S)

    async def _said(self, text: str) -> bool:
        try:
            await self._wire.say(text)
        except Exception as error:
            self._trouble.met("the other processes cannot be told", error=str(error) or type(error).__name__)
            return False
        self._trouble.over("the other processes are told again")
        self.said += 1
        return True

    async def close(self) -> None:
        """Say what is left, if that can be done quickly."""
        if self._timer is not None:
            self._timer.cancel()
            self._left_over()
        if self._saying is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._quiet.wait(), _LAST_WORDS_S)
            self._saying.cancel()
            await asyncio.gather(self._saying, return_exceptions=True)
