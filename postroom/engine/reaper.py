"""What dead workers leave: it comes back by itself, soonest where their journals can be read.

A journal whose lock is free belongs to a process that has ended: whoever on its host sees it first replays
it. A lease that was not renewed tells of a host that is gone, or of a process that hangs: its epoch is
raised first, so that nothing it still does changes anything, then what it had claimed is settled as its
journal says, if that can be read here, and else as unknown.

Whether a lease is renewed is judged by its count, and by the steady clock of who watches: it must have
stood still for a whole lease in which the watcher itself renewed without a gap. So neither a clock that is
set nor a database that hangs makes anybody look dead. Several may do all this at once: each step takes
effect once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from postroom.clock import Clock
from postroom.engine.journal import LOST, Replayed, Seized, peek, seize, workers_in
from postroom.engine.recover import Recovery, add, settle_all, settle_late
from postroom.engine.retry import Policy
from postroom.engine.settle import Settled
from postroom.ids import WorkerId
from postroom.logs import logger
from postroom.storage import workers
from postroom.storage.interface import Store
from postroom.storage.workers import Member

log = logger("engine")


class Reaper:
    """Of one process."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        folder: Path,
        instance: str,
        policy: Policy,
        lease_s: float,
        boot: str,
        told: Callable[[Settled], None] = lambda _: None,
    ) -> None:
        """folder: of this host's journals. told: of what was settled, after each commit."""
        self._store, self._clock, self._policy, self._told = store, clock, policy, told
        self._folder, self._instance, self._boot, self._lease_s = folder, instance, boot, lease_s
        self._watched: dict[WorkerId, tuple[int, int, float]] = {}  # epoch, renewals, seen so since
        self._foreign: set[tuple[WorkerId, int]] = set()

    # --- journals --------------------------------------------------------------------------------------

    async def look_at_journals(self) -> Recovery:
        """Take over from processes of this host that have ended. Raises PostroomError, OSError."""
        total = Recovery()
        for worker_id, epoch in await asyncio.to_thread(workers_in, self._folder):
            if (worker_id, epoch) in self._foreign:
                continue
            seized = await asyncio.to_thread(seize, self._folder, worker_id, epoch)
            if seized is not None:
                try:
                    total = add(total, await self._replay(seized))
                finally:
                    seized.close()
        return total

    async def _replay(self, seized: Seized) -> Recovery:
        worker_id, epoch = seized.worker_id, seized.epoch
        replayed = await asyncio.to_thread(seized.replay, self._instance, self._boot)
        if replayed is None:
            log.warning("a journal of another instance is left alone", worker=worker_id, epoch=epoch)
            self._foreign.add((worker_id, epoch))
            return Recovery()
        taken = await self._store.write(lambda: workers.take(worker_id, epoch))
        recovery = await settle_all(self._store, worker_id, replayed, self._policy, self._told)
        if not taken:  # somebody who could not read it was quicker, perhaps
            late = await settle_late(self._store, worker_id, replayed, self._policy, self._told)
            recovery = add(recovery, late)
        await self._store.write(lambda: workers.end(worker_id))
        await asyncio.to_thread(seized.discard)
        log.warning("a dead worker's journal was replayed", worker=worker_id, **vars(recovery))
        return recovery

    # --- leases ----------------------------------------------------------------------------------------

    def forget(self) -> None:
        """Our own renewals had a gap: everybody gets a whole lease more."""
        self._watched.clear()

    async def look_at_leases(self, members: Sequence[Member], own: WorkerId) -> Recovery:
        """Watch the others, and take over from those whose lease is over. Raises PostroomError.

        members: as just read; own: not to be watched.
        """
        now_s = self._clock.steady_s()
        total = Recovery()
        gone = set(self._watched) - {one.worker_id for one in members}
        for worker_id in gone:
            del self._watched[worker_id]
        for one in members:
            if one.worker_id == own:
                continue
            seen = self._watched.get(one.worker_id)
            if seen is None or seen[:2] != (one.epoch, one.renewals):
                self._watched[one.worker_id] = (one.epoch, one.renewals, now_s)
            elif now_s - seen[2] >= self._lease_s:
                total = add(total, await self._reap(one))
        return total

    async def _reap(self, member: Member) -> Recovery:
        worker_id = member.worker_id
        if not await self._store.write(lambda: workers.take(worker_id, member.epoch, member.renewals)):
            return Recovery()
        replayed = await asyncio.to_thread(self._peek, worker_id)
        recovery = await settle_all(self._store, worker_id, replayed, self._policy, self._told)
        await self._store.write(lambda: workers.end(worker_id))
        self._watched.pop(worker_id, None)
        log.error("a worker's lease is over", worker=worker_id, host=member.host, **vars(recovery))
        return recovery

    def _peek(self, worker_id: WorkerId) -> Replayed:
        for found, epoch in workers_in(self._folder):
            if found == worker_id:
                told = peek(self._folder, self._instance, worker_id, epoch, self._boot)
                return replace(told, begun=frozenset())  # it hangs, which no message may be blamed for
        return LOST
