"""Claims of one lane at the same moment: no delivery is taken twice, and nobody waits for another.

The first claim has done all it does and is held before its COMMIT, by a lock of PostgreSQL's that the test
has; so the second one meets it in the middle, each time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from postroom.core.message import Purpose
from postroom.engine.claim import Claims, Pick, Worker, claim
from postroom.ids import ConnectionId, DecisionId, DeliveryId, LaneId
from postroom.storage import workers
from postroom.storage.interface import Sql, Store, Work
from postroom.storage.workers import Identity
from tests.support import seed_rows, stores
from tests.support.crowd import Crowd, crowd
from tests.support.stores import on_postgresql

pytestmark = on_postgresql
GATE = 7
READY = 6
_WAITING = "SELECT COUNT(DISTINCT pid) FROM pg_locks WHERE NOT granted"


@pytest.fixture
async def many(tmp_path: Path) -> AsyncIterator[Crowd]:
    """Nobody is at work."""
    async with crowd(tmp_path) as made:
        yield made


async def register(store: Store, pid: int) -> Worker:
    """One more worker."""
    identity = Identity("here", pid, "1", "deliver", "1")
    return Worker(await store.write(lambda: workers.register(identity, 90_000_000)), 1)


@asynccontextmanager
async def gate(folder: Path) -> AsyncIterator[Any]:  # Any: asyncpg's connection (its types are not published)
    """Shut while the block runs, unless it is opened before; whoever steps up to it waits."""
    url = stores.url_of(folder)
    assert url is not None
    guard = await asyncpg.connect(url)
    try:
        await guard.execute("SELECT pg_advisory_lock($1)", GATE)
        yield guard
    finally:
        await guard.close()


def held(work: Work[Claims]) -> Work[Claims]:
    """The same, and before its COMMIT it steps up to the gate."""
    claims = yield from work
    yield Sql("SELECT pg_advisory_xact_lock(:gate)", {"gate": GATE})
    return claims


def ids(*found: Claims) -> list[DeliveryId]:
    return [one.delivery_id for claims in found for one in claims.claimed]


@pytest.mark.parametrize("first_takes", [2, READY])
@pytest.mark.parametrize("shared", [False, True], ids=["two workers", "two connections of one worker"])
async def test_two_claims_of_one_lane_at_once_take_no_delivery_twice(
    many: Crowd, tmp_path: Path, first_takes: int, shared: bool
) -> None:
    # A connection's own counters make its claims wait for each other: those of two meet at the lane alone.
    connections = [await many.connection(25), await many.connection(26)]
    first = await register(many.store, 1)
    second = first if shared else await register(many.store, 2)
    _, lane = await many.accept(Purpose.BROADCAST, [f"r{n}@example.net" for n in range(READY)])

    def claims(worker: Worker, connection: ConnectionId, wanted: int) -> Work[Claims]:
        return claim(worker, seed_rows.ACCOUNT, connection, 1, [pick(lane)], wanted)

    async with gate(tmp_path) as guard:
        one = asyncio.create_task(many.store.write(lambda: held(claims(first, connections[0], first_takes))))
        async with asyncio.timeout(5):
            while await guard.fetchval(_WAITING) < 1:
                await asyncio.sleep(0.005)
            other = asyncio.create_task(many.store.write(lambda: claims(second, connections[1], READY)))
            while not other.done() and await guard.fetchval(_WAITING) < 2:
                await asyncio.sleep(0.005)
        waited = not other.done()
        assert not one.done()
        await guard.execute("SELECT pg_advisory_unlock($1)", GATE)
        found = await asyncio.gather(one, other)

    assert sorted(ids(*found)) == sorted(set(ids(*found))), "a delivery was taken twice"
    assert not waited, "the second claim waited for the first"
    assert [len(ids(each)) for each in found] == [first_takes, READY - first_takes]
    attempts = await many.rows("SELECT delivery_id, COUNT(*) FROM attempts GROUP BY delivery_id")
    assert dict(attempts) == dict.fromkeys(ids(*found), 1)
    assert await many.rows("SELECT COUNT(*) FROM ready") == [(0,)]


def pick(lane: LaneId) -> Pick:
    return Pick(lane, seed_rows.SERVER, Purpose.BROADCAST, seed_rows.SENDER, DecisionId(1), READY)
