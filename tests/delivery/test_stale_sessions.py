"""A session that went stale while its connection cannot be read takes no step of a delivery's schedule."""

from __future__ import annotations

from pathlib import Path

from postroom.core.connection import Connection
from postroom.core.message import Purpose
from postroom.errors import NotFound
from postroom.ids import AccountId, ConnectionId
from tests.support.engine import bench, sink


async def test_the_delivery_goes_back_unchanged(tmp_path: Path) -> None:
    async with bench(tmp_path) as post:
        async with sink(tmp_path) as out:
            port = out.port
            connection = await post.connection(port)
            await post.send(Purpose.TRANSACTIONAL, ["first@example.net"])
            assert await post.until_settled() == {"sent": 1}
        runner = post.engine._runners[connection]
        load, asked = runner.way._load_connection, 0

        async def gone_once(account_id: AccountId, connection_id: ConnectionId) -> Connection:
            nonlocal asked
            asked += 1
            if asked == 1:
                raise NotFound("connection")
            return await load(account_id, connection_id)

        runner.way._load_connection, runner.way._made = gone_once, None
        async with sink(tmp_path, port=port):
            await post.send(Purpose.TRANSACTIONAL, ["second@example.net"])
            assert await post.until_settled(5.0) == {"sent": 2}
        assert asked == 2
        assert await post.rows("SELECT SUM(tries) FROM deliveries") == [(0,)]
