"""Opens and clicks on their way to the database: gathered in memory, and written together.

A hit waits a moment, so that hits alike become one, and because clicks on BURST_LINKS different links of one
copy within that moment are a scanner's, the first of them too. At most MOST_WAITING different ones wait; what
comes beyond is counted as dropped, and the page behind the link is shown all the same. Only one write of ours
is ever in the store's queue, so hits cannot crowd out mail. A crash loses what waits: seconds.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, replace
from itertools import islice

from postroom.actions.context import Context
from postroom.actions.hits import Hit, record
from postroom.errors import PostroomError
from postroom.ids import DeliveryId
from postroom.logs import logger
from postroom.tally import HIT_BURST

log = logger("tracking")
WAIT_S = 2.0
BURST_LINKS = 3
MOST_WAITING = 10_000
_AT_ONCE = 100  # in one unit of work
_LAST_S = 5.0  # for what waits when everything stops
_Key = tuple[DeliveryId, int | None, bool]


@dataclass
class _Waiting:
    hit: Hit
    since_s: float


class Hits:
    """Takes them from the pages. The task that writes runs only while something waits."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._waiting: OrderedDict[_Key, _Waiting] = OrderedDict()  # oldest first
        self._clicks: dict[DeliveryId, set[int]] = {}  # the links among them
        self._task: asyncio.Task[None] | None = None
        self._writing = asyncio.Lock()

    def note(self, hit: Hit) -> None:
        """It happened. Needs a running loop; never waits and never fails."""
        if hit.link is not None and self._is_burst(hit.delivery_id, hit.link):
            hit = replace(hit, machine=hit.machine or HIT_BURST)
        self._ctx.tally.hit("open" if hit.link is None else "click", hit.machine)
        self._put(hit, self._ctx.clock.steady_s())
        if self._task is None and self._waiting:
            self._task = asyncio.create_task(self._write_on())

    async def write(self, *, everything: bool = False) -> None:
        """Write what waited long enough. Raises Unavailable; what is not written waits on."""
        async with self._writing:
            ripe_s = float("inf") if everything else self._ctx.clock.steady_s() - WAIT_S
            while due := [
                key for key, one in islice(self._waiting.items(), _AT_ONCE) if one.since_s <= ripe_s
            ]:
                await self._write([self._take(key) for key in due])

    async def stop(self) -> None:
        """Write what waits, if that can be done soon."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        try:
            async with asyncio.timeout(_LAST_S):
                await self.write(everything=True)
        except (PostroomError, TimeoutError) as error:
            log.warning("opens and clicks were not written", count=len(self._waiting), error=str(error))

    def _put(self, hit: Hit, since_s: float, *, back: bool = False) -> None:
        key = (hit.delivery_id, hit.link, bool(hit.machine))
        known = self._waiting.get(key)
        if known is not None:
            known.hit = replace(known.hit, times=known.hit.times + hit.times)
            return
        if len(self._waiting) >= MOST_WAITING and not back:
            self._ctx.tally.hits_dropped += hit.times
            return
        self._waiting[key] = _Waiting(hit, since_s)
        if back:
            self._waiting.move_to_end(key, last=False)
        if hit.link is not None:
            self._clicks.setdefault(hit.delivery_id, set()).add(hit.link)

    def _first(self, ripe_s: float) -> list[_Key]:
        return [key for key, one in islice(self._waiting.items(), _AT_ONCE) if one.since_s <= ripe_s]

    def _take(self, key: _Key) -> _Waiting:
        delivery_id, link, _ = key
        links = self._clicks.get(delivery_id)
        if links is not None and link is not None:
            links.discard(link)
            if not links:
                del self._clicks[delivery_id]
        return self._waiting.pop(key)

    def _is_burst(self, delivery_id: DeliveryId, link: int) -> bool:
        """Whether this click makes too many; then those that wait are a machine's as well."""
        links = self._clicks.get(delivery_id, set()) | {link}
        if len(links) < BURST_LINKS:
            return False
        for one in links:
            if (waiting := self._waiting.get((delivery_id, one, False))) is not None:
                self._take((delivery_id, one, False))
                self._put(replace(waiting.hit, machine=HIT_BURST), waiting.since_s, back=True)
        return True

    async def _write(self, found: list[_Waiting]) -> None:
        try:
            await record(self._ctx, [one.hit for one in found])
        except (PostroomError, asyncio.CancelledError):
            for one in reversed(found):
                self._put(one.hit, one.since_s, back=True)
            raise
        except Exception:  # once more would be the same
            self._ctx.tally.hits_dropped += sum(one.hit.times for one in found)
            log.exception("opens and clicks could not be written", count=len(found))

    async def _write_on(self) -> None:
        while self._waiting:
            await asyncio.sleep(WAIT_S / 2)
            try:
                await self.write()
            except PostroomError as error:
                log.warning("opens and clicks wait", count=len(self._waiting), error=str(error))
        self._task = None
