"""The lanes of this process: which have work, for which connections, and which are to be looked at.

Whatever happens to a lane is told here, so that nobody has to go over all of them: those with something due
are `active`, each connection has a line of the active ones it may send from, and `news` are those where
something changed since the dispatcher looked. A lane without work, or blocked, costs nothing until
something changes.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterable, Mapping

from postroom.engine.lanes import MANY, LaneState
from postroom.engine.pauses import NO_PAUSES, Pauses
from postroom.engine.turns import Line, Shares
from postroom.ids import AccountId, ConnectionId, LaneId
from postroom.storage.lanes import Lane


class LaneBook:
    """All lanes this process knows."""

    def __init__(self) -> None:
        self.lanes: dict[LaneId, LaneState] = {}
        self.pauses: Pauses = NO_PAUSES
        self._of_account: dict[AccountId, list[LaneState]] = {}
        self._active: dict[LaneId, LaneState] = {}
        self._lines: dict[ConnectionId, Line] = {}
        self._shares = Shares()
        self._later: list[tuple[int, LaneId]] = []  # when a lane that is not active has something due
        self._news: dict[LaneId, LaneState] = {}

    @property
    def active(self) -> Mapping[LaneId, LaneState]:
        """Those with something due, as of the last `ripen`."""
        return self._active

    def of_account(self, account_id: AccountId) -> Iterable[LaneState]:
        """An account's lanes; of everybody for account 0."""
        return list(self.lanes.values()) if account_id == 0 else self._of_account.get(account_id, ())

    # --- what happens to a lane --------------------------------------------------------------------------

    def add(self, lane: Lane) -> LaneState:
        """A lane, with no work yet."""
        state = self.lanes.get(lane.lane_id)
        if state is None:
            state = self.lanes[lane.lane_id] = LaneState(lane, paused=self.pauses.stop_lane(lane))
            self._of_account.setdefault(lane.account_id, []).append(state)
        return state

    def wake(self, state: LaneState, due_us: int, count: int) -> None:
        """So many deliveries are ready there, the first at `due_us`."""
        state.changes += 1
        state.backlog = min(state.backlog + count, MANY)
        if due_us < state.floor.due_us:
            state.floor.drop()
        if state.next_due_us is None or due_us < state.next_due_us:
            state.next_due_us = due_us
            if not state.active:
                self._wait(state)
        self.look_again(state)

    def looked(self, state: LaneState, changes: int, next_due_us: int | None) -> None:
        """A claim ran short here and saw what comes next; `changes` as it was before the claim."""
        if state.changes != changes:
            return
        self._rest(state)
        state.next_due_us, state.guess = next_due_us, 1
        if next_due_us is None:
            state.backlog = 0
        self._wait(state)

    def doubt(self, state: LaneState) -> None:
        """Its decision is to be made again, now or when it has work."""
        state.stale = True
        self.look_again(state)

    def look_again(self, state: LaneState) -> None:
        """Others may have their turn there."""
        if state.active:
            self._news[state.lane.lane_id] = state

    def choose(self, state: LaneState, chosen: tuple[ConnectionId, ...]) -> None:
        """A decision says who may send it."""
        if state.active and chosen != state.chosen:
            self._leave(state)
            state.chosen = chosen
            self._enter(state)
        state.chosen = chosen
        self.look_again(state)

    def refused(self, state: LaneState, connection_id: ConnectionId) -> None:
        """This one will not take it. At once: until the lane is decided anew it would be claimed for the
        same refusal again."""
        self.choose(state, tuple(one for one in state.chosen if one != connection_id))
        self.doubt(state)

    def pause(self, state: LaneState, *, paused: bool) -> None:
        """A person stopped it, or lets it go on."""
        if paused != state.paused:
            state.paused = paused
            self.doubt(state)
            self._rest(state)
            self._wait(state)

    def clock_set_back(self, by_us: int) -> None:
        """The wall clock was moved by `by_us`, which is negative: waits stay as long as they were."""
        self._later.clear()
        for state in self.lanes.values():
            state.clock_set_back(by_us)
            self.doubt(state)
            if not state.active:
                self._wait(state)

    # --- whose turn it is ----------------------------------------------------------------------------------

    def ripen(self, now_us: int) -> None:
        """What has become due has work from now on."""
        while self._later and self._later[0][0] <= now_us:
            state = self.lanes[heapq.heappop(self._later)[1]]
            if not state.active and state.has_work(now_us):
                state.active = True
                self._active[state.lane.lane_id] = self._news[state.lane.lane_id] = state
                if state.until_us is not None and state.until_us <= now_us:
                    state.until_us, state.stale = None, True
                self._enter(state)

    def news(self) -> Collection[LaneState]:
        """Active lanes where something changed since this was last asked."""
        found, self._news = self._news, {}
        return [state for state in found.values() if state.active]

    def waiting(
        self,
        connection_id: ConnectionId,
        now_us: int,
        allowed: Callable[[LaneState], int],
        enough: int,
        *,
        bulk: bool,
    ) -> tuple[int, bool]:
        """What waits for a connection: see `turns.Line.waiting`."""
        line = self._lines.get(connection_id)
        return (0, False) if line is None else line.waiting(now_us, allowed, enough, bulk=bulk)

    def pick(
        self,
        connection_id: ConnectionId,
        wanted: int,
        now_us: int,
        allowed: Callable[[LaneState], int],
        bulk: int | None = None,
    ) -> list[tuple[LaneState, int]]:
        """Whose turn it is on a connection: see `turns.Line.pick`."""
        self.ripen(now_us)
        line = self._lines.get(connection_id)
        return [] if line is None else line.pick(wanted, now_us, allowed, bulk)

    def claimed(self, state: LaneState, count: int, *, full: bool) -> None:
        """So many of this lane were claimed: charge its server. full: no fewer than were asked for.

        Where there was more though the estimate was used up, twice as much is guessed each time until a claim
        runs short: one by one, what nobody counted would take a claim each.
        """
        self._shares.charge(state.lane.account_id, state.lane.server_id, count)
        if full and state.backlog == 0:
            state.guess = min(2 * state.guess, MANY)
            state.backlog = state.guess
        else:
            state.backlog = max(0, state.backlog - count)

    def _wait(self, state: LaneState) -> None:
        if state.next_due_us is not None and not state.paused:
            heapq.heappush(self._later, (state.next_due_us, state.lane.lane_id))

    def _rest(self, state: LaneState) -> None:
        """Nothing more of it is to be claimed now."""
        if state.active:
            self._leave(state)
            state.active = False
            del self._active[state.lane.lane_id]

    def _enter(self, state: LaneState) -> None:
        for connection_id in state.chosen:
            line = self._lines.get(connection_id)
            if line is None:
                line = self._lines[connection_id] = Line(state.lane.account_id, self._shares)
            line.add(state)

    def _leave(self, state: LaneState) -> None:
        for connection_id in state.chosen:
            line = self._lines.get(connection_id)
            if line is not None:
                line.discard(state)
