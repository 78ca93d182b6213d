"""The database's clock as processes keep it, and what is granted while it is set."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from postroom.clock import MICROS
from postroom.core.message import Purpose
from postroom.engine import caps
from postroom.engine.clock_guard import ClockGuard
from postroom.engine.clock_steps import ClockSteps
from postroom.engine.settings import EngineSettings, Leases
from postroom.ids import ConnectionId
from postroom.storage import clock_steps
from postroom.storage.clock_steps import Forward
from postroom.storage.database_clock import DatabaseClock, measure
from postroom.storage.interface import Work, now
from tests.support import seed_rows, stores
from tests.support.clock import FakeClock
from tests.support.crowd import crowd
from tests.support.engine import sink
from tests.support.stores import on_both

SHARED = EngineSettings(leases=Leases())


def room(connection: ConnectionId, hourly_cap: int | None, guard: ClockGuard) -> Work[caps.CapState]:
    locked = yield caps.lock(seed_rows.ACCOUNT, connection)
    return (
        yield from caps.read(locked, seed_rows.ACCOUNT, connection, hourly_cap, None, False, guard.latest_us)
    )


def test_answers_that_take_long_do_not_move_it() -> None:
    own = FakeClock()
    clock = DatabaseClock(own)
    server_us = own.now_us() + 3600 * MICROS
    clock.set_by(1000.0, server_us, 1000.010)
    kept_us = clock.now_us()
    assert abs(kept_us - (server_us - 5000)) < 2
    clock.set_by(1000.0, server_us, 1009.0)  # somewhere in nine seconds, ours among them
    assert clock.now_us() == kept_us
    own.advance(10)
    assert clock.now_us() == kept_us + 10 * MICROS
    own.step(500)  # this machine's own wall clock is nobody's business
    assert clock.now_us() == kept_us + 10 * MICROS


def test_a_server_whose_clock_was_set_moves_it() -> None:
    own = FakeClock()
    clock = DatabaseClock(own)
    clock.set_by(1000.0, own.now_us(), 1000.002)
    guard = ClockGuard(clock)
    assert not clock.agrees(1000.0, own.now_us() + 60 * MICROS, 1000.002)
    clock.set_by(1000.0, own.now_us() + 60 * MICROS, 1000.002)
    assert guard.paused()
    assert round(guard.pause_left_s) == 60


@on_both
async def test_it_is_measured_by_the_quickest_answer(tmp_path: Path) -> None:
    server, own = FakeClock(), FakeClock()
    server.step(777)
    await stores.make_database(tmp_path, server, seed_rows.tenants)
    store = stores.open_store(tmp_path, server)
    try:
        clock = DatabaseClock(own)
        await measure(store, clock)
        assert clock.now_us() == server.now_us() == await store.read(now)
    finally:
        await store.close()


@on_both
async def test_nothing_is_granted_by_a_clock_that_was_just_set(tmp_path: Path) -> None:
    """The claim itself sees it, before room comes back an hour early."""
    server = FakeClock()
    await stores.make_database(tmp_path, server, seed_rows.tenants)
    store = stores.open_store(tmp_path, server)
    try:
        connection = await store.write(lambda: seed_rows.connection(5))
        guard = ClockGuard(server)
        await store.write(lambda: room(connection, 5, guard))
        server.step(3600)
        with pytest.raises(caps.ClockWasSet):
            await store.write(lambda: room(connection, 5, guard))
        await store.write(lambda: room(connection, None, guard))
    finally:
        await store.close()


@on_both
async def test_one_that_starts_after_the_step_pauses_too(tmp_path: Path) -> None:
    clock = FakeClock()
    await stores.make_database(tmp_path, clock, seed_rows.tenants)
    store = stores.open_store(tmp_path, clock)
    try:
        await store.write(lambda: clock_steps.add_forward(Forward(clock.now_us(), 1800 * MICROS)))
        clock.step(1800)
        clock.advance(600)
        guard = ClockGuard(clock)
        await ClockSteps(store, clock, guard, SHARED, leads=lambda: False).at_start()
        assert round(guard.pause_left_s) == 1200
    finally:
        await store.close()


@on_both
async def test_a_step_is_noted_and_mail_is_moved_once(tmp_path: Path) -> None:
    """By the one that leads; each of them notices."""
    async with sink(tmp_path) as out, crowd(tmp_path) as many:
        engines = [await many.join() for _ in range(3)]
        leads = engines[0]._clock_steps
        await many.connection(out.port)
        await many.send(Purpose.TRANSACTIONAL, ["defer451@example.net"])
        while not await many.rows("SELECT 1 FROM deliveries WHERE tries = 1"):
            await asyncio.sleep(0.01)
        due = (await many.rows("SELECT due FROM ready"))[0][0]
        for by_s in (100, -7200):
            before_us = engines[0]._guard.offset_us
            many.clock.step(by_s)
            noticed_us = before_us + by_s * MICROS
            await many.until(
                lambda _, noticed_us=noticed_us: (  # type: ignore[misc]  # bound at once
                    all(one._guard.offset_us == noticed_us for one in engines) and not leads.at_work
                )
            )
        assert len(await many.rows("SELECT 1 FROM clock_steps")) == 1
        assert (await many.rows("SELECT due FROM ready"))[0][0] == due - 7200 * MICROS
