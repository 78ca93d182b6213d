"""A clock that is set forward stops what has a cap, for an hour at most, and nothing else."""

from __future__ import annotations

from pathlib import Path

from postroom.core.message import Purpose
from postroom.engine.clock_guard import ClockGuard
from tests.support.clock import FakeClock
from tests.support.engine import bench, sink


def test_after_an_hour_all_room_is_free_however_far_the_clock_was_set() -> None:
    clock = FakeClock()
    guard = ClockGuard(clock)
    clock.step(30 * 365 * 86_400)  # a machine without a battery learns the time
    assert guard.paused()
    clock.advance(3590)
    assert guard.paused()
    clock.advance(30)
    assert not guard.paused()


def test_several_steps_are_not_longer_than_an_hour_after_the_last() -> None:
    clock = FakeClock()
    guard = ClockGuard(clock)
    for _ in range(4):
        clock.step(3000)
        assert guard.paused()
    clock.advance(3620)
    assert not guard.paused()


async def test_a_connection_without_a_cap_goes_on(tmp_path: Path) -> None:
    clock = FakeClock()
    async with sink(tmp_path) as out, bench(tmp_path, clock=clock) as post:
        await post.connection(out.port)
        clock.step(1800)
        await post.send(Purpose.TRANSACTIONAL, ["someone@example.net"])
        assert await post.until_settled(5.0) == {"sent": 1}


async def test_a_connection_with_a_cap_waits(tmp_path: Path) -> None:
    clock = FakeClock()
    async with sink(tmp_path) as out, bench(tmp_path, clock=clock) as post:
        connection = await post.connection(out.port, hourly_cap=10)
        clock.step(1800)
        await post.send(Purpose.TRANSACTIONAL, ["someone@example.net"])
        runner = post.engine._runners
        await post.until(lambda _: connection in runner and len(runner[connection].sessions) > 0)
        assert await post.states() == {"ready": 1}
        clock.advance(1801)
        assert await post.until_settled(5.0) == {"sent": 1}
