"""Daily caps on a moved clock: exact in every UTC day, judged by the sink's times, midnight included."""

from __future__ import annotations

from pathlib import Path

from drills.caps import DAY_US, MOVED, Watch, move_to, until_day_spent
from postroom.clock import MICROS
from postroom.core.message import Purpose
from tests.support.clock import START_US, FakeClock
from tests.support.engine import bench, sink
from tests.support.stores import on_both

pytestmark = on_both

MIDNIGHT_US = START_US // DAY_US * DAY_US + DAY_US


async def test_each_day_gives_its_cap_and_not_one_more(tmp_path: Path) -> None:
    clock = FakeClock(MIDNIGHT_US - 3600 * MICROS)
    watch = Watch(clock)
    async with sink(tmp_path, watch) as out, bench(tmp_path, clock=clock, settings=MOVED) as post:
        connection = await post.connection(out.port, daily_cap=40)
        await post.send(Purpose.BROADCAST, [f"a{number}@example.net" for number in range(130)])
        today = MIDNIGHT_US // DAY_US
        await until_day_spent(post, connection, 40)
        assert watch.per_day == {today - 1: 40}
        for when_us in (MIDNIGHT_US - 3 * MICROS, MIDNIGHT_US - MICROS, MIDNIGHT_US - 1):
            move_to(clock, when_us)
            await until_day_spent(post, connection, 40)
            assert watch.per_day == {today - 1: 40}
        move_to(clock, MIDNIGHT_US)
        await until_day_spent(post, connection, 40)
        assert watch.per_day == {today - 1: 40, today: 40}
        assert await post.rows("SELECT day, used, held FROM cap_day ORDER BY day") == [
            (today - 1, 40, 0),
            (today, 40, 0),
        ]
        await post.restart()
        move_to(clock, MIDNIGHT_US + 12 * 3600 * MICROS)
        await until_day_spent(post, connection, 40)
        move_to(clock, MIDNIGHT_US + 2 * DAY_US)  # a day that nobody used is gone
        await until_day_spent(post, connection, 40)
        assert watch.per_day == {today - 1: 40, today: 40, today + 2: 40}
        assert (await post.states())["ready"] == 10


async def test_what_is_on_its_way_at_midnight_counts_in_the_day_it_leaves(tmp_path: Path) -> None:
    clock = FakeClock(MIDNIGHT_US - 5 * MICROS)
    watch = Watch(clock, slow_s=0.3, seed=5)
    async with sink(tmp_path, watch) as out, bench(tmp_path, clock=clock, settings=MOVED) as post:
        connection = await post.connection(out.port, daily_cap=60)
        await post.send(Purpose.BROADCAST, [f"a{number}@example.net" for number in range(200)])
        today = MIDNIGHT_US // DAY_US
        await until_day_spent(post, connection, 60)
        assert 0 < watch.per_day[today - 1] < 60
        assert watch.per_day[today] == 0
        move_to(clock, MIDNIGHT_US)
        await until_day_spent(post, connection, 60)
        assert watch.per_day[today] == 60
        assert await post.rows("SELECT used, held FROM cap_day WHERE day = :day", day=today) == [(60, 0)]


async def test_the_day_s_last_room_goes_to_the_next_when_the_recipient_refuses(tmp_path: Path) -> None:
    clock = FakeClock(MIDNIGHT_US - 3600 * MICROS)
    watch = Watch(clock)
    async with sink(tmp_path, watch) as out, bench(tmp_path, clock=clock, settings=MOVED) as post:
        connection = await post.connection(out.port, daily_cap=10)
        people = [
            f"bounce550.{n % 7}.1+r{n}@example.net" if n % 2 else f"r{n}@example.net" for n in range(60)
        ]
        await post.send(Purpose.BROADCAST, people)
        await until_day_spent(post, connection, 10)
        assert watch.per_day == {MIDNIGHT_US // DAY_US - 1: 10}
