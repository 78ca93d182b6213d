"""A `serve` with nothing to do leaves the database in peace."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

from postroom.control.operations import run
from postroom.serving.seeing import Seeing
from postroom.wiring import bulk_feed, subject_blocks
from tests.processes.conftest import House
from tests.support.postgres import PLAIN, PostgresServer

SECONDS = 3.0
MOST_A_SECOND = 5


async def test_an_idle_process_makes_few_statements(tmp_path: Path) -> None:
    """Everything that runs in one; the server itself says what it was asked, BEGIN and COMMIT included."""
    with PostgresServer({**PLAIN, "log_statement": "all"}) as server:
        async with AsyncExitStack() as stack:
            house = House(tmp_path, server.url, stack)
            room = await house.deliver()
            await run(room.desk, "bootstrap", {})
            await house.connect(room, 1)
            seeing = Seeing(room)
            await seeing.start()
            stack.push_async_callback(seeing.stop)
            feed = bulk_feed(room)
            feed.start()
            stack.push_async_callback(feed.stop)
            blocks = subject_blocks(room)
            blocks.start()
            stack.push_async_callback(blocks.stop)
            room.desk.housekeeping.start()
            stack.push_async_callback(room.desk.housekeeping.stop)
            async with asyncio.timeout(30):
                while await _asked(server, 0.5) > MOST_A_SECOND / 2:
                    pass  # it is still starting
            assert await _asked(server, SECONDS) < MOST_A_SECOND * SECONDS


async def _asked(server: PostgresServer, seconds: float) -> int:
    """How many statements the server is sent in so long: this time is what is measured."""
    before = _count(server)
    await asyncio.sleep(seconds)
    return _count(server) - before


def _count(server: PostgresServer) -> int:
    return sum(" statement: " in line or " execute " in line for line in server.log.splitlines())
