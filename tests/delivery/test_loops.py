"""L3, Q16: a connection that leads back to our own submission ends after a few rounds, or never begins."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from postroom.config import load
from postroom.control.operations import run
from postroom.inbound.submission import SubmissionServer
from postroom.storage.interface import Rows, Sql, Work
from postroom.wiring import PostRoom, open_post_room


@dataclass
class Round:
    """A post room whose only connection is its own submission, on `port`."""

    room: PostRoom
    connection: int
    port: int

    async def rows(self, text: str) -> Rows:
        def work() -> Work[Rows]:
            return (yield Sql(text))

        return await self.room.store.read(work)

    async def send(self) -> None:
        fields = {"to": ["ann@example.net"], "subject": "Round", "text": "and round"}
        await run(self.room.desk, "message.send", fields)


@asynccontextmanager
async def going_round(folder: Path) -> AsyncIterator[Round]:
    room = await open_post_room(load({"data": str(folder / "data")}, {}))
    submission = SubmissionServer(room.ctx, instance=room.instance)
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    try:
        await submission.start(listener)
        await room.dispatcher.start()
        made: Any = await run(room.desk, "bootstrap", {"sender": "shop@example.com"})
        fields = {
            "label": "ourselves",
            "host": "127.0.0.1",
            "port": port,
            "security": "never",
            "auth": "plain",
            "for_transactional": True,
        }
        secrets = {"smtp_username": made["server_key"], "smtp_password": made["server_key"]}
        asked = {"fields": fields, "secrets": secrets, "server": made["server_id"]}
        created: Any = await run(room.desk, "connection.create", asked)
        yield Round(room, created["connection_id"], port)
    finally:
        await room.dispatcher.stop(0.0)
        await submission.stop()
        await room.close()


async def test_l3_mail_that_comes_round_is_refused_the_third_time(tmp_path: Path) -> None:
    """As through a forwarded port, where nothing tells that it is us who listen there."""
    async with going_round(tmp_path) as post:
        await post.send()

        async with asyncio.timeout(20):
            while not await post.rows("SELECT 1 FROM deliveries WHERE state = 'bounced'"):
                await asyncio.sleep(0.01)
        states = await post.rows("SELECT state FROM deliveries ORDER BY delivery_id")
        assert [state for (state,) in states] == ["sent", "sent", "bounced"]
        told = await post.rows("SELECT enhanced, reply FROM attempts WHERE code = 554")
        assert [tuple(row) for row in told] == [("5.4.6", "5.4.6 Message was here 2 times already: a loop")]
        assert await post.rows("SELECT * FROM suppressions") == []
        ids = await post.rows("SELECT DISTINCT rfc_message_id FROM messages")
        assert len(ids) == 1, "it is one message all the way"


async def test_q16_a_listener_that_is_known_to_be_ours_is_not_dialled_at_all(tmp_path: Path) -> None:
    async with going_round(tmp_path) as post:
        post.room.dialer.listeners.add(("127.0.0.1", post.port))
        tested: Any = await run(post.room.desk, "connection.test", {"connection": post.connection})
        assert not tested["passed"]
        assert "it would go round" in str(tested)
        await post.send()
        async with asyncio.timeout(20):
            while post.room.dialer.refused["ourselves"] < 2:
                await asyncio.sleep(0.01)
        rows = await post.rows("SELECT COUNT(*), COUNT(DISTINCT public_id) FROM messages")
        assert tuple(rows[0]) == (1, 1)
