"""Several engines on one database, as processes of one or more hosts, all by one clock that tests move."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from postroom.core.message import DeliveryState, Purpose
from postroom.engine.dispatcher import Dispatcher
from postroom.engine.settings import EngineSettings, Leases
from postroom.ids import ConnectionId, LaneId, MessageId
from postroom.storage.interface import Rows, Sql, Store, Work
from postroom.storage.workers import Identity
from postroom.transports.interface import Envelope
from tests.support import seed_rows, stores
from tests.support.clock import FakeClock
from tests.support.engine import LINKS, QUICK, connection_of, transport_to

CROWD = replace(QUICK, leases=Leases(), sessions_per_connection=4)


@dataclass
class Crowd:
    """Engines on one store; each is a process of its own in all but the loop they run on."""

    folder: Path
    clock: FakeClock
    settings: EngineSettings
    store: Store
    engines: list[Dispatcher] = field(default_factory=list)
    sent: int = 0

    async def join(self, host: str = "here", boot: str = "1") -> Dispatcher:
        """One more engine. host: whose journals it can read."""
        made = Dispatcher(
            self.store,
            self.clock,
            transport_to,
            lambda _, connection_id: connection_of(self.store, connection_id),
            self.folder / host,
            "instance",
            self.settings,
            LINKS,
            identity=Identity(host, len(self.engines), boot, "deliver", "1"),
        )
        made.terms.membership.keep = _nothing  # type: ignore[method-assign]  # leases are minded by `pass_time`
        await made.start()
        self.engines.append(made)
        return made

    def hang(self, engine: Dispatcher, *, looks: bool = False) -> asyncio.Event:
        """It stops, as by SIGSTOP: nothing is looked at, and what it has claimed stays before its dot, until
        the event is set. looks: only the latter."""
        goes_on = asyncio.Event()
        envelope = engine._composer.envelope

        async def slowly(*given: Any, **more: Any) -> Envelope:  # Any: handed through
            made = await envelope(*given, **more)
            await goes_on.wait()
            return made

        async def look() -> None:
            await goes_on.wait()
            del engine.looking.look  # the method again
            await engine.looking.look()

        engine._composer.envelope = slowly  # type: ignore[method-assign]
        if not looks:
            engine.looking.look = look  # type: ignore[method-assign]
        return goes_on

    async def kill(self, engine: Dispatcher) -> None:
        """As SIGKILL would: what it knew is gone, but for its journal, whose lock is free."""
        self.engines.remove(engine)
        term = engine.terms.present
        engine.running = False
        if term is not None:  # what the end of its tasks would still say is never said
            term.settler.put = lambda *_: None  # type: ignore[method-assign]
            term.journal.outcome = lambda *_: None  # type: ignore[method-assign]
        await engine._tasks.cancel()
        for runner in engine.runners.values():
            runner.draining = True
            await runner._tasks.cancel()
        if term is not None:
            await term.settler.stop()
            term.journal.close(remove=False)

    async def pass_time(
        self, seconds: float, *living: Dispatcher, step_s: float = Leases().lease_renew_s
    ) -> None:
        """Time passes in steps of a renewal; at each these mind their leases, and the others do not."""
        while seconds > 0:
            self.clock.advance(min(step_s, seconds))
            seconds -= step_s
            for engine in living:
                await engine.terms.membership.mind()

    async def rows(self, text: str, **params: object) -> Rows:
        def work() -> Work[Rows]:
            return (yield Sql(text, params))

        return await self.store.read(work)

    async def connection(self, port: int, hourly_cap: int | None = None) -> ConnectionId:
        """A connection to this port that may send everything."""
        made = await self.store.write(lambda: seed_rows.connection(hourly_cap, None, "127.0.0.1", port))
        for engine in self.engines:
            engine.connection_changed(made)
        return made

    async def accept(self, purpose: Purpose, recipients: Sequence[str]) -> tuple[MessageId, LaneId]:
        """Accept a message and tell nobody."""
        self.sent += 1
        name = f"m{self.sent}"
        return await self.store.write(lambda: seed_rows.message(purpose, recipients, name))

    async def send(self, purpose: Purpose, recipients: Sequence[str], *told: Dispatcher) -> None:
        """Accept a message and tell these engines, or all."""
        _, lane = await self.accept(purpose, recipients)
        for engine in told or self.engines:
            engine.wake([(lane, len(recipients))])

    async def states(self) -> Counter[str]:
        """How many deliveries are in each state."""
        return Counter(dict(await self.rows("SELECT state, COUNT(*) FROM deliveries GROUP BY state")))

    async def until(
        self, what: Callable[[Counter[str]], bool], timeout_s: float = 20.0, *, flows: bool = False
    ) -> Counter[str]:
        """Wait until the states are as wanted. flows: a little time passes at each look, by their clock."""
        states = Counter[str]()
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    states = await self.states()
                    if what(states):
                        return states
                    await asyncio.sleep(0.01)
                    self.clock.advance(0.02 * flows)
        except TimeoutError:
            raise AssertionError(f"it ends with {dict(states)}") from None

    async def until_settled(self, *, flows: bool = False) -> Counter[str]:
        """Wait until nothing waits any more."""
        waiting = {DeliveryState.READY, DeliveryState.CLAIMED, DeliveryState.UNKNOWN}
        return await self.until(lambda states: not any(states[one] for one in waiting), flows=flows)

    async def open_workers(self) -> list[int]:
        """Workers that have not ended."""
        rows = await self.rows("SELECT worker_id FROM workers WHERE ended_at IS NULL ORDER BY worker_id")
        return [row[0] for row in rows]


async def _nothing() -> None:
    """By hand."""


@asynccontextmanager
async def crowd(folder: Path, *, settings: EngineSettings = CROWD) -> AsyncIterator[Crowd]:
    """With an account and a server; nobody is at work yet."""
    clock = FakeClock()
    await stores.make_database(folder, clock, seed_rows.tenants)
    store = stores.open_store(folder, clock)
    found = Crowd(folder, clock, settings, store)
    try:
        yield found
    finally:
        for engine in found.engines:
            await engine.stop(5.0)
        await store.close()
