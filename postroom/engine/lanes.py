"""The lanes of this process: which have work, and whose turn it is.

Fairness is start-time fair queueing, by account first and then by server: whoever was served least goes
next, and who comes back from idleness starts at the present, with no credit saved up. Inside a server
transactional mail goes first; between accounts only the fair share counts, so that labelling everything
transactional gains nothing. A lane without work, or blocked, costs nothing until something changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from postroom.core.message import Purpose
from postroom.engine.claim import LOWEST
from postroom.engine.pauses import NO_PAUSES, Pauses
from postroom.ids import AccountId, ConnectionId, LaneId, ServerId
from postroom.storage.lanes import Lane

MANY = 1 << 20  # a backlog nobody counted
_FLOOR_S = 1.0


@dataclass
class Floor:
    """Up to where a deep lane was taken from, so that the next look need not begin before that.

    Rows that were taken stay in the table's way as long as somebody holds a snapshot. A look from the lowest
    comes every second all the same, since what came back, or what others left, may lie before the floor.
    """

    due_us: int = LOWEST
    until_s: float = 0.0

    def at(self, now_s: float) -> int:
        """Where a look at this moment may begin."""
        return self.due_us if now_s < self.until_s else LOWEST

    def reached(self, due_us: int, began_s: float, *, from_lowest: bool) -> None:
        """A look that began then had as many as it asked for, the last one due at due_us."""
        if from_lowest:
            self.due_us, self.until_s = due_us, began_s + _FLOOR_S
        elif began_s < self.until_s:
            self.due_us = max(self.due_us, due_us)

    def drop(self) -> None:
        """Something may lie before it, or there was less than was asked for."""
        self.due_us, self.until_s = LOWEST, 0.0


@dataclass
class LaneState:
    """One lane in memory."""

    lane: Lane
    next_due_us: int | None = None  # of its first delivery; None: nothing waits
    backlog: int = 0  # an estimate, for how many connections are worth waking
    changes: int = 0  # raised by each wake, so that an older look does not overwrite a newer one
    chosen: tuple[ConnectionId, ...] = ()  # by the decision in force
    decision_id: int = 0
    decided: object = None  # what the decision in force says, to see whether the next one differs
    reasons: frozenset[str] = frozenset()  # of the candidates, where none is chosen
    until_us: int | None = None  # when the first of those reasons ends by itself
    waiting_since_us: int | None = None  # it has work and nothing may send it
    waiting_told: bool = False
    paused: bool = False  # a person stopped its server or everything
    stale: bool = True  # its decision is to be made again
    floor: Floor = field(default_factory=Floor)

    def has_work(self, now_us: int) -> bool:
        return self.next_due_us is not None and self.next_due_us <= now_us and not self.paused

    def refused_by(self, connection_id: ConnectionId) -> None:
        """This one will not take it. At once: until the lane is decided anew it would be claimed for the
        same refusal again."""
        self.chosen = tuple(one for one in self.chosen if one != connection_id)
        self.stale = True

    @property
    def transactional(self) -> bool:
        return self.lane.purpose is Purpose.TRANSACTIONAL

    def clock_set_back(self, by_us: int) -> None:
        """The wall clock was moved by `by_us`, which is negative: waits stay as long as they were."""
        self.stale = True
        self.floor.drop()
        if self.next_due_us is not None:
            self.next_due_us += by_us
        if self.waiting_since_us is not None:
            self.waiting_since_us += by_us


@dataclass
class _Share:
    """Whose turn it is: the virtual time up to which one was served."""

    served: float = 0.0


@dataclass
class LaneBook:
    """All lanes this process knows."""

    lanes: dict[LaneId, LaneState] = field(default_factory=dict)
    pauses: Pauses = NO_PAUSES
    _accounts: dict[AccountId, _Share] = field(default_factory=dict)
    _servers: dict[ServerId, _Share] = field(default_factory=dict)
    _account_time: float = 0.0
    _server_times: dict[AccountId, float] = field(default_factory=dict)

    def add(self, lane: Lane) -> LaneState:
        """A lane, with no work yet."""
        state = self.lanes.get(lane.lane_id)
        if state is None:
            state = self.lanes[lane.lane_id] = LaneState(lane, paused=self.pauses.stop_lane(lane))
            self._accounts.setdefault(lane.account_id, _Share())
            self._servers.setdefault(lane.server_id, _Share())
        return state

    def wake(self, state: LaneState, due_us: int, count: int) -> None:
        """So many deliveries are ready there, the first at `due_us`."""
        state.changes += 1
        state.backlog = min(state.backlog + count, MANY)
        if state.next_due_us is None or due_us < state.next_due_us:
            state.next_due_us = due_us
        if due_us < state.floor.due_us:
            state.floor.drop()

    def looked(self, state: LaneState, changes: int, next_due_us: int | None) -> None:
        """A claim ran short here and saw what comes next; `changes` as it was before the claim."""
        if state.changes != changes:
            return
        state.next_due_us = next_due_us
        if next_due_us is None:
            state.backlog = 0

    def pick(
        self, wanted: int, now_us: int, allowed: Callable[[LaneState], int], bulk: int | None = None
    ) -> list[tuple[LaneState, int]]:
        """Whose turn it is, `wanted` times: lanes in order with how many of each.

        allowed: how many a lane may have at most here and now, 0 for none. bulk: how many all lanes of
        bulk together may have at most; None: no such bound.
        """
        left = {id(s): allowed(s) for s in self.lanes.values() if s.has_work(now_us)}
        open_ = [s for s in self.lanes.values() if left.get(id(s), 0) > 0]
        for state in open_:
            left[id(state)] = min(left[id(state)], max(state.backlog, 1))
        accounts = {s.lane.account_id: self._start_account(s.lane.account_id) for s in open_}
        servers = {s.lane.server_id: self._start_server(s.lane) for s in open_}
        taken: dict[LaneId, int] = {}
        order: list[LaneState] = []
        for _ in range(wanted):
            if not open_:
                break
            state = min(
                open_,
                key=lambda s: (
                    accounts[s.lane.account_id],
                    s.lane.account_id,
                    servers[s.lane.server_id],
                    s.lane.server_id,
                    not s.transactional,
                    s.next_due_us,
                    s.lane.lane_id,
                ),
            )
            if state.lane.lane_id not in taken:
                order.append(state)
            taken[state.lane.lane_id] = taken.get(state.lane.lane_id, 0) + 1
            accounts[state.lane.account_id] += 1
            servers[state.lane.server_id] += 1
            left[id(state)] -= 1
            if left[id(state)] <= 0:
                open_.remove(state)
            if bulk is not None and not state.transactional:
                bulk -= 1
                if bulk <= 0:
                    open_ = [s for s in open_ if s.transactional]
        return [(state, taken[state.lane.lane_id]) for state in order]

    def served(self, lane: Lane, count: int) -> None:
        """So many of this lane were claimed: charge its account and its server."""
        account = self._accounts[lane.account_id]
        self._account_time = self._start_account(lane.account_id)
        account.served = self._account_time + count
        server = self._servers[lane.server_id]
        self._server_times[lane.account_id] = self._start_server(lane)
        server.served = self._server_times[lane.account_id] + count

    def _start_account(self, account_id: AccountId) -> float:
        return max(self._accounts[account_id].served, self._account_time)

    def _start_server(self, lane: Lane) -> float:
        return max(self._servers[lane.server_id].served, self._server_times.get(lane.account_id, 0.0))

    def next_due_us(self, now_us: int) -> int | None:
        """When the next lane that has no work yet gets some."""
        return min(
            (s.next_due_us for s in self.lanes.values() if s.next_due_us and s.next_due_us > now_us),
            default=None,
        )

    def of_account(self, account_id: AccountId) -> Iterable[LaneState]:
        """An account's lanes; of everybody for account 0."""
        return [s for s in self.lanes.values() if account_id in (0, s.lane.account_id)]
