"""The engines of all processes on one database, as actions see them: tells the one here and the others.

What must be in force when it returns is done with the database, not by messages: a claim checks pauses,
cancels and deletions in its own commit, so once the claims that were under way are committed
(`in_flight.after_claims`) every attempt from before stands in its table. Those are told to stop, wherever
they are, and looked at until they are settled. A message that gets lost costs time only.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Sequence
from typing import Protocol, TypeVar

from postroom.actions.context import Hearer
from postroom.clock import Clock
from postroom.engine.news import News, read
from postroom.engine.pauses import Pauses
from postroom.engine.tasks import Tasks
from postroom.engine.teller import Teller, Wire
from postroom.engine.under_way import WAIT_S
from postroom.errors import PostroomError
from postroom.ids import AccountId, AttemptId, ConnectionId, DeliveryId, LaneId
from postroom.logs import logger
from postroom.storage import in_flight, pauses
from postroom.storage.in_flight import Open
from postroom.storage.interface import Store
from postroom.storage.pauses import Pause

T = TypeVar("T")
PAUSED_WITHIN_S = 2.0  # what a pause gives back is back by then; what is not is on its way
_LOOK_FIRST_S, _LOOK_LATER_S = 0.02, 0.25
log = logger("news")


class Engine(Hearer, Protocol):
    """What is needed of the engine of this process, which may not run."""

    running: bool

    def waits(self, lane_id: LaneId) -> int | None:
        """About how many deliveries wait on a lane; None: this engine does not run."""

    def stop_attempts(self, attempts: Collection[AttemptId], *, cancel: bool) -> None:
        """Cancel these before their final dot, or give them back unless they are on their way."""

    def overtaken(self, attempts: Collection[AttemptId]) -> None:
        """Earlier tries of what these carry were sent after all."""

    async def look_at_pauses(self) -> None:
        """Put in force what is paused now."""

    async def reread(self) -> None:
        """Look at everything that a missed call could have told. Raises PostroomError."""


class Everybody:
    """Implements `actions.context.Hearer`. Used on one event loop."""

    def __init__(
        self,
        here: Engine,
        wire: Wire,
        name: str,
        store: Store,
        clock: Clock,
    ) -> None:
        """name: of this process among the others."""
        self._here, self._name, self._store, self._clock = here, name, store, clock
        self._teller = Teller(wire, name, here.waits)
        self.key_file_changed: Callable[[], None] | None = None  # called when another process says so
        self.wait_s = WAIT_S  # how long to wait for what is on its way
        self.paused_within_s = PAUSED_WITHIN_S
        self._tasks = Tasks("news")
        self.heard_texts = 0

    # --- Hearer ----------------------------------------------------------------------------------------

    def wake(self, lanes: Sequence[tuple[LaneId, int]]) -> None:
        """So many deliveries became ready on these lanes."""
        self._here.wake(lanes)
        counts = Counter[LaneId]()
        for lane_id, count in lanes:
            counts[lane_id] += count
        self._teller.woke(counts)

    def connection_changed(self, connection_id: ConnectionId) -> None:
        """A connection was made, changed, tested, switched or deleted."""
        self._here.connection_changed(connection_id)
        self._teller.tell(News(connections={connection_id}))

    def room_changed(self, connection_id: ConnectionId) -> None:
        """Room under a connection's caps came back by a person's hand."""
        self._here.room_changed(connection_id)
        self._teller.tell(News(rooms={connection_id}))

    def facts_changed(self, account_id: AccountId) -> None:
        """Facts that routing depends on changed; account 0: for everybody."""
        self._here.facts_changed(account_id)
        self._teller.tell(News(accounts={account_id}))

    async def pauses_changed(self, about: Pause) -> int:
        """In force when it returns. How many of its deliveries came too far to be given back."""
        await self._here.look_at_pauses()
        self._teller.tell(News(pauses=True))
        stored = await self._store.read(lambda: pauses.get(about.account_id, about.scope, about.target_id))
        if stored is None:
            return 0  # resumed
        alone = Pauses.of([about])
        held = await self._held(alone.stop_claimed)
        await self._here.look_at_pauses()  # claims that were being committed are known here by now
        return len(await self._until_settled(held, self.paused_within_s))

    async def cancel_claims(self, deliveries: Sequence[DeliveryId]) -> frozenset[DeliveryId]:
        """Stop these before their final dot where possible; which went out, or may have, comes back."""
        wanted = frozenset(deliveries)
        held = await self._held(lambda one: one.delivery_id in wanted)
        self._stop(held, cancel=True)
        await self._until_settled(held, self.wait_s)
        return await self._store.read(lambda: in_flight.gone_out(held))

    async def let_go(self, connection_id: ConnectionId) -> frozenset[DeliveryId]:
        """A connection was deleted: give back what it holds. What is on its way still comes back."""
        self.connection_changed(connection_id)
        held = await self._held(lambda one: one.connection_id == connection_id)
        self._stop(held, cancel=False)
        left = await self._until_settled(held, self.wait_s)
        return frozenset(one.delivery_id for one in held if one.attempt_id in left)

    def connection_judged(self, connection_id: ConnectionId) -> None:
        """The engine here found that it failed, or is well again; it knows so itself."""
        self._teller.tell(News(connections={connection_id}))

    def key_file_rotates(self) -> None:
        """The key file was changed: every process reads it again."""
        self._teller.tell(News(key_file=True))

    def overtaken(self, attempts: Collection[AttemptId]) -> None:
        """Earlier tries of what these carry were sent after all; wherever they are, they are not needed."""
        self._here.overtaken(attempts)
        self._teller.tell(News(overtaken=set(attempts)))

    # --- what is under way anywhere --------------------------------------------------------------------

    async def _held(self, concerned: Callable[[Open], bool]) -> list[Open]:
        await self._store.write(in_flight.after_claims)
        return [one for one in await self._store.read(in_flight.look) if concerned(one)]

    def _stop(self, held: Sequence[Open], *, cancel: bool) -> None:
        attempts = {one.attempt_id for one in held}
        if attempts:
            self._here.stop_attempts(attempts, cancel=cancel)
            self._teller.tell(News(stopped=attempts) if cancel else News(returned=attempts))

    async def _until_settled(self, held: Sequence[Open], within_s: float) -> frozenset[AttemptId]:
        """Those that are not, after so long."""
        left = frozenset(one.attempt_id for one in held)
        deadline_s, pause_s = self._clock.steady_s() + within_s, _LOOK_FIRST_S
        while left and self._clock.steady_s() < deadline_s:
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 1.5, _LOOK_LATER_S)
            left = await self._store.read(lambda left=left: in_flight.left_of(left))  # type: ignore[misc]  # bound at once
        return left

    # --- what the others tell --------------------------------------------------------------------------

    def heard(self, text: str) -> None:
        """Another process, or this one, said so."""
        by, news = read(text)
        if by == self._name:
            return
        self.heard_texts += 1
        if news.key_file and self.key_file_changed is not None:
            self.key_file_changed()
        if not self._here.running:
            return
        for stop, attempts in ((True, news.stopped), (False, news.returned)):
            if attempts:
                self._here.stop_attempts(attempts, cancel=stop)
        if news.overtaken:
            self._here.overtaken(news.overtaken)
        if news.pauses:
            self._spawn(self._here.look_at_pauses())
        if news.everything:
            self._spawn(self._here.reread())
        for connection_id in news.connections:
            self._here.connection_changed(connection_id)
        for connection_id in news.rooms:
            self._here.room_changed(connection_id)
        for account_id in news.accounts:
            self._here.facts_changed(account_id)
        if news.lanes:
            self._here.wake(list(news.lanes.items()))

    def missed(self) -> None:
        """Nothing was heard for a while: look at everything."""
        if self.key_file_changed is not None:
            self.key_file_changed()
        if self._here.running:
            self._spawn(self._here.reread())

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        async def done() -> None:
            try:
                await work
            except PostroomError as error:  # the engine looks again by itself
                log.warning("what another process told could not be looked at", error=str(error))

        self._tasks.spawn(done())

    async def close(self) -> None:
        """Say what is to be said still; before the store closes."""
        await self._teller.close()
        await self._tasks.cancel()
