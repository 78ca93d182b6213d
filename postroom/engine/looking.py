"""Looking at what no call told: due times, waits that are over, and now and then everything anew.

The dispatcher is told of most changes by who makes them. A missed call costs time only, because about every
second it is looked here, and every half minute the lanes, connections and pauses are read again; with
hundreds of lanes at work, their decisions are made again by turns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from postroom.clock import Clock
from postroom.engine import unknowns, waiting
from postroom.engine.clock_steps import ClockSteps
from postroom.engine.evidence import Evidence
from postroom.engine.lane_book import LaneBook
from postroom.engine.lanes import MANY, LaneState
from postroom.engine.pauses import Pausing
from postroom.engine.runner import Runner
from postroom.engine.settings import EngineSettings
from postroom.engine.tasks import Tasks
from postroom.engine.terms import Terms
from postroom.errors import PostroomError
from postroom.ids import AccountId, ConnectionId, LaneId
from postroom.logs import Trouble, logger
from postroom.storage import lanes as lane_rows
from postroom.storage import queue, routes
from postroom.storage.interface import Store
from postroom.storage.routes import Route

log = logger("engine")
_REREAD_EVERY_S = 30.0
_DOUBTS = 100  # lanes that are decided anew after a reread, though nobody told of a change
_UNKNOWNS_EVERY_S = 15.0  # of those that other processes settled; half of how long they wait, if that is less


class Looker(Protocol):
    """What looking needs of the dispatcher."""

    clock: Clock
    settings: EngineSettings
    store: Store

    def pump(self) -> None:
        """Look soon, at everything, whose turn it is."""

    def soon(self) -> None:
        """Look soon at the lanes there is news of."""

    def facts_changed(self, account_id: AccountId) -> None:
        """Something that this account's routing depends on changed."""


