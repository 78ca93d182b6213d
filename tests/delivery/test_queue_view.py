"""`queue show`: how much waits where, what for, and what room there is, with a running engine or without."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from postroom.actions import pauses
from postroom.actions.context import Actor
from postroom.actions.pauses import Target
from postroom.core.message import Purpose
from postroom.core.server import Owner
from postroom.engine.queue_view import ConnectionTold, LaneTold, QueueTold, Wanted, show_queue
from postroom.errors import NotFound
from postroom.ids import AccountId, ConnectionId, ServerId
from postroom.storage import queue_counts
from postroom.storage.interface import Sql, Work
from tests.support import seed_rows
from tests.support.acting import context
from tests.support.clock import START_US, FakeClock
from tests.support.engine import bench, sink

ACTOR = Actor("Ada")
OWNER = Owner(seed_rows.ACCOUNT, whole_account=True)


def only_lane(told: QueueTold) -> LaneTold:
    (lane,) = told.lanes
    return lane


def only_connection(told: QueueTold) -> ConnectionTold:
    (connection,) = told.connections
    return connection


async def test_counts_next_due_and_oldest(tmp_path: Path) -> None:
    clock = FakeClock(START_US)
    async with bench(tmp_path, clock=clock) as post:
        await post.send(Purpose.BROADCAST, [f"r{n}@example.net" for n in range(5)])
        await post.do("UPDATE ready SET due = due + 60000000 WHERE delivery_id > 3")
        await post.do("UPDATE deliveries SET due = due + 60000000 WHERE delivery_id > 3")
        await post.do("DELETE FROM ready WHERE delivery_id = 1")
        await post.do("UPDATE deliveries SET state = 'held' WHERE delivery_id = 1")
        clock.advance(30)
        ctx = context(post)
        lane = only_lane(await show_queue(ctx, post.engine, Wanted()))
        assert (lane.now, lane.later, lane.held, lane.claimed, lane.unknown) == (2, 2, 1, 0, 0)
        assert not lane.more
        assert (lane.purpose, lane.stream, lane.sender) == ("broadcast", "broadcast", seed_rows.SENDER)
        assert lane.oldest_at == lane.next_due_at
        assert lane.waits_for == "a connection: its server and account have none"
        lane = only_lane(await show_queue(ctx, None, Wanted()))
        assert lane.waits_for == "an engine: `postroom serve` does not run"


async def test_what_a_full_connection_waits_for(tmp_path: Path) -> None:
    clock = FakeClock(START_US)
    async with sink(tmp_path) as out, bench(tmp_path, clock=clock) as post:
        made = await post.connection(out.port, hourly_cap=3, daily_cap=50)
        await post.send(Purpose.BROADCAST, [f"r{n}@example.net" for n in range(8)])
        runners = post.engine._runners
        await post.until(
            lambda s: s["sent"] == 3 and not s["claimed"] and runners[made].blocked(transactional=False)
        )
        told = await show_queue(context(post), post.engine, Wanted())
        lane, connection = only_lane(told), only_connection(told)
        assert (lane.now, lane.connections) == (5, ())
        assert lane.waits_for.startswith("a connection that may send it (hour_full); the first changes at ")
        assert (connection.hour_left, connection.hourly_cap) == (0, 3)
        assert (connection.day_left, connection.daily_cap) == (47, 50)
        assert connection.state == "sends"
        assert connection.room_comes_back_at is not None
        assert connection.sessions is not None
        stored = only_connection(await show_queue(context(post), None, Wanted()))
        assert (stored.sessions, stored.claimed, stored.hour_left) == (None, None, 0)


async def test_what_is_under_way_and_what_is_unknown_is_counted(tmp_path: Path) -> None:
    async with sink(tmp_path) as out, bench(tmp_path) as post:
        await post.connection(out.port)
        await post.send(Purpose.TRANSACTIONAL, ["hang@example.net"])
        await post.until(lambda s: s["claimed"] == 1)
        lane = only_lane(await show_queue(context(post), post.engine, Wanted()))
        assert (lane.now, lane.claimed, lane.waits_for) == (0, 1, "")
        assert post.engine.terms.present is not None
        post.engine.terms.present.lease.lose()  # it stays unknown
        await post.do("UPDATE deliveries SET state = 'unknown'")
        await post.do("INSERT INTO unknowns (due, delivery_id, account_id) VALUES (9e15, 1, 1)")
        lane = only_lane(await show_queue(context(post), None, Wanted()))
        assert (lane.claimed, lane.unknown) == (0, 1)


async def test_pauses_are_told_with_who_and_why(tmp_path: Path) -> None:
    async with sink(tmp_path) as out, bench(tmp_path) as post:
        made = await post.connection(out.port)
        ctx = context(post)
        await pauses.pause(ctx, ACTOR, Target.connection(OWNER, made), "odd bounces")
        await post.send(Purpose.TRANSACTIONAL, ["a@example.net"])
        told = await show_queue(ctx, post.engine, Wanted())
        assert only_connection(told).state == "paused"
        assert [(one["what"], one["by"], one["reason"]) for one in told.pauses] == [
            (f"connection {made}", "Ada", "odd bounces")
        ]
        assert only_lane(told).waits_for == "a connection that may send it (paused)"


async def test_only_what_was_asked_for(tmp_path: Path) -> None:
    async with bench(tmp_path) as post:
        ctx = context(post)
        made = await post.connection(1)
        await post.do("UPDATE connections SET enabled = 0")
        post.engine.connection_changed(made)
        await post.send(Purpose.TRANSACTIONAL, ["a@example.net"])
        for wanted, lanes in (
            (Wanted(server_id=seed_rows.SERVER), 1),
            (Wanted(account_id=seed_rows.ACCOUNT), 1),
            (Wanted(account_id=AccountId(2)), 0),
            (Wanted(connection_id=made), 1),
        ):
            assert len((await show_queue(ctx, post.engine, wanted)).lanes) == lanes
        told = await show_queue(ctx, post.engine, Wanted(connection_id=made))
        assert only_connection(told).state == "switched off"
        for missing in (Wanted(server_id=ServerId(9)), Wanted(connection_id=ConnectionId(9))):
            with pytest.raises(NotFound):
                await show_queue(ctx, post.engine, missing)


async def test_many_are_counted_to_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many wait, a look reads a bounded number of rows, and says that there are more."""
    monkeypatch.setattr(queue_counts, "MOST_COUNTED", 100)
    monkeypatch.setattr(queue_counts, "BUDGET", 150)
    async with bench(tmp_path) as post:
        await post.send(Purpose.TRANSACTIONAL, [f"t{n}@example.net" for n in range(200)])
        await post.send(Purpose.BROADCAST, [f"b{n}@example.net" for n in range(200)])
        lanes: Sequence[LaneTold] = (await show_queue(context(post), post.engine, Wanted())).lanes
        assert [(one.now, one.more) for one in lanes] == [(100, True), (50, True)]


async def test_held_mail_long_ago_is_looked_for_so_far_back_and_no_further(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_counts, "HELD_LOOKED_AT", 3)

    def work() -> Work[None]:
        yield Sql("UPDATE deliveries SET state = 'held'")
        yield Sql("DELETE FROM ready")

    async with bench(tmp_path) as post:
        await post.send(Purpose.TRANSACTIONAL, [f"t{n}@example.net" for n in range(5)])
        await post.store.write(work)
        assert only_lane(await show_queue(context(post), post.engine, Wanted())).held == 3
