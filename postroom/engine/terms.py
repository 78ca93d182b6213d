"""The terms of this process: its present one as a worker, and former ones until nothing of theirs is open.

A process whose lease is over cuts its sessions and begins anew as another worker, by itself. What the old one
had under way is settled under the old term: as if nothing had been, where nobody took it for dead meanwhile,
and else as late news.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from postroom.engine import strays
from postroom.engine.membership import Membership
from postroom.engine.recover import Recovery
from postroom.engine.retry import Policy
from postroom.engine.settle import Settled
from postroom.engine.tasks import Tasks
from postroom.engine.term import Term
from postroom.engine.under_way import UnderWay
from postroom.errors import PostroomError, Unavailable
from postroom.logs import logger
from postroom.storage.interface import Store

log = logger("engine")
_WIND_UP_LOOK_S = 0.1
_STRAYS_EVERY_S = 30.0


class Terms:
    """Of one process."""

    def __init__(
        self,
        store: Store,
        membership: Membership,
        policy: Policy,
        attempts: UnderWay,
        told: Callable[[Settled], None],
        cut: Callable[[], None],
        tasks: Tasks,
    ) -> None:
        """attempts: those under way, of all terms. told: after each settling's commit. cut: ends every
        session and gives back what is claimed."""
        self._store, self.membership, self._policy = store, membership, policy
        self._attempts, self._told, self._cut, self._tasks = attempts, told, cut, tasks
        self._strays_s = float("-inf")
        self._in_doubt = False
        self.present: Term | None = None

    @property
    def over(self) -> bool:
        """No term is on: nothing may go out and nothing be claimed."""
        return self.present is None or self.present.over

    async def begin(self) -> Recovery:
        """Become a worker, with what dead ones left taken over. Raises Unavailable."""
        try:
            joined = await self.membership.join()
        except OSError as error:
            raise Unavailable(f"the outcome journal cannot be used: {error.strerror}") from error
        self.present = Term(self._store, self._policy, joined, self._told)
        worker = joined.worker
        log.info("worker started", worker=worker.worker_id, epoch=worker.epoch, **vars(joined.recovery))
        return joined.recovery

    def claim_in_doubt(self) -> None:
        """The database did not say whether it made a claim."""
        self._in_doubt = True

    async def look(self, now_s: float) -> None:
        """Begin anew where the term is over, and keep the present one in order. Raises PostroomError."""
        if self.over:
            if self.membership.rejoins:
                await self._begin_anew()
            return
        assert self.present is not None
        await self.present.slots.look()
        if self._in_doubt or now_s - self._strays_s >= _STRAYS_EVERY_S:
            self._strays_s = now_s
            settled = await strays.give_back(self._store, self.present, self._attempts, self._policy)
            before = self.present.strays
            self._in_doubt = before is not None and bool(before[0])
            self._told(settled)

    async def _begin_anew(self) -> None:
        old, self.present = self.present, None
        if old is not None:
            log.error("the lease is over: sessions are cut, and this process begins anew")
            self._cut()
            self._tasks.spawn(self._wind_up(old))
        await self.begin()

    async def _wind_up(self, term: Term) -> None:
        """Settle what it has open, then end it."""
        while True:
            await asyncio.sleep(_WIND_UP_LOOK_S)
            if any(attempt.term is term for attempt in list(self._attempts.values())):
                continue
            try:
                clean = await self.membership.leave(term.worker)
            except PostroomError as error:
                log.debug("a former worker ends later", error=str(error))
            else:
                break
        await term.settler.stop()
        term.journal.close(remove=clean)
        log.info("a former worker has ended", worker=term.worker.worker_id, clean=clean)

    async def stop(self, timeout_s: float) -> None:
        """Settle everything and end cleanly; what cannot be written stays in the journal."""
        term = self.present
        if term is None:
            return
        clean = False
        try:
            async with asyncio.timeout(timeout_s):
                await term.settler.flush()
            clean = await self.membership.leave(term.worker)
        except (TimeoutError, Unavailable) as error:
            log.error("stopped with outcomes unwritten; the journal has them", error=str(error))
        await term.settler.stop()
        term.journal.close(remove=clean)