class Looking:
    """The looks of one engine."""

    def __init__(
        self,
        engine: Looker,
        terms: Terms,
        book: LaneBook,
        runners: dict[ConnectionId, Runner],
        make_runner: Callable[[Route], Runner],
        pausing: Pausing,
        clock_steps: ClockSteps,
        evidence: Evidence,
        tasks: Tasks,
    ) -> None:
        """book, runners, tasks: the engine's own, which change."""
        self._engine, self._store, self._clock = engine, engine.store, engine.clock
        self._terms = terms
        self._book, self._runners, self._make_runner = book, runners, make_runner
        self._pausing, self._clock_steps, self._evidence = pausing, clock_steps, evidence
        self._tasks = tasks
        self._trouble = Trouble(log)
        self._reads = 0  # of connections: begun so far
        self._seen: dict[ConnectionId, int] = {}  # which of them told what is known of each
        self._doubtful: dict[LaneId, LaneState] = {}  # those to be decided anew by and by
        self._waiting: dict[LaneId, LaneState] = {}  # those nothing may send, as of the last look
        self._next_unknown_us: int | None = None
        self._unknowns_s = float("-inf")  # when that was read
        self.reread_s = float("-inf")  # when everything was read, by the steady clock

    async def tick(self) -> None:
        """Look for ever."""
        while True:
            await asyncio.sleep(self._engine.settings.look_every_s)
            try:
                await self.look()
                self._trouble.over("the engine looks again")
            except PostroomError as error:
                self._trouble.met("a look failed", error=str(error))
            except Exception:
                log.exception("a look failed unexpectedly")

    async def look(self) -> None:
        """Look once. Raises PostroomError."""
        await self._terms.look(self._clock.steady_s())
        moved_us = await self._clock_steps.look()
        if moved_us:
            await self._clock_set_back(moved_us)
        now_us = self._clock.now_us()
        for runner in list(self._runners.values()):  # others may come while something here is awaited
            runner.care()
        await self._look_at_lanes(now_us)
        leads = self._terms.membership.leads
        if leads and self._engine.settings.leases is not None and self._unknowns_may_be_missed:
            await self.look_at_unknowns()
        if self._next_unknown_us is not None and leads:
            self._evidence.look(self._tasks)
        if self._next_unknown_us is not None and self._next_unknown_us <= now_us and leads:
            policy = self._engine.settings.policy
            woken = await self._store.write(lambda: unknowns.end_due(policy))
            for lane_id, dues in woken.items():
                await self.learn_lane(lane_id, min(dues), len(dues))
            await self.look_at_unknowns()
        if self._clock.steady_s() - self.reread_s >= _REREAD_EVERY_S:
            await self.reread()
        self._engine.pump()

    @property
    def _unknowns_may_be_missed(self) -> bool:
        """One that leads ends those of all, and hears of its own only."""
        every_s = min(_UNKNOWNS_EVERY_S, self._engine.settings.policy.unknown_wait_s / 2)
        return self._clock.steady_s() - self._unknowns_s >= every_s

    async def _look_at_lanes(self, now_us: int) -> None:
        looked_at = self._waiting | dict(self._book.active)
        self._waiting.clear()
        for lane_id, state in looked_at.items():
            if state.until_us is not None and state.until_us <= now_us:
                state.until_us = None
                self._book.doubt(state)
            told = waiting.notice(state, now_us)
            if state.waiting_since_us is not None:
                self._waiting[lane_id] = state
            if told and self._terms.membership.leads:
                log.warning("mail waits", lane=state.lane.lane_id, reasons=sorted(state.reasons))
                lane, reasons = state.lane, sorted(state.reasons) or ["no_connection"]
                await self._store.write(lambda lane=lane, reasons=reasons: waiting.tell(lane, reasons))  # type: ignore[misc]  # bound at once

    async def _clock_set_back(self, by_us: int) -> None:
        """What waits in memory by the wall clock waits as long as before; `clock_steps` moved the rows."""
        for runner in self._runners.values():
            runner.clock_set_back(by_us)
        self._book.clock_set_back(by_us)
        await self.reread()

    async def look_at_unknowns(self) -> None:
        """When the next unknown outcome ends. Raises PostroomError."""
        self._unknowns_s = self._clock.steady_s()
        self._next_unknown_us = await self._store.read(unknowns.next_due)

    async def learn_lane(self, lane_id: LaneId, due_us: int, count: int) -> None:
        """A lane that may be new has work. Raises PostroomError."""
        lane = await self._store.read(lambda: lane_rows.get(lane_id))
        if lane is not None:
            self._book.wake(self._book.add(lane), due_us, count)
            self._engine.soon()

    async def refresh(self, connection_id: ConnectionId) -> None:
        """Read one connection anew. Raises PostroomError."""
        read = self._read_begins()
        route = await self._store.read(lambda: routes.route(connection_id))
        if route is None:
            return
        self._see(route, read)
        self._engine.facts_changed(route.account_id)

    def _read_begins(self) -> int:
        self._reads += 1
        return self._reads

    def _see(self, route: Route, read: int) -> None:
        """read: when it was begun. Reads end in any order, and one that began earlier may have seen less."""
        if read < self._seen.get(route.connection_id, 0):
            return
        self._seen[route.connection_id] = read
        runner = self._runners.get(route.connection_id)
        if runner is None:
            runner = self._make_runner(route)
            runner.pause(paused=self._pausing.now.stop_connection(route))
            self._runners[route.connection_id] = runner
        elif runner.route != route:
            runner.changed(route)

    async def reread(self) -> None:
        """Everything a missed call could have told. Raises PostroomError."""
        self.reread_s = self._clock.steady_s()
        await self._pausing.look()
        read = self._read_begins()
        for route in await self._store.read(routes.all_routes):
            self._see(route, read)
        while self._terms.membership.leads and (orphan := await self._store.read(queue.orphaned)):
            account_id, server_id = orphan
            if not await self._store.write(lambda a=account_id, s=server_id: queue.cancel_waiting(a, s)):  # type: ignore[misc]  # bound at once
                break
        now_us = self._clock.now_us()
        for lane, due in await self._store.read(lane_rows.with_mail):
            state = self._book.add(lane)
            known = state.next_due_us
            if known is None or (due < known and known > now_us):
                self._book.wake(state, due, MANY if due <= now_us else 1)
            self._doubtful.setdefault(state.lane.lane_id, state)
        for lane_id in list(self._doubtful)[:_DOUBTS]:
            self._book.doubt(self._doubtful.pop(lane_id))
        await self.look_at_unknowns()
