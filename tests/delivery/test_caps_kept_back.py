"""Room kept back from bulk for transactional mail: as much as it lately needed, or nothing."""

from __future__ import annotations

from pathlib import Path

from drills.caps import MOVED, Watch, most_in_any_hour, move_to, next_release_us, until_hour_spent
from postroom.core.message import Purpose
from tests.support.clock import FakeClock
from tests.support.engine import bench, sink
from tests.support.stores import on_both

pytestmark = on_both


async def test_bulk_leaves_what_transactional_mail_needed_in_its_busiest_hour(tmp_path: Path) -> None:
    clock = FakeClock()
    watch = Watch(clock)
    async with sink(tmp_path, watch) as out, bench(tmp_path, clock=clock, settings=MOVED) as post:
        connection = await post.connection(out.port, hourly_cap=100)
        await post.send(Purpose.TRANSACTIONAL, [f"t{number}@example.net" for number in range(10)])
        await post.until_settled()
        await post.send(Purpose.BROADCAST, [f"b{number}@example.net" for number in range(200)])
        await until_hour_spent(post, connection, 100, kept_back=12)  # 1.2 x 10
        assert len(watch.times) == 88
        # Bulk fills the queue; a reset of a password leaves at once all the same, clock standing still.
        await post.send(Purpose.TRANSACTIONAL, [f"u{number}@example.net" for number in range(12)])
        await post.until(lambda states: states["sent"] == 100)
        assert sorted(watch.recipients[88:]) == sorted(f"u{number}@example.net" for number in range(12))
        await until_hour_spent(post, connection, 100)
        assert (await post.states())["ready"] == 122
        due = await next_release_us(post)
        assert due is not None
        move_to(clock, due)
        await until_hour_spent(post, connection, 100, kept_back=20)  # 12 + 10 in one hour: a fifth at most
        assert most_in_any_hour(watch.times) <= 100


async def test_at_least_two_are_kept_where_any_was_carried_and_a_fifth_at_most(tmp_path: Path) -> None:
    clock = FakeClock()
    watch = Watch(clock)
    async with sink(tmp_path, watch) as out, bench(tmp_path, clock=clock, settings=MOVED) as post:
        connection = await post.connection(out.port, hourly_cap=15)
        await post.send(Purpose.TRANSACTIONAL, ["one@example.net"])
        await post.until_settled()
        await post.send(Purpose.BROADCAST, [f"b{number}@example.net" for number in range(40)])
        await until_hour_spent(post, connection, 15, kept_back=2)
        assert len(watch.times) == 13
        await post.send(Purpose.TRANSACTIONAL, [f"t{number}@example.net" for number in range(10)])
        await until_hour_spent(post, connection, 15)
        assert len(watch.times) == 15
        assert watch.recipients[13:] == ["t0@example.net", "t1@example.net"]


async def test_nothing_is_kept_back_where_no_transactional_mail_was_carried(tmp_path: Path) -> None:
    clock = FakeClock()
    watch = Watch(clock)
    async with sink(tmp_path, watch) as out, bench(tmp_path, clock=clock, settings=MOVED) as post:
        connection = await post.connection(out.port, hourly_cap=50)
        await post.send(Purpose.BROADCAST, [f"b{number}@example.net" for number in range(80)])
        await until_hour_spent(post, connection, 50)
        assert len(watch.times) == 50
