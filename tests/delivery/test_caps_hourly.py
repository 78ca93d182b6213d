"""Hourly caps on a moved clock: exact in every sliding hour, and hardly any room wasted."""

from __future__ import annotations

from pathlib import Path

import pytest

from drills.caps import (
    MOVED,
    CapPlan,
    Watch,
    most_in_any_hour,
    move_to,
    next_release_us,
    run,
    until_hour_spent,
)
from postroom.clock import MICROS
from postroom.core.message import Purpose
from tests.support.clock import START_US, FakeClock
from tests.support.engine import bench, sink


@pytest.mark.parametrize(
    "plan",
    [
        pytest.param(CapPlan(15, 1000, 12, restart_every=3, start_us=START_US + 3_700_000), id="15 an hour"),
        pytest.param(CapPlan(15, 1000, 8, slow_s=8.0, restart_every=4, seed=2), id="15 an hour, slow sends"),
        pytest.param(
            CapPlan(500, 2500, 3, slow_s=2.0, restart_every=3, seed=4), id="500 an hour, slow sends"
        ),
    ],
)
async def test_never_more_than_the_cap_in_any_hour_and_hardly_less(tmp_path: Path, plan: CapPlan) -> None:
    result = await run(tmp_path, plan)
    assert result.restarts > 0
    assert result.most_in_an_hour == plan.hourly_cap, result.line()
    assert len(result.times) >= plan.hourly_cap * (plan.hours - 1)
    assert result.used >= 0.98, result.line()


async def test_room_is_taken_as_it_comes_back_part_by_part(tmp_path: Path) -> None:
    clock = FakeClock()
    watch = Watch(clock)
    async with sink(tmp_path, watch) as out, bench(tmp_path, clock=clock, settings=MOVED) as post:
        connection = await post.connection(out.port, hourly_cap=15)
        await post.send(Purpose.BROADCAST, [f"first{number}@example.net" for number in range(5)])
        await post.until_settled()
        clock.advance(15.0)
        await post.send(Purpose.BROADCAST, [f"then{number}@example.net" for number in range(30)])
        await until_hour_spent(post, connection, 15)
        assert len(watch.times) == 15
        due = await next_release_us(post)
        assert due is not None
        move_to(clock, due)
        await until_hour_spent(post, connection, 15)
        assert len(watch.times) == 20
        # 5 came back; the next 10 follow some seconds later and not one full round of looking later.
        due = await next_release_us(post)
        assert due is not None
        assert due - clock.now_us() <= 20 * MICROS
        move_to(clock, due)
        await until_hour_spent(post, connection, 15)
        assert len(watch.times) == 30
        assert most_in_any_hour(watch.times) == 15


async def test_room_granted_to_what_the_recipient_refused_is_used_by_the_next(tmp_path: Path) -> None:
    """Refused at RCPT uses no room: it is given out again in the same hour, clock standing still."""
    clock = FakeClock()
    watch = Watch(clock)
    async with sink(tmp_path, watch) as out, bench(tmp_path, clock=clock, settings=MOVED) as post:
        connection = await post.connection(out.port, hourly_cap=15)
        people = [
            f"bounce550.{n % 7}.1+r{n}@example.net" if n % 3 else f"r{n}@example.net" for n in range(60)
        ]
        await post.send(Purpose.BROADCAST, people)
        await until_hour_spent(post, connection, 15)
        states = await post.states()
        assert states["sent"] == len(watch.times) == 15
        assert states["bounced"] >= 28


async def test_a_lowered_cap_binds_the_next_grants(tmp_path: Path) -> None:
    clock = FakeClock()
    watch = Watch(clock)
    async with sink(tmp_path, watch) as out, bench(tmp_path, clock=clock, settings=MOVED) as post:
        connection = await post.connection(out.port, hourly_cap=20)
        await post.send(Purpose.BROADCAST, [f"a{number}@example.net" for number in range(100)])
        await until_hour_spent(post, connection, 20)
        await post.do("UPDATE connections SET hourly_cap = 15, version = version + 1")
        post.engine.connection_changed(connection)
        lowered_us = clock.now_us()
        for _ in range(3):
            due = await next_release_us(post)
            assert due is not None
            move_to(clock, due)
            await until_hour_spent(post, connection, 15)
        assert most_in_any_hour([one for one in watch.times if one > lowered_us]) == 15
        assert len(watch.times) == 20 + 3 * 15


async def test_q11_a_thousand_queued_and_a_restart_each_minute(tmp_path: Path) -> None:
    clock = FakeClock()
    watch = Watch(clock)
    async with sink(tmp_path, watch) as out, bench(tmp_path, clock=clock, settings=MOVED) as post:
        connection = await post.connection(out.port, hourly_cap=15)
        await post.send(Purpose.BROADCAST, [f"r{number}@example.net" for number in range(1000)])
        for _ in range(2 * 61):
            await until_hour_spent(post, connection, 15)
            clock.advance(60)
            await post.restart()
        await until_hour_spent(post, connection, 15)
        assert most_in_any_hour(watch.times) == 15
        assert len(watch.times) == 45
