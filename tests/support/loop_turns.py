"""Letting an event loop come to what it has begun, for servers of tests that end."""

from __future__ import annotations

import asyncio


async def close_listener(server: asyncio.Server) -> None:
    """Listen no more; what was accepted right before has become a connection, and can be closed.

    A server that is closed while an accepted socket is on its way to a connection forgets that socket:
    `Server._attach` asserts that it is open (CPython 109564).
    """
    loop = asyncio.get_running_loop()
    for listener in server.sockets:
        loop.remove_reader(listener.fileno())
    for _ in range(5):
        await asyncio.sleep(0)
    server.close()


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
