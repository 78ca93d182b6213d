"""The attempts that are under way: claimed and not settled yet, and what stops or gives back some of them."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from postroom.clock import Clock
from postroom.engine.attempt import Attempt
from postroom.ids import AttemptId, ConnectionId, DeliveryId

WAIT_S = 30.0
_LOOK_EVERY_S = 0.02
_MOST_MARKED = 5000


class UnderWay(dict[AttemptId, Attempt]):
    """By attempt; one leaves when its settling is committed."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self._marked: dict[AttemptId, bool] = {}

    def __setitem__(self, attempt_id: AttemptId, attempt: Attempt) -> None:
        super().__setitem__(attempt_id, attempt)
        cancel = self._marked.pop(attempt_id, None)
        if cancel is not None:
            _mark(attempt, cancel=cancel)

    def mark(self, attempts: Collection[AttemptId], *, cancel: bool) -> None:
        """Cancel these before their final dot, or give them back unless they are on their way.

        Their claim may be committed and its answer still on its way to us: then it counts when that comes.
        """
        for attempt_id in attempts:
            if attempt_id in self:
                _mark(self[attempt_id], cancel=cancel)
            else:
                self._marked[attempt_id] = cancel
        while len(self._marked) > _MOST_MARKED:  # those of other processes, and of long ago
            del self._marked[next(iter(self._marked))]

    async def stop(self, deliveries: Collection[DeliveryId]) -> frozenset[DeliveryId]:
        """Stop these before their final dot; returns which could not be stopped."""
        mine = [one for one in self.values() if one.claimed.delivery_id in deliveries]
        for one in mine:
            one.cancelled = True
        late = frozenset(one.claimed.delivery_id for one in mine if one.past_dot)
        await self._until_ended(mine)
        return late

    def overtake(self, attempts: Collection[AttemptId]) -> None:
        """An earlier try of what these carry was sent after all: before their dot they are not needed."""
        for attempt_id in attempts:
            one = self.get(attempt_id)
            if one is not None and not one.past_dot:
                one.overtaken = True

    async def give_back(self, connection_id: ConnectionId) -> frozenset[DeliveryId]:
        """Give back what this connection holds; returns what is on its way still after half a minute."""
        mine = [one for one in self.values() if one.claimed.connection_id == connection_id]
        for one in mine:
            one.withdraw()
        return frozenset(one.claimed.delivery_id for one in await self._until_ended(mine))

    async def _until_ended(self, attempts: Collection[Attempt]) -> list[Attempt]:
        """Wait, for half a minute at most, until these are settled; returns those that are not."""
        deadline_s = self._clock.steady_s() + WAIT_S
        while left := [one for one in attempts if one.claimed.attempt_id in self]:
            if self._clock.steady_s() > deadline_s:
                break
            await asyncio.sleep(_LOOK_EVERY_S)
        return left


def _mark(attempt: Attempt, *, cancel: bool) -> None:
    if cancel:
        attempt.cancelled = True
    else:
        attempt.withdraw()
