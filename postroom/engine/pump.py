"""Whose turn it is: lanes with work and an old decision are decided, connections with work are kicked.

Whatever may change that is told here, about one connection (`call`), about lanes (the book's news), or about
anything (`everything`); many calls are one look, soon. A look goes over what was told, not over all there is,
so that a thousand connections at work do not look at each other's mail.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence

from postroom.clock import Clock
from postroom.engine.lane_book import LaneBook
from postroom.engine.lanes import LaneState
from postroom.engine.router import Router
from postroom.engine.routing import connection_ids
from postroom.engine.runner import Runner
from postroom.engine.sessions import MOST_PER_SESSION
from postroom.engine.tasks import Tasks
from postroom.errors import PostroomError, Unavailable
from postroom.ids import ConnectionId, LaneId
from postroom.logs import Trouble, logger

log = logger("engine")
_DECIDES_AT_ONCE = 4  # each reads the database, which others want to read too
_LANES_AT_A_TIME, _CANDIDATES_AT_A_TIME = 50, 400  # decided in one go, while which nothing else of us goes on
_NAMED = 10  # lanes, in the log


class Pump:
    """Gives the runners of one engine their turns."""

    def __init__(
        self,
        clock: Clock,
        book: LaneBook,
        runners: Mapping[ConnectionId, Runner],
        router: Router,
        tasks: Tasks,
        most_sessions: int,
        runs: Callable[[], bool],
    ) -> None:
        """book, runners, tasks: the engine's own, which change. most_sessions: of one connection.

        runs: whether anything may be claimed at all.
        """
        self._clock, self._book, self._runners = clock, book, runners
        self._router, self._tasks, self._runs = router, tasks, runs
        self._most = most_sessions
        self._enough = most_sessions * MOST_PER_SESSION
        self._trouble = Trouble(log)
        self.deciding: set[LaneId] = set()
        self._undecided: deque[LaneState] = deque()
        self._deciders = 0
        self._failed: set[LaneId] = set()  # not decided since
        self._lanes_at_a_time = 1
        self._called: set[ConnectionId] = set()
        self._everything = self._pumping = False

    # --- what calls for a look ---------------------------------------------------------------------------

    def everything(self) -> None:
        """Look soon at every lane with work."""
        self._everything = True
        self.soon()

    def soon(self) -> None:
        """Look soon at the lanes there is news of."""
        if not self._pumping and self._runs():
            self._pumping = True
            asyncio.get_running_loop().call_soon(self._pump)

    def call(self, runner: Runner) -> None:
        """Look soon whether there is something for this one, which can take more than before."""
        self._called.add(runner.connection_id)
        self.soon()

    def _pump(self) -> None:
        self._pumping = False
        if not self._runs():
            return
        self._book.ripen(self._clock.now_us())
        news: Iterable[LaneState] = self._book.news()
        if self._everything:
            self._everything, news = False, self._book.active.values()
        wanted, self._called = self._called, set()
        for state in news:
            if state.stale and state.lane.lane_id not in self.deciding:
                self.deciding.add(state.lane.lane_id)
                self._undecided.append(state)
            self._want(state, wanted)
        for _ in range(min(_DECIDES_AT_ONCE - self._deciders, len(self._undecided))):
            self._deciders += 1
            self._tasks.spawn(self._decide_all())
        for connection_id in sorted(wanted):
            runner = self._runners.get(connection_id)
            if runner is not None:
                runner.kick()

    def _want(self, state: LaneState, wanted: set[ConnectionId]) -> None:
        """Those that may send this lane, up to the first that takes all of it."""
        for connection_id in state.chosen:
            wanted.add(connection_id)
            if state.backlog <= self._most and self._takes(connection_id, state):
                return

    async def _decide_all(self) -> None:
        """Decide lanes, many at a time, until none is left."""
        try:
            while self._undecided:
                count = min(self._lanes_at_a_time, len(self._undecided))
                await self._decide([self._undecided.popleft() for _ in range(count)])
                await asyncio.sleep(0)
        finally:
            self._deciders -= 1

    async def _decide(self, states: Sequence[LaneState]) -> None:
        lanes, one_by_one = [state.lane.lane_id for state in states[:_NAMED]], False
        try:
            decided = await self._router.decide(states)
        except PostroomError as error:
            self._trouble.met("lanes could not be decided", lanes=lanes, count=len(states), error=str(error))
            self._failed.update(state.lane.lane_id for state in states)
            one_by_one = len(states) > 1 and not isinstance(error, Unavailable)
            for state in states:  # until the next look: at once would be without end while the trouble lasts
                state.stale = True
            self._lanes_at_a_time = max(1, self._lanes_at_a_time // 2)
        except Exception:
            log.exception("lanes could not be decided", lanes=lanes, count=len(states))
            one_by_one = len(states) > 1  # whose fault it is shows when each is alone
        else:
            self._failed.difference_update(state.lane.lane_id for state in states)
            if not self._failed:
                self._trouble.over("lanes are decided again")
            for state, decision in zip(states, decided, strict=True):
                self._book.choose(state, connection_ids(decision))
            each = max(1, *(len(one.judged) for one in decided))
            self._lanes_at_a_time = max(1, min(_LANES_AT_A_TIME, _CANDIDATES_AT_A_TIME // each))
            self.soon()
        finally:
            if not one_by_one:
                self.deciding.difference_update(state.lane.lane_id for state in states)
        if one_by_one:
            for state in states:
                await self._decide([state])

    # --- what there is for a runner ------------------------------------------------------------------------

    def work_for(self, runner: Runner) -> tuple[int, bool]:
        """About how many deliveries wait for this runner, counted up to what it could take at once, and
        whether any is transactional."""
        if runner.blocked(transactional=True):
            return 0, False
        bulk = not runner.blocked(transactional=False)
        return self._book.waiting(
            runner.connection_id,
            self._clock.now_us(),
            lambda state: self.allowance(state, runner, 1),
            self._enough,
            bulk=bulk,
        )

    def allowance(self, state: LaneState, runner: Runner, wanted: int) -> int:
        """How many of this lane the runner may have now."""
        if runner.blocked(transactional=state.transactional):
            return 0
        if state.backlog > self._most:
            return wanted  # too much for one
        for better in state.chosen:
            if better == runner.connection_id:
                return wanted
            if self._takes(better, state):
                return 0  # one that ranks before it takes what it can
        return 0

    def _takes(self, connection_id: ConnectionId, state: LaneState) -> bool:
        """Whether mail of this lane would leave soon if this connection had it."""
        runner = self._runners.get(connection_id)
        if runner is None or runner.blocked(transactional=state.transactional):
            return False
        return runner.takes_now(transactional=state.transactional)

    def left_over(self, states: Iterable[LaneState]) -> None:
        """A claim took what it could of these: the next in rank may have what is left.

        Only where little is left. Of much they had their turn before, and ask again by themselves.
        """
        for state in states:
            if len(state.chosen) > 1 and 0 < state.backlog <= self._most:
                self._book.look_again(state)
                self.soon()
