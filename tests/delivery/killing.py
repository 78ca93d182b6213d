"""What the tests of single kills share: a real `serve` on a folder, joined to a sink of the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from drills.post import Post

SETTINGS = {"unknown_wait": "0s", "drain": "1s", "log_level": "info"}


@asynccontextmanager
async def prepared(post: Post, port: int) -> AsyncIterator[None]:
    """`serve` runs, with one connection to the sink; at the end it stops as on SIGTERM."""
    await post.start()
    try:
        made = await post.ask("bootstrap", sender="shop@example.com")
        fields = {
            "label": "sink",
            "host": "127.0.0.1",
            "port": port,
            "security": "never",
            "for_broadcast": True,
            "for_sequence": True,
            "for_transactional": True,
        }
        await post.ask("connection.create", fields=fields, server=made["server_id"])
        yield
    finally:
        code = await post.stop()
    assert code == 0


async def until(what: Callable[[], bool], timeout_s: float = 15.0) -> None:
    """Wait until it is so. Raises TimeoutError."""
    async with asyncio.timeout(timeout_s):
        while not what():
            await asyncio.sleep(0.01)
