"""A deep lane is taken from where the last look ended, and nothing before that is forgotten."""

from __future__ import annotations

from pathlib import Path

from postroom.clock import MICROS
from postroom.core.message import Purpose
from postroom.engine.claim import LOWEST, Claims, Pick, Worker, claim
from postroom.engine.lane_book import LaneBook
from postroom.engine.lanes import Floor
from postroom.engine.recover import raise_epoch
from postroom.ids import AccountId, DecisionId, LaneId, ServerId, WorkerId
from postroom.storage.interface import Sql, Work
from postroom.storage.lanes import Lane
from tests.support import seed_rows, stores
from tests.support.clock import FakeClock
from tests.support.stores import OpenStore, on_both

pytestmark = on_both

DEEP, TAKEN = 40, 5


def test_a_floor_holds_for_a_second_from_the_last_whole_look() -> None:
    floor = Floor()
    assert floor.at(0) == LOWEST
    floor.reached(100, 5.0, from_lowest=True)
    assert (floor.at(5.9), floor.at(6.0)) == (100, LOWEST)
    floor.reached(200, 5.5, from_lowest=False)
    floor.reached(150, 5.6, from_lowest=False)  # of a look beside it
    assert (floor.at(5.9), floor.at(6.0)) == (200, LOWEST)
    floor.reached(300, 6.0, from_lowest=False)  # begun when it was over: it says nothing
    assert floor.at(6.0) == LOWEST
    floor.reached(50, 7.0, from_lowest=True)  # what came back lay further down
    assert floor.at(7.5) == 50
    floor.drop()
    assert floor.at(7.5) == LOWEST


def test_what_becomes_ready_before_the_floor_is_seen_at_once() -> None:
    book = LaneBook()
    state = book.add(Lane(LaneId(1), AccountId(1), ServerId(1), Purpose.BROADCAST, "s", "a@b", None))
    for due_us, expected in ((100, 100), (99, LOWEST)):
        state.floor.reached(100, 0.0, from_lowest=True)
        book.wake(state, due_us, 1)
        assert state.floor.at(0.5) == expected
    state.floor.reached(100, 0.0, from_lowest=True)
    state.clock_set_back(-1)
    assert state.floor.at(0.5) == LOWEST


class Deep:
    """A lane with many due, one a microsecond, of which a worker claims."""

    def __init__(self, store: OpenStore, lane: LaneId) -> None:
        self.store, self.lane = store, lane

    async def claim(self, wanted: int, floor_us: int = LOWEST) -> Claims:
        """So many at most."""
        given = (seed_rows.SERVER, Purpose.BROADCAST, seed_rows.SENDER, DecisionId(1), wanted, floor_us)
        pick = Pick(self.lane, *given)

        def work() -> Work[Claims]:
            rows = yield Sql("SELECT connection_id FROM connections")
            worker = Worker(WorkerId(1), 1)
            return (yield from claim(worker, seed_rows.ACCOUNT, rows[0][0], 1, [pick], wanted))

        return await self.store.write(work)


async def deep(folder: Path, clock: FakeClock) -> Deep:
    people = [f"r{number}@example.net" for number in range(DEEP)]
    made: list[LaneId] = []

    def fill() -> Work[None]:
        yield from seed_rows.tenants()
        yield from seed_rows.connection(None)
        yield from raise_epoch(WorkerId(1))
        _, lane = yield from seed_rows.message(Purpose.BROADCAST, people, "m")
        made.append(lane)
        yield Sql("UPDATE deliveries SET due = delivery_id")
        yield Sql("UPDATE ready SET due = delivery_id")

    store = await stores.make_store(folder, clock, fill)
    return Deep(store, made[0])


async def test_that_a_lane_is_empty_is_only_said_of_all_of_it(tmp_path: Path) -> None:
    lane = await deep(tmp_path, FakeClock())
    try:
        first = await lane.claim(TAKEN, DEEP - 2)  # three are due from there on
        assert [one.delivery_id for one in first.claimed] == list(range(1, TAKEN + 1))
        assert first.reached == {lane.lane: (TAKEN, True)}
        second = await lane.claim(TAKEN, 20)
        assert [one.delivery_id for one in second.claimed] == list(range(20, 20 + TAKEN))
        assert second.reached == {lane.lane: (19 + TAKEN, False)}
        rest = await lane.claim(DEEP, 30)
        assert len(rest.claimed) == DEEP - 2 * TAKEN
        assert (rest.reached, rest.next_due) == ({}, {lane.lane: None})
    finally:
        await lane.store.close()


async def test_what_another_process_left_before_the_floor_waits_a_second_at_most(tmp_path: Path) -> None:
    clock, floor = FakeClock(), Floor()
    lane = await deep(tmp_path, clock)
    begun_s = clock.steady_s()

    async def take() -> list[int]:
        at_s = clock.steady_s()
        claims = await lane.claim(TAKEN, floor.at(at_s))
        for due_us, from_lowest in claims.reached.values():
            floor.reached(due_us, at_s, from_lowest=from_lowest)
        clock.advance(0.3)
        return [one.delivery_id for one in claims.claimed]

    try:
        taken = await take()
        assert floor.at(clock.steady_s()) == TAKEN

        def put_back() -> Work[None]:
            row = {"account": seed_rows.ACCOUNT, "lane": lane.lane, "due": 1 - MICROS}
            yield Sql("UPDATE deliveries SET state = 'ready', due = :due WHERE delivery_id = 1", row)
            yield Sql("INSERT INTO ready VALUES (:account, :lane, :due, 1)", row)

        await lane.store.write(put_back)
        while taken.count(1) < 2:
            assert clock.steady_s() - begun_s < 2
            taken += await take()
        assert taken[TAKEN : 2 * TAKEN] == list(range(TAKEN + 1, 2 * TAKEN + 1)), "the floor was not used"
    finally:
        await lane.store.close()
