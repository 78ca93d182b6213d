"""Whose turn it is among the lanes that one connection may send from.

Start-time fair queueing by server: whichever was served least goes next, and one that comes back from
idleness or from a block starts at the present, with no credit saved up. Inside a server transactional mail
goes first. A connection belongs to one account, so accounts never wait for each other in a line, and
labelling everything transactional gains nothing against anybody else. What a claim costs here grows with
what it takes, not with how many servers wait.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field

from postroom.engine.lanes import LaneState
from postroom.ids import AccountId, LaneId, ServerId


class Shares:
    """How far each server was served, in deliveries: the virtual time of fair queueing."""

    def __init__(self) -> None:
        self._served: dict[ServerId, float] = {}
        self._present: dict[AccountId, float] = {}

    def start(self, account_id: AccountId, server_id: ServerId) -> float:
        """Where a server begins that is served now. It never goes down."""
        return max(self._served.get(server_id, 0.0), self._present.get(account_id, 0.0))

    def charge(self, account_id: AccountId, server_id: ServerId, count: int) -> None:
        """So many of a server were claimed."""
        self._present[account_id] = start = self.start(account_id, server_id)
        self._served[server_id] = start + count


@dataclass
class _Round:
    """One pick: what was taken so far, and what each server still offers."""

    wanted: int
    bulk: int
    now_us: int
    allowed: Callable[[LaneState], int]
    taken: dict[LaneId, int] = field(default_factory=dict)
    order: list[LaneState] = field(default_factory=list)
    by_server: dict[ServerId, int] = field(default_factory=dict)
    _offers: dict[ServerId, list[LaneState]] = field(default_factory=dict)
    _left: dict[LaneId, int] = field(default_factory=dict)

    def take(self, server_id: ServerId, lanes: dict[LaneId, LaneState]) -> bool:
        """The next delivery of this server; False when it has none for this pick."""
        offers = self._offers.get(server_id)
        if offers is None:
            offers = [one for one in lanes.values() if one.has_work(self.now_us)]
            offers.sort(key=_last_first)
            self._offers[server_id] = offers
        while offers:
            state = offers[-1]
            if not state.transactional and self.bulk <= 0:
                return False
            lane_id = state.lane.lane_id
            left = self._left.get(lane_id)
            if left is None:
                left = min(self.allowed(state), max(state.backlog, 1))
            self._left[lane_id] = left - 1
            if left > 0:
                self._note(state)
                return True
            offers.pop()
        return False

    def _note(self, state: LaneState) -> None:
        lane_id, server_id = state.lane.lane_id, state.lane.server_id
        if lane_id not in self.taken:
            self.order.append(state)
        self.taken[lane_id] = self.taken.get(lane_id, 0) + 1
        self.by_server[server_id] = self.by_server.get(server_id, 0) + 1
        self.wanted -= 1
        self.bulk -= not state.transactional


def _last_first(state: LaneState) -> tuple[bool, int, int]:
    return state.transactional, -(state.next_due_us or 0), -state.lane.lane_id


class Line:
    """The lanes with work that one connection may send from."""

    def __init__(self, account_id: AccountId, shares: Shares) -> None:
        self._account_id, self._shares = account_id, shares
        self._lanes: dict[ServerId, dict[LaneId, LaneState]] = {}
        self._urgent: dict[LaneId, LaneState] = {}
        # Each server's start as it was when it was last looked at. Starts only go up, so the lowest entry
        # that is still true is the lowest of all.
        self._turns: list[tuple[float, ServerId]] = []
        self._queued: set[ServerId] = set()

    def add(self, state: LaneState) -> None:
        """It has work now."""
        lane = state.lane
        self._lanes.setdefault(lane.server_id, {})[lane.lane_id] = state
        if state.transactional:
            self._urgent[lane.lane_id] = state
        if lane.server_id not in self._queued:
            self._queued.add(lane.server_id)
            heapq.heappush(self._turns, (self._start(lane.server_id), lane.server_id))

    def discard(self, state: LaneState) -> None:
        """It has none any more, or another connection sends it."""
        lanes = self._lanes.get(state.lane.server_id)
        if lanes is not None and lanes.pop(state.lane.lane_id, None) is not None:
            self._urgent.pop(state.lane.lane_id, None)
            if not lanes:
                del self._lanes[state.lane.server_id]

    def waiting(
        self, now_us: int, allowed: Callable[[LaneState], int], enough: int, *, bulk: bool
    ) -> tuple[int, bool]:
        """About how many deliveries wait, counted up to `enough`, and whether any is transactional.

        bulk: False to count transactional mail alone.
        """
        count, transactional = 0, False
        for state in self._urgent.values():
            if state.has_work(now_us) and allowed(state):
                count, transactional = count + max(state.backlog, 1), True
                if count >= enough:
                    return count, True
        if bulk:
            for lanes in self._lanes.values():
                for state in lanes.values():
                    if not state.transactional and state.has_work(now_us) and allowed(state):
                        count += max(state.backlog, 1)
                        if count >= enough:
                            return count, transactional
        return count, transactional

    def pick(
        self, wanted: int, now_us: int, allowed: Callable[[LaneState], int], bulk: int | None = None
    ) -> list[tuple[LaneState, int]]:
        """Whose turn it is, `wanted` times: lanes in order with how many of each.

        allowed: how many a lane may have at most here and now, 0 for none. bulk: how many all lanes of
        bulk together may have at most; None: no such bound.
        """
        choice = _Round(wanted, wanted if bulk is None else bulk, now_us, allowed)
        if choice.bulk > 0:
            self._fill(choice, self._turns)
        if choice.bulk <= 0 < choice.wanted and self._urgent:
            turns = [
                (self._start(server_id) + choice.by_server.get(server_id, 0), server_id)
                for server_id in {one.lane.server_id for one in self._urgent.values()}
            ]
            heapq.heapify(turns)
            self._fill(choice, turns, urgent=True)
        return [(state, choice.taken[state.lane.lane_id]) for state in choice.order]

    def _fill(self, choice: _Round, turns: list[tuple[float, ServerId]], *, urgent: bool = False) -> None:
        """Take by turns until there is enough. urgent: transactional mail alone, with turns of its own."""
        again: list[tuple[float, ServerId]] = []  # those that had something, at their next turn
        had = []
        while choice.wanted > 0 and (urgent or choice.bulk > 0):
            if again and (not turns or again[0] <= turns[0]):
                start, server_id = heapq.heappop(again)
            elif turns:
                start, server_id = heapq.heappop(turns)
                if server_id not in self._lanes:
                    self._queued.discard(server_id)
                    continue
                present = self._start(server_id)
                if present > start:
                    heapq.heappush(turns, (present, server_id))
                    continue
            else:
                break
            if choice.take(server_id, self._lanes[server_id]):
                heapq.heappush(again, (start + 1, server_id))
            else:
                had.append(server_id)
        if not urgent:
            for server_id in (*had, *(server_id for _, server_id in again)):
                heapq.heappush(turns, (self._start(server_id), server_id))

    def _start(self, server_id: ServerId) -> float:
        return self._shares.start(self._account_id, server_id)
