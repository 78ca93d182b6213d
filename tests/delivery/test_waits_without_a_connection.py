"""Mail that nothing may send waits, says so once after a minute, and says what for."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from postroom.core.message import Purpose
from tests.support.clock import FakeClock
from tests.support.engine import bench, sink


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
            await post.engine._look()  # whatever is to be written is written by the end of a look
        rows = await post.rows("SELECT data FROM events WHERE kind = 'waiting'")
        assert [json.loads(row[0])["reasons"] for row in rows] == [["switched_off"]]
        assert await post.states() == {"ready": 2}
        await post.do("UPDATE connections SET enabled = 1 WHERE connection_id = :c", c=made)
        post.engine.connection_changed(made)
        assert await post.until_settled() == {"sent": 2}
