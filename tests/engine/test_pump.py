"""Who is kicked when something changed, and who is left alone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from postroom.core.message import Purpose
from postroom.engine.lane_book import LaneBook
from postroom.engine.lanes import LaneState
from postroom.engine.pump import Pump
from postroom.engine.router import Router
from postroom.engine.routing import Decision, Judged, Reason
from postroom.engine.runner import Runner
from postroom.engine.tasks import Tasks
from postroom.errors import NotFound, Unavailable
from postroom.ids import AccountId, ConnectionId, LaneId, ServerId
from postroom.storage.lanes import Lane
from tests.support.clock import FakeClock

MOST = 10
FIRST, SECOND, THIRD = (ConnectionId(number) for number in (1, 2, 3))


@dataclass
class Way:
    """A runner as the pump sees it."""

    connection_id: ConnectionId
    takes: bool = True
    full: bool = False
    full_for_bulk: bool = False
    kicks: int = 0

    def kick(self) -> None:
        self.kicks += 1

    def takes_now(self, *, transactional: bool) -> bool:
        return self.takes

    def blocked(self, *, transactional: bool) -> bool:
        return self.full or (self.full_for_bulk and not transactional)


@dataclass
class Decisions:
    """A router that was told what to say.

    hangs: the lane that it never says anything of. fails: the database cannot be read so many times. broken:
    the lane whose facts make it fall over, by `fault`. made: the lanes that were decided; sizes: how many in
    one go.
    """

    chosen: tuple[ConnectionId, ...] = (FIRST, SECOND, THIRD)
    made: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    at_once = most_at_once = fails = broken = hangs = 0
    fault: type[Exception] = RuntimeError

    async def decide(self, states: Sequence[LaneState]) -> list[Decision]:
        for state in states:
            state.stale = False
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        if self.fails:
            self.fails -= 1
            raise Unavailable("the database cannot be read")
        lanes = [state.lane.lane_id for state in states]
        if self.broken in lanes:
            raise self.fault("facts that make no sense")
        if self.hangs in lanes:
            await asyncio.Event().wait()
        self.made += lanes
        self.sizes.append(len(lanes))
        judged = tuple(Judged(one, Reason.ALSO_ELIGIBLE) for one in self.chosen)
        return [Decision(self.chosen, judged) for _ in lanes]


class Engine:
    """A pump with three connections that may send everything."""

    def __init__(self) -> None:
        self.clock, self.book, self.decisions = FakeClock(), LaneBook(), Decisions()
        self.ways = {one: Way(one) for one in (FIRST, SECOND, THIRD)}
        self.tasks, self.runs = Tasks("test"), True
        self.pump = Pump(
            self.clock,
            self.book,
            cast(dict[ConnectionId, Runner], self.ways),
            cast(Router, self.decisions),
            self.tasks,
            MOST,
            lambda: self.runs,
        )

    def lane(self, number: int = 1, waiting: int = 5, purpose: Purpose = Purpose.BROADCAST) -> LaneState:
        lane = Lane(LaneId(number), AccountId(1), ServerId(number), purpose, "s", "a@example.com", None)
        state = self.book.add(lane)
        self.book.wake(state, self.clock.now_us(), waiting)
        self.pump.soon()
        return state

    async def turns(self) -> list[int]:
        """Let it come to what was called for; how often each was kicked since."""
        for way in self.ways.values():
            way.kicks = 0
        for _ in range(20):
            await asyncio.sleep(0)
        return [way.kicks for way in self.ways.values()]

    def runner(self, connection_id: ConnectionId) -> Runner:
        return cast(Runner, self.ways[connection_id])


@pytest.fixture
def engine() -> Engine:
    return Engine()


async def test_the_first_in_rank_is_kicked_for_as_much_as_one_can_take(engine: Engine) -> None:
    engine.lane(waiting=MOST)
    assert await engine.turns() == [1, 0, 0]
    assert await engine.turns() == [0, 0, 0]


async def test_all_are_kicked_for_more_than_that(engine: Engine) -> None:
    engine.lane(waiting=MOST + 1)
    assert await engine.turns() == [1, 1, 1]


async def test_the_next_in_rank_is_kicked_where_the_first_can_take_nothing(engine: Engine) -> None:
    engine.ways[FIRST].takes = False
    engine.ways[SECOND].full_for_bulk = True
    engine.lane()
    assert await engine.turns() == [1, 1, 1]
    engine.lane(2, purpose=Purpose.TRANSACTIONAL)
    assert await engine.turns() == [1, 1, 0]


async def test_what_a_claim_left_is_offered_to_the_next(engine: Engine) -> None:
    state = engine.lane()
    await engine.turns()
    engine.book.claimed(state, 2, full=False)
    engine.ways[FIRST].takes = False  # it has all it can hold
    engine.pump.left_over([state])
    assert await engine.turns() == [1, 1, 0]
    engine.book.claimed(state, 3, full=False)
    engine.pump.left_over([state])
    assert await engine.turns() == [0, 0, 0]


async def test_one_that_can_take_more_is_kicked_alone(engine: Engine) -> None:
    engine.lane(waiting=1000)
    await engine.turns()
    engine.pump.call(engine.runner(SECOND))
    engine.pump.call(engine.runner(SECOND))
    assert await engine.turns() == [0, 1, 0]


async def test_nobody_is_kicked_while_nothing_may_go_out(engine: Engine) -> None:
    engine.runs = False
    engine.lane()
    engine.pump.everything()
    assert await engine.turns() == [0, 0, 0]
    engine.runs = True
    engine.pump.everything()
    assert await engine.turns() == [1, 0, 0]


async def test_a_lane_is_decided_once_for_many_changes_and_again_for_one_meanwhile(engine: Engine) -> None:
    state = engine.lane()
    for _ in range(5):
        engine.book.doubt(state)
    await engine.turns()
    assert engine.decisions.made == [1]
    engine.book.doubt(state)
    engine.pump.soon()
    while not engine.decisions.at_once:
        await asyncio.sleep(0)
    engine.book.doubt(state)
    await engine.turns()
    assert engine.decisions.made == [1, 1, 1]


async def test_a_decision_that_failed_waits_for_the_next_look_at_everything(engine: Engine) -> None:
    engine.decisions.fails = 1
    state = engine.lane()
    assert await engine.turns() == [0, 0, 0]
    assert state.stale
    engine.pump.everything()
    assert await engine.turns() == [1, 0, 0]


async def test_decisions_leave_the_database_to_others_too(engine: Engine) -> None:
    for number in range(1, 41):
        engine.lane(number)
    for _ in range(20):
        await engine.turns()
    assert sorted(engine.decisions.made) == list(range(1, 41))
    assert engine.decisions.most_at_once <= 4


@pytest.mark.parametrize(("candidates", "most"), [(1, 50), (3, 50), (40, 10), (1000, 1)])
async def test_as_many_lanes_are_decided_in_one_go_as_have_not_too_many_candidates(
    engine: Engine, candidates: int, most: int
) -> None:
    engine.decisions.chosen = tuple(ConnectionId(number) for number in range(1, candidates + 1))
    for number in range(1, 401):
        engine.lane(number)
    while len(engine.decisions.made) < 400:
        await engine.turns()
    assert sorted(engine.decisions.made) == list(range(1, 401))  # each once
    assert max(engine.decisions.sizes) == most


async def test_while_one_decision_takes_for_ever_others_are_made(engine: Engine) -> None:
    engine.decisions.hangs = 1
    engine.lane(1)
    await engine.turns()
    for number in (2, 3, 4):
        engine.lane(number)
        await engine.turns()
        assert engine.decisions.made[-1] == number
    await engine.tasks.cancel()


@pytest.mark.parametrize("fault", [RuntimeError, NotFound])
async def test_a_lane_that_cannot_be_decided_at_all_stops_no_other(
    engine: Engine, fault: type[Exception]
) -> None:
    engine.decisions.fault = fault
    engine.lane(1000)
    await engine.turns()
    engine.decisions.broken = 7
    for number in range(1, 21):
        engine.lane(number)
    for _ in range(10):
        await engine.turns()
    assert sorted(engine.decisions.made) == [*range(1, 7), *range(8, 21), 1000]
    assert not engine.pump.deciding
    engine.decisions.broken = 0
    engine.book.doubt(engine.book.lanes[LaneId(7)])
    engine.pump.soon()
    await engine.turns()
    assert engine.decisions.made[-1] == 7


async def test_work_is_counted_for_whoever_may_have_it(engine: Engine) -> None:
    small, deep = engine.lane(1, waiting=4), engine.lane(2, waiting=30)
    urgent = engine.lane(3, waiting=2, purpose=Purpose.TRANSACTIONAL)
    await engine.turns()
    assert engine.pump.work_for(engine.runner(FIRST)) == (36, True)
    assert engine.pump.work_for(engine.runner(SECOND)) == (30, False)  # the rest is the first one's
    engine.ways[FIRST].takes = False
    assert engine.pump.work_for(engine.runner(SECOND)) == (36, True)
    engine.ways[SECOND].full_for_bulk = True
    assert engine.pump.work_for(engine.runner(SECOND)) == (2, True)
    engine.ways[SECOND].full = True
    assert engine.pump.work_for(engine.runner(SECOND)) == (0, False)
    allowed: list[Any] = [engine.pump.allowance(s, engine.runner(THIRD), 7) for s in (small, deep, urgent)]
    assert allowed == [7, 7, 7]
    engine.ways[FIRST].takes = True
    allowed = [engine.pump.allowance(s, engine.runner(THIRD), 7) for s in (small, deep, urgent)]
    assert allowed == [0, 7, 0]
