"""Processes that share a listening socket take turns by how many connections each has."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator

import pytest

from postroom.accepting import NOBODY, Share, SharedListener, Shares, shared_counts


@pytest.fixture
def counts() -> Iterator[int]:
    descriptor = shared_counts(processes=3, listeners=2)
    yield descriptor
    os.close(descriptor)


def test_counts_are_seen_by_every_process_and_kept_apart_by_listener(counts: int) -> None:
    first, second = Shares(counts, 3, 0), Shares(counts, 3, 1)
    first.tell(1, 5)
    assert not first.is_ahead(1, 5), "nobody else listens"
    second.tell(1, 4)
    assert not first.is_ahead(1, 5), "one more is no reason to wait"
    second.tell(1, 3)
    assert first.is_ahead(1, 5)
    assert not second.is_ahead(1, 3)
    assert not first.is_ahead(0, 5), "the other listener has counts of its own"


def test_nobody_waits_for_one_that_is_gone(counts: int) -> None:
    first, second = Shares(counts, 3, 0), Shares(counts, 3, 1)
    second.tell(0, 0)
    second.tell(1, 0)
    assert first.is_ahead(0, 9)
    first.leave(1)
    assert not first.is_ahead(0, 9)
    assert not first.is_ahead(1, NOBODY - 1)


class Counted(asyncio.Protocol):
    """A connection that is counted while it is open."""

    def __init__(self, among: set[Counted]) -> None:
        self._among = among

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._among.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._among.discard(self)


async def test_connections_that_come_at_once_are_divided(counts: int) -> None:
    """As two processes would: each its own descriptor of the socket, its own count."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        listener.setblocking(False)
        sets: list[set[Counted]] = [set(), set()]
        servers = [
            SharedListener(
                lambda among=among: Counted(among),  # type: ignore[misc]  # mypy: the default is its type
                listener.dup(),
                among,
                Share(Shares(counts, 3, number), 0),
            )
            for number, among in enumerate(sets)
        ]
        clients = [await asyncio.open_connection(*listener.getsockname()) for _ in range(20)]
        while sum(map(len, sets)) < len(clients):
            await asyncio.sleep(0)
        assert max(map(len, sets)) - min(map(len, sets)) <= 2
        for _, writer in clients:
            writer.close()
        servers[0].close()
        more = await asyncio.open_connection(*listener.getsockname())
        while len(sets[1]) != 1:  # the others are closed, and the one that is left takes all
            await asyncio.sleep(0)
        assert not sets[0]
        more[1].close()
        servers[1].close()
        for server in servers:
            await server.wait_closed()
