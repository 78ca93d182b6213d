"""How a deliver process is a worker: alone with its database, or one of many that hold leases.

Alone (SQLite) the lock file proves that nobody else lives, and no clock is involved. One of many renews a
lease in the database, and believes itself less long than the others believe it: its own deadline counts from
before it asked, by a clock that counts suspended time, and ends a margin earlier. Past it nothing goes out;
the process then begins anew as another worker, by itself.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import postroom
from postroom.clock import MICROS, Clock
from postroom.engine.claim import Worker
from postroom.engine.journal import Journal, boot_id
from postroom.engine.reaper import Reaper
from postroom.engine.recover import Recovery, end_cleanly, take_over
from postroom.engine.retry import Policy
from postroom.engine.settings import Leases
from postroom.engine.settle import Settled
from postroom.engine.slots import OwnSlots, SharedSlots, Slots
from postroom.errors import PostroomError
from postroom.ids import WorkerId
from postroom.logs import Trouble, logger
from postroom.storage import leader, workers
from postroom.storage.database_clock import DatabaseClock, measure
from postroom.storage.interface import Store, Work, now
from postroom.storage.workers import Identity, Member

log = logger("engine")
LEADS = "engine"  # the lease of who does what one engine does for all
WORKER = WorkerId(1)  # of a database that has one
DELIVERS = "deliver"  # the role of those who do
_TICK_S = 1.0
_RETRY_S = 1.0
_FORGET_EVERY_S = 600.0
_ENDED_KEPT_S = 7 * 86_400.0  # rows of ended workers, for who asks what ran where


def this_process(roles: str) -> Identity:
    """Who this is."""
    return Identity(socket.gethostname(), os.getpid(), boot_id(), roles, postroom.__version__)


class Lease:
    """For how long one worker may believe itself to be alive, by the steady clock."""

    def __init__(self, clock: Clock, until_s: float = float("inf")) -> None:
        self._clock, self._until_s = clock, until_s
        self._lost = False

    @property
    def over(self) -> bool:
        """Nothing more may go out, now and for ever."""
        if not self._lost and self._clock.steady_s() >= self._until_s:
            self._lost = True
        return self._lost

    @property
    def left_s(self) -> float:
        """How long it lasts from now on."""
        return 0.0 if self.over else self._until_s - self._clock.steady_s()

    def renewed(self, until_s: float) -> None:
        """It lasts until then; one that is over stays over."""
        if not self.over:
            self._until_s = until_s

    def lose(self) -> None:
        """Somebody else says so."""
        self._lost = True


@dataclass(frozen=True)
class _Renewed:
    at_us: int  # the database's clock then
    leads: bool
    members: Sequence[Member]


@dataclass(frozen=True)
class Joined:
    """A worker that has just begun."""

    worker: Worker
    journal: Journal
    lease: Lease
    slots: Slots
    recovery: Recovery


class Membership(Protocol):
    """How this process is a worker."""

    rejoins: bool  # one whose lease is over may begin anew as another

    @property
    def leads(self) -> bool:
        """It does what one engine does for all."""

    def part_of(self, sessions: int) -> int:
        """This worker's of what all who deliver share; all parts together are the whole."""

    async def join(self) -> Joined:
        """Become a worker, with what dead ones left taken over. Raises PostroomError, OSError."""

    async def mind(self) -> None:
        """What is due now: keeping the lease, looking after the others. Raises PostroomError."""

    async def keep(self) -> None:
        """Do so for ever."""

    async def leave(self, worker: Worker) -> bool:
        """This worker ends; True when it leaves nothing open, so that its journal may go."""


class Alone:
    """The one worker of its database."""

    rejoins = False
    leads = True

    def __init__(self, store: Store, clock: Clock, folder: Path, instance: str, policy: Policy) -> None:
        self._store, self._clock, self._policy = store, clock, policy
        self._folder, self._instance = folder, instance

    async def join(self) -> Joined:
        worker, journal, recovery = await take_over(
            self._store, self._folder, self._instance, WORKER, self._policy
        )
        return Joined(worker, journal, Lease(self._clock), OwnSlots(), recovery)

    def part_of(self, sessions: int) -> int:
        """All."""
        return sessions

    async def mind(self) -> None:
        """Nobody else is there."""

    async def keep(self) -> None:
        """Nothing is to be kept."""

    async def leave(self, worker: Worker) -> bool:
        return await self._store.write(lambda: end_cleanly(worker))


