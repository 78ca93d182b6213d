"""Whose turn it is to do what one process does for all: a short lease, kept for as long as the process lives.

It is given back at a stop, so another follows within a renewal; after a kill within the lease. As with
`storage.leader`, nothing may depend on there being only one.
"""

from __future__ import annotations

import asyncio
import secrets

from postroom.errors import PostroomError
from postroom.ids import WorkerId
from postroom.logs import Trouble, logger
from postroom.storage import leader
from postroom.storage.interface import Store

LEASE_S = 45.0
RENEW_S = 15.0
log = logger("engine")


class Turn:
    """Of one process, for one task. Used on one event loop, between `start` and `stop`."""

    def __init__(
        self, store: Store, name: str, *, lease_s: float = LEASE_S, renew_s: float = RENEW_S
    ) -> None:
        self._store, self._name, self._lease_s, self._renew_s = store, name, lease_s, renew_s
        self._us = WorkerId(-1 - secrets.randbits(48))  # no worker: one that does not deliver may lead, too
        self._ours = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def is_ours(self) -> bool:
        """As far as the last look tells."""
        return self._ours.is_set()

    async def ours(self) -> None:
        """Returns once it is."""
        await self._ours.wait()

    def start(self) -> None:
        """Try for it from now on. Needs a running loop."""
        if self._task is None:
            self._task = asyncio.create_task(self._keep(), name=f"turn {self._name}")

    async def stop(self) -> None:
        """Leave it to somebody else; never raises."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        self._ours.clear()
        try:
            await self._store.write(lambda: leader.release(self._name, self._us))
        except PostroomError as error:  # it runs out by itself
            log.debug("a turn could not be given back", name=self._name, error=str(error))

    async def _keep(self) -> None:
        trouble = Trouble(log)
        while True:
            try:
                held = await self._store.write(lambda: leader.hold(self._name, self._us, self._lease_s))
            except PostroomError as error:
                self._ours.clear()
                trouble.met("nobody knows whose turn it is", name=self._name, error=str(error))
            except Exception:
                self._ours.clear()
                log.exception("looking whose turn it is failed unexpectedly", name=self._name)
            else:
                trouble.over("it is known again whose turn it is")
                (self._ours.set if held else self._ours.clear)()
            await asyncio.sleep(self._renew_s)
