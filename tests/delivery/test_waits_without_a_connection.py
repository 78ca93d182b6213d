"""Mail that nothing may send waits, says so once after a minute, and says what for."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

from postroom.core.message import Purpose
from postroom.engine.lanes import LaneState
from tests.support.clock import FakeClock
from tests.support.engine import QUICK, bench, sink


async def test_one_event_tells_after_a_minute_why_mail_waits(tmp_path: Path) -> None:
    clock = FakeClock()
    async with sink(tmp_path) as out, bench(tmp_path, clock=clock) as post:
        made = await post.connection(out.port)
        await post.do("UPDATE connections SET enabled = 0 WHERE connection_id = :c", c=made)
        post.engine.connection_changed(made)
        await post.send(Purpose.TRANSACTIONAL, ["a@example.net", "b@example.net"])
        lanes = post.engine._book.lanes
        await post.until(lambda _: any(one.waiting_since_us for one in lanes.values()))
        assert await post.rows("SELECT 1 FROM events WHERE kind = 'waiting'") == []
        clock.advance(61)
        async with asyncio.timeout(20):
            while not await post.rows("SELECT 1 FROM events WHERE kind = 'waiting'"):
                await asyncio.sleep(0.01)
        for _ in range(3):
            await post.engine.looking.look()  # whatever is to be written is written by the end of a look
        rows = await post.rows("SELECT data FROM events WHERE kind = 'waiting'")
        assert [json.loads(row[0])["reasons"] for row in rows] == [["switched_off"]]
        assert await post.states() == {"ready": 2}
        await post.do("UPDATE connections SET enabled = 1 WHERE connection_id = :c", c=made)
        post.engine.connection_changed(made)
        assert await post.until_settled() == {"sent": 2}


async def test_a_connection_that_is_tried_again_and_again_is_no_end_of_waiting(tmp_path: Path) -> None:
    """Backing off and probing by turns: nothing leaves, so the minute goes on."""
    clock = FakeClock()
    settings = replace(QUICK, backoff_first_s=5.0, backoff_longest_s=5.0)
    async with sink(tmp_path) as out, bench(tmp_path, clock=clock, settings=settings) as post:
        port = out.port
        await out.stop()
        made = await post.connection(port)
        await post.send(Purpose.TRANSACTIONAL, ["a@example.net"])
        runners = post.engine._runners

        def lanes() -> list[LaneState]:
            return [one for one in post.engine._book.lanes.values() if not one.stale]

        for number in range(14):  # the first saw the wait begin; the eleventh after it is 60.5 s later
            await post.until(lambda _: made in runners and runners[made].troubles.backing_off)
            await post.until(lambda _: any(one.waiting_since_us and not one.chosen for one in lanes()))
            assert (await post.rows("SELECT 1 FROM events WHERE kind = 'waiting'") == []) or number >= 11
            clock.advance(5.5)
        async with asyncio.timeout(20):
            while not await post.rows("SELECT 1 FROM events WHERE kind = 'waiting'"):
                await asyncio.sleep(0.01)
        for _ in range(3):
            await post.engine.looking.look()
        assert len(await post.rows("SELECT 1 FROM events WHERE kind = 'waiting'")) == 1