class Leased:
    """One of many workers."""

    rejoins = True

    def __init__(
        self,
        store: Store,
        clock: Clock,
        folder: Path,
        instance: str,
        policy: Policy,
        leases: Leases,
        identity: Identity,
        told: Callable[[Settled], None] = lambda _: None,
    ) -> None:
        """told: of what was taken from dead workers, after each commit."""
        self._store, self._clock, self._leases, self._identity = store, clock, leases, identity
        self._folder, self._instance = folder, instance
        self._reaper = Reaper(store, clock, folder, instance, policy, leases.lease_s, identity.boot, told)
        self._worker: Worker | None = None
        self._lease = Lease(clock, float("-inf"))
        self._renewed_s = float("-inf")  # when the last renewal was asked for
        self._asked_s = float("-inf")
        self._journals_s = float("-inf")
        self._members: Sequence[Member] | None = None  # as they were at the last renewal
        self._forgot_s = float("-inf")
        self._leads = False
        self._place, self._crowd = 0, 1  # among those who deliver

    @property
    def leads(self) -> bool:
        return self._leads and not self._lease.over

    def part_of(self, sessions: int) -> int:
        each, more = divmod(sessions, self._crowd)
        return max(1, each + (self._place < more))

    async def join(self) -> Joined:
        self._leads = False
        self._reaper.forget()
        recovery = await self._reaper.look_at_journals()
        asked_s = self._asked_s = self._renewed_s = self._clock.steady_s()
        lease_us = int(self._leases.lease_s * MICROS)

        def register() -> Work[tuple[WorkerId, bool]]:
            worker_id = yield from workers.register(self._identity, lease_us)
            return worker_id, (yield from leader.hold(LEADS, worker_id, self._leads_s))

        worker_id, leads = await self._store.write(register)
        worker = self._worker = Worker(worker_id, 1)
        lease = self._lease = Lease(self._clock, asked_s + self._lasts_s)
        journal = Journal(self._folder, self._instance, worker_id, 1, self._identity.boot)
        self._leads = leads
        self._stand(worker, await self._store.read(workers.members))
        return Joined(worker, journal, lease, SharedSlots(self._store, self._clock, worker), recovery)

    def _stand(self, worker: Worker, members: Sequence[Member]) -> None:
        """Where this worker stands among those who deliver."""
        ours = [one.worker_id for one in members if DELIVERS in one.roles.split()]
        self._crowd = max(1, len(ours))
        self._place = ours.index(worker.worker_id) if worker.worker_id in ours else 0

    @property
    def _leads_s(self) -> float:
        return 3 * self._leases.lease_renew_s

    @property
    def _lasts_s(self) -> float:
        return self._leases.lease_s - self._leases.lease_margin_s

    async def keep(self) -> None:
        # Two loops: however long it takes to look after the dead, the lease is renewed in time.
        await asyncio.gather(self._always(self._keep_lease), self._always(self._look_after))

    async def mind(self) -> None:
        await self._keep_lease()
        await self._look_after()

    async def _always(self, step: Callable[[], Awaitable[None]]) -> None:
        trouble = Trouble(log)
        while True:
            await asyncio.sleep(min(_TICK_S, self._leases.lease_renew_s / 10, self._leases.sibling_look_s))
            try:
                await step()
                trouble.over("the lease is kept again")
            except (PostroomError, OSError) as error:
                trouble.met("the lease could not be kept", error=str(error))
            except Exception:
                log.exception("keeping the lease failed unexpectedly")

    async def _keep_lease(self) -> None:
        """Renew where it is time to; what was not answered is tried again soon."""
        worker, lease, now_s = self._worker, self._lease, self._clock.steady_s()
        again_s = min(_RETRY_S, self._leases.lease_renew_s)
        if worker is None or lease.over or now_s - self._renewed_s < self._leases.lease_renew_s:
            return
        if now_s - self._asked_s < again_s:
            return
        self._asked_s = now_s
        lease_us = int(self._leases.lease_s * MICROS)

        def renew() -> Work[_Renewed | None]:
            at_us = yield from workers.renew(worker.worker_id, worker.epoch, lease_us)
            if at_us is None:
                return None
            leads = yield from leader.hold(LEADS, worker.worker_id, self._leads_s)
            return _Renewed(at_us, leads, (yield from workers.members()))

        renewed = await self._store.write(renew)
        after_s = self._clock.steady_s()
        if worker is not self._worker:
            return
        if renewed is None:
            log.error("this worker was taken for dead", worker=worker.worker_id)
            lease.lose()
            return
        if now_s - self._renewed_s > 2 * self._leases.lease_renew_s:
            self._reaper.forget()  # others could not renew either, perhaps: everybody gets a whole lease
        self._renewed_s = now_s
        lease.renewed(now_s + self._lasts_s)
        self._leads, self._members = renewed.leads, renewed.members
        self._stand(worker, renewed.members)
        if isinstance(self._clock, DatabaseClock) and not self._clock.agrees(now_s, renewed.at_us, after_s):
            await measure(self._store, self._clock)

    async def _look_after(self) -> None:
        """Journals of the dead on this host every moment; leases after each renewal of ours."""
        worker, lease, now_s = self._worker, self._lease, self._clock.steady_s()
        if worker is None or lease.over:
            return
        if now_s - self._journals_s >= self._leases.sibling_look_s:
            self._journals_s = now_s
            await self._reaper.look_at_journals()
        members, self._members = self._members, None
        if members is not None:
            await self._reaper.look_at_leases(members, worker.worker_id)
        if self.leads and now_s - self._forgot_s >= _FORGET_EVERY_S:
            self._forgot_s = now_s
            await self._forget_ended()

    async def _forget_ended(self) -> None:
        def forget() -> Work[None]:
            at_us = yield from now()
            yield from workers.forget(at_us - int(_ENDED_KEPT_S * MICROS))

        await self._store.write(forget)

    async def leave(self, worker: Worker) -> bool:
        return await self._store.write(lambda: workers.end(worker.worker_id))
