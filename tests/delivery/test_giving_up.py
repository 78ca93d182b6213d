"""How a delivery that is refused ends: once, with one event, and nobody is written to about it."""

from __future__ import annotations

from pathlib import Path

from drills.caps import MOVED
from postroom.clock import MICROS
from postroom.core.message import Purpose
from postroom.storage.interface import Rows
from tests.support.clock import FakeClock
from tests.support.engine import bench, sink
from tests.support.sink import Received
from tests.support.stores import on_both

pytestmark = on_both

DAY_S = 86_400


async def test_q5_refused_after_the_dot_each_recipient_fails_once(tmp_path: Path) -> None:
    """250 to each RCPT, 550 to the dot: one event each, and no address is blamed for it."""
    async with sink(tmp_path) as out, bench(tmp_path) as post:
        await post.connection(out.port)
        people = [f"bounce550.7.1+dot+{n}@example.net" for n in range(5)]
        await post.send(Purpose.BROADCAST, people)
        assert await post.until_settled(5.0) == {"bounced": 5}
        events = await post.rows("SELECT delivery_id, kind FROM events WHERE kind <> 'accepted' ORDER BY 1")
        assert events == [(number, "bounced") for number in range(1, 6)]
        assert await post.rows("SELECT * FROM suppressions") == []
        assert await post.rows("SELECT COUNT(*) FROM attempts") == [(5,)]


async def test_q9_refused_for_five_days_it_is_given_up_once(tmp_path: Path) -> None:
    clock = FakeClock()
    began_us = clock.now_us()
    taken: list[Received] = []
    async with sink(tmp_path, taken.append) as out, bench(tmp_path, clock=clock, settings=MOVED) as post:
        await post.connection(out.port)
        await post.send(Purpose.BROADCAST, ["defer451@example.net"])
        tried = 0
        for _ in range(200):
            rows: Rows = []
            while not rows or rows[0][0] == tried:
                rows = await post.rows(
                    "SELECT tries + CASE state WHEN 'bounced' THEN 1000 ELSE 0 END, due FROM deliveries"
                )
                await post.until(lambda _: True)
            tried, due = rows[0]
            if tried >= 1000:
                break
            clock.advance(max(0.0, (due - clock.now_us()) / MICROS) + 0.01)
        assert await post.states() == {"bounced": 1}
        assert 5 * DAY_S <= (clock.now_us() - began_us) / MICROS < 5 * DAY_S + 60
        events = await post.rows("SELECT kind, COUNT(*) FROM events GROUP BY kind ORDER BY kind")
        assert dict(events)["bounced"] == 1
        assert await post.rows("SELECT COUNT(*) FROM messages") == [(1,)]  # none to whoever sent it
        clock.advance(10 * DAY_S)
        await post.send(Purpose.BROADCAST, ["someone@example.net"])
        assert await post.until_settled(5.0) == {"bounced": 1, "sent": 1}
        assert [one.recipients for one in taken] == [("someone@example.net",)]
