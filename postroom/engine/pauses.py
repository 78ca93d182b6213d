"""What people paused, as the running engine knows it, and what that stops.

The claim asks the database again in its own commit; this memory is what keeps paused mail from costing
anything, and what gives back what was claimed and has not begun.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from postroom.engine.attempt import Attempt
from postroom.engine.claim import Claimed
from postroom.ids import AttemptId, ConnectionId
from postroom.storage import pauses as stored
from postroom.storage.in_flight import Open
from postroom.storage.interface import Store
from postroom.storage.lanes import Lane
from postroom.storage.pauses import Pause, PauseScope
from postroom.storage.routes import Route

if TYPE_CHECKING:
    from postroom.engine.lane_book import LaneBook
    from postroom.engine.runner import Runner


@dataclass(frozen=True)
class Pauses:
    """All pauses in force."""

    everything: bool = False
    servers: frozenset[int] = field(default_factory=frozenset)
    connections: frozenset[int] = field(default_factory=frozenset)

    @classmethod
    def of(cls, found: Iterable[Pause]) -> Pauses:
        """Ids are never used twice and the same in every account, so the account need not be looked at."""
        by_scope: dict[PauseScope, set[int]] = {scope: set() for scope in PauseScope}
        for one in found:
            by_scope[one.scope].add(one.target_id)
        return cls(
            bool(by_scope[PauseScope.ALL]),
            frozenset(by_scope[PauseScope.SERVER]),
            frozenset(by_scope[PauseScope.CONNECTION]),
        )

    def stop_lane(self, lane: Lane) -> bool:
        """Nothing of this lane may be claimed, by whatever connection."""
        return self.everything or lane.server_id in self.servers

    def stop_connection(self, route: Route) -> bool:
        """This connection may claim nothing."""
        return self.everything or route.connection_id in self.connections or route.server_id in self.servers

    def stop_claimed(self, claimed: Claimed | Open) -> bool:
        """This delivery would not have been claimed."""
        return (
            self.everything or claimed.connection_id in self.connections or claimed.server_id in self.servers
        )


NO_PAUSES = Pauses()


class Pausing:
    """Keeps the pauses of a running engine in force."""

    def __init__(
        self,
        store: Store,
        book: LaneBook,
        runners: Mapping[ConnectionId, Runner],
        attempts: Mapping[AttemptId, Attempt],
    ) -> None:
        """book, runners, attempts: the engine's own, which change."""
        self._store, self._book = store, book
        self._runners, self._attempts = runners, attempts
        self._reading = asyncio.Lock()  # so that an older look never overwrites a newer one

    @property
    def now(self) -> Pauses:
        """Those in force."""
        return self._book.pauses

    async def look(self) -> None:
        """Read what is paused and put it in force. Raises Unavailable."""
        async with self._reading:
            found = Pauses.of(await self._store.read(stored.everything))
            if found != self.now:
                before, self._book.pauses = self.now, found
                self._apply(before, found)

    def _apply(self, before: Pauses, pauses: Pauses) -> None:
        routes_differ = before.connections != pauses.connections
        for state in self._book.lanes.values():
            if routes_differ:
                self._book.doubt(state)
            self._book.pause(state, paused=pauses.stop_lane(state.lane))
        for attempt in self._attempts.values():
            if pauses.stop_claimed(attempt.claimed):
                attempt.withdraw()
        for runner in self._runners.values():
            runner.pause(paused=pauses.stop_connection(runner.route))

    def on_their_way(self, pause: Pause) -> int:
        """Deliveries of what this pause stops that came too far to be given back."""
        alone = Pauses.of([pause])
        return sum(
            attempt.on_its_way and alone.stop_claimed(attempt.claimed) for attempt in self._attempts.values()
        )
