"""An operator's reset of a window: used at once, written down, and never below what is under way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from postroom.actions.context import Actor
from postroom.actions.windows import reset_window
from postroom.core.message import Purpose
from postroom.core.server import Owner
from postroom.errors import NotFound
from postroom.ids import ConnectionId
from tests.support import seed_rows
from tests.support.acting import context
from tests.support.clock import FakeClock
from tests.support.engine import Bench, bench, sink

ACTOR = Actor("Ada")
OWNER = Owner(seed_rows.ACCOUNT, whole_account=True)


async def counters(post: Bench) -> tuple[int, int, int, int]:
    """Held, releases, and the day's used and held."""
    rows = await post.rows(
        "SELECT (SELECT held FROM cap), (SELECT COALESCE(SUM(n), 0) FROM cap_release),"
        " (SELECT SUM(used) FROM cap_day), (SELECT SUM(held) FROM cap_day)"
    )
    found: tuple[int, int, int, int] = tuple(rows[0])
    return found


async def test_blocked_mail_goes_on_at_once_and_the_caps_count_from_there(tmp_path: Path) -> None:
    clock = FakeClock()
    async with sink(tmp_path) as out, bench(tmp_path, clock=clock) as post:
        connection = await post.connection(out.port, hourly_cap=3, daily_cap=4)
        await post.send(Purpose.BROADCAST, [f"r{number}@example.net" for number in range(10)])
        runner = post.engine._runners
        await post.until(lambda s: s["sent"] == 3 and runner[connection].blocked(transactional=False))
        done = await reset_window(context(post), ACTOR, OWNER, connection)
        assert (done.before.hour, done.before.day, done.before.under_way) == (3, 3, 0)
        await post.until(lambda s: s["sent"] == 6 and runner[connection].blocked(transactional=False))
        assert await counters(post) == (3, 3, 3, 0)
        rows = await post.rows("SELECT actor, target, detail FROM audit")
        assert rows[0][:2] == ("Ada", f"connection {connection}")
        assert json.loads(rows[0][2])["before"] == {"hour": 3, "day": 3, "under_way": 0}


async def test_what_is_under_way_stays_counted_and_is_settled_from_there(tmp_path: Path) -> None:
    """One is at RCPT, one at its dot: returned and used, after the reset. Nothing becomes negative."""
    async with sink(tmp_path) as out, bench(tmp_path) as post:
        connection = await post.connection(out.port, hourly_cap=20, daily_cap=20)
        await post.send(Purpose.BROADCAST, ["first@example.net"])
        await post.until_settled()
        await post.send(Purpose.BROADCAST, ["hang@example.net", "hang+dot@example.net"])
        attempts = post.engine._attempts
        await post.until(lambda s: s["claimed"] == 2 and any(one.past_dot for one in attempts.values()))
        done = await reset_window(context(post), ACTOR, OWNER, connection)
        assert (done.before.hour, done.before.under_way, done.before.day) == (3, 2, 3)
        assert await counters(post) == (2, 0, 0, 2)
        for slot in post.engine._runners[connection].sessions:
            slot.session.abort()
        await post.until(lambda s: s["unverified"] == 1 and s["claimed"] == 0)
        await post.engine.stop(5.0)
        held, releases, used, day_held = await counters(post)
        assert (held, used, day_held) == (releases, releases, 0)
        assert used >= 1


@pytest.mark.parametrize("number", [99, 0, -1, 2**70])
async def test_another_connection_is_not_found(tmp_path: Path, number: int) -> None:
    async with bench(tmp_path) as post:
        with pytest.raises(NotFound):
            await reset_window(context(post), ACTOR, OWNER, ConnectionId(number))


async def test_what_is_past_its_hour_counts_no_more(tmp_path: Path) -> None:
    clock = FakeClock()
    async with sink(tmp_path) as out, bench(tmp_path, clock=clock) as post:
        connection = await post.connection(out.port, hourly_cap=3)
        await post.send(Purpose.BROADCAST, ["a@example.net", "b@example.net"])
        await post.until_settled()
        await post.engine.stop(5.0)
        clock.advance(3700)
        done = await reset_window(context(post), ACTOR, OWNER, connection)
        assert (done.before.hour, done.before.under_way) == (0, 0)
        assert await counters(post) == (0, 0, 0, 0)
