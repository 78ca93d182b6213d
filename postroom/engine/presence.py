"""That this process is there, for the others: which it is, and which keys of the key file it has.

Its row says so, and its connection for listening stands while it lives: so nothing is written while nothing
changes, and a process that died is known to be dead as soon as the server knows.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

import postroom
from postroom.actions.context import Context
from postroom.clock import Clock
from postroom.engine.dispatcher import Dispatcher
from postroom.engine.tasks import Tasks
from postroom.errors import PostroomError
from postroom.keyring import KeyRing, KeyringError
from postroom.logs import logger
from postroom.storage import processes
from postroom.storage.interface import Store
from postroom.storage.processes import Process

DELIVER = "deliver"  # the role of those that send
REPORTED_WITHIN_S = 10.0
_LOOK_EVERY_S = 0.1
_FORGOTTEN_AFTER_US = 24 * 3600 * 1_000_000  # one whose connection broke for a while comes back long before
log = logger("news")


async def somebody_delivers(ctx: Context, here: Dispatcher | None) -> bool:
    """Whether an engine runs: the one here, or another process's. Raises Unavailable."""
    if here is not None and here.running:
        return True
    return ctx.peers is not None and any(DELIVER in one.roles for one in await ctx.peers.alive())


class Roll(Protocol):
    """Who is there."""

    async def alive(self) -> frozenset[str]:
        """Names of the processes whose connection stands. Raises Unavailable."""


class Presence:
    """Of one process; implements `actions.context.Peers`. Used on one event loop."""

    def __init__(
        self,
        store: Store,
        roll: Roll,
        ring: KeyRing,
        clock: Clock,
        process_id: str,
        roles: Sequence[str],
        ask: Callable[[], None],
    ) -> None:
        """ask: tells every other process to read the key file again and to report."""
        self._store, self._roll, self._ring, self._ask = store, roll, ring, ask
        here = socket.gethostname(), os.getpid()
        self._me = Process(process_id, *here, tuple(roles), postroom.__version__, clock.now_us(), frozenset())
        self._tasks = Tasks("presence")
        self._entered = False
        self.reported_within_s = REPORTED_WITHIN_S

    async def enter(self) -> None:
        """From now on it is listed. Raises Unavailable."""
        await self._report()
        self._entered = True
        alive = await self._roll.alive()
        old_us = self._me.started_at_us - _FORGOTTEN_AFTER_US
        gone = [
            one.process_id
            for one in await self._store.read(processes.listed)
            if one.process_id not in alive and one.started_at_us < old_us
        ]
        if gone:
            await self._store.write(lambda: processes.remove(gone))

    async def leave(self) -> None:
        """Before the store closes; never raises."""
        await self._tasks.cancel()
        if self._entered:
            try:
                await self._store.write(lambda: processes.remove([self._me.process_id]))
            except PostroomError as error:  # it is seen to be dead all the same
                log.warning("could not say goodbye to the other processes", error=str(error))

    async def alive(self) -> list[Process]:
        """Those that live, this one among them where it entered. Raises Unavailable."""
        listed = await self._store.read(processes.listed)
        alive = await self._roll.alive()
        return [one for one in listed if one.process_id in alive]

    def key_file_changed(self) -> None:
        """Another process says so, or may have said so."""
        if self._entered:
            self._tasks.spawn(self._again())

    async def without_key(self, key_id: str) -> Sequence[str]:
        """Which processes did not report this key, some seconds after they were asked."""
        self._ask()
        if self._entered:
            await self._report()
        deadline_s = asyncio.get_running_loop().time() + self.reported_within_s
        while True:
            missing = [one.told for one in await self.alive() if key_id not in one.ring_keys]
            if not missing or asyncio.get_running_loop().time() >= deadline_s:
                return missing
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _again(self) -> None:
        try:
            await asyncio.to_thread(self._ring.reload)
            await self._report()
        except (KeyringError, PostroomError) as error:
            log.warning("the key file could not be read again", error=str(error))

    async def _report(self) -> None:
        mine = replace(
            self._me, ring_keys=frozenset(one for one in self._ring.states if self._ring.can_open(one))
        )
        await self._store.write(lambda: processes.report(mine))
