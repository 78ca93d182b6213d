"""Letting an event loop come to what it has begun, for servers of tests that end."""

from __future__ import annotations

import asyncio


async def until_accepted() -> None:
    """What a listener accepted right before it was closed becomes a connection, and can be closed."""
    for _ in range(5):
        await asyncio.sleep(0)


def abort_accepted(port: int) -> None:
    """Every connection to a listener of this loop, also one whose handshake goes on: nobody has that yet."""
    transports = getattr(asyncio.get_running_loop(), "_transports", {})
    for transport in list(transports.values()):
        name = transport.get_extra_info("sockname")
        if isinstance(name, tuple) and name[1] == port:
            transport.abort()


async def until_closed() -> None:
    """A transport that was aborted closes its socket in a turn to come."""
    for _ in range(2):
        await asyncio.sleep(0)
