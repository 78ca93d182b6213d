"""One claim over several lanes: the room under a cap is one for all of them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from postroom.core.message import Purpose
from postroom.engine.claim import Claims, Pick, Worker, claim
from postroom.engine.recover import raise_epoch
from postroom.ids import DecisionId, LaneId, WorkerId
from postroom.storage.interface import Sql, Work
from tests.support import seed_rows, stores
from tests.support.clock import FakeClock
from tests.support.stores import on_both

pytestmark = on_both

B, S = Purpose.BROADCAST, Purpose.SEQUENCE


async def test_lanes_share_the_room_of_one_claim(tmp_path: Path) -> None:
    lanes: dict[Purpose, LaneId] = {}

    def fill() -> Work[None]:
        yield from seed_rows.tenants()
        yield from seed_rows.connection(5, None)
        for purpose in (B, S):
            people = [f"r{number}@example.net" for number in range(4)]
            _, lanes[purpose] = yield from seed_rows.message(purpose, people, purpose.value)

    def take() -> Work[Claims]:
        yield from raise_epoch(WorkerId(1))
        rows = yield Sql("SELECT connection_id FROM connections")
        picks = [
            Pick(lanes[one], seed_rows.SERVER, one, seed_rows.SENDER, DecisionId(1), 4) for one in (B, S)
        ]
        return (yield from claim(Worker(WorkerId(1), 1), seed_rows.ACCOUNT, rows[0][0], 1, picks, 8))

    store = await stores.make_store(tmp_path, FakeClock(), fill)
    try:
        claims = await store.write(take)
    finally:
        await store.close()
    assert claims.cap is not None
    room = claims.cap.room(transactional=False)
    assert 4 < room < 8, "what is tried is that the second lane gets what the first one left"
    taken = Counter(one.lane_id for one in claims.claimed)
    assert taken == {lanes[B]: 4, lanes[S]: room - 4}
    assert claims.out_of_room
