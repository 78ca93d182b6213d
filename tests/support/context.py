"""A Context for tests of actions: a real database and key ring, and a hearer and prober that tell."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from postroom.actions.context import Actor, Context
from postroom.core.connection import Connection
from postroom.ids import AccountId, ConnectionId, DeliveryId, LaneId
from postroom.keyring import KeyRing
from postroom.storage.pauses import Pause
from postroom.transports.interface import Fault, Outcome, Phase, Result
from tests.support import stores
from tests.support.clock import FakeClock
from tests.support.stores import OpenStore

ACTOR = Actor("test")
PASSED = Outcome(Result.SENT, Fault.NONE, Phase.DONE, 221, text="2.0.0 Bye")
REFUSED_LOGIN = Outcome(Result.RETURNED, Fault.LOGIN, Phase.AUTH, 535, "5.7.8", "Authentication failed")


@dataclass
class FakeHearer:
    """Notes every call. `past_dot`: what `cancel_claims` comes too late for."""

    woken: list[tuple[LaneId, int]] = field(default_factory=list)
    connections: list[ConnectionId] = field(default_factory=list)
    facts: list[AccountId] = field(default_factory=list)
    claims: list[DeliveryId] = field(default_factory=list)
    past_dot: frozenset[DeliveryId] = frozenset()
    pauses: list[Pause] = field(default_factory=list)
    on_their_way: int = 0
    rooms: list[ConnectionId] = field(default_factory=list)

    def wake(self, lanes: Sequence[tuple[LaneId, int]]) -> None:
        self.woken += lanes

    def connection_changed(self, connection_id: ConnectionId) -> None:
        self.connections.append(connection_id)

    def room_changed(self, connection_id: ConnectionId) -> None:
        self.rooms.append(connection_id)

    def facts_changed(self, account_id: AccountId) -> None:
        self.facts.append(account_id)

    async def pauses_changed(self, about: Pause) -> int:
        self.pauses.append(about)
        return self.on_their_way

    async def let_go(self, connection_id: ConnectionId) -> frozenset[DeliveryId]:
        self.connections.append(connection_id)
        return self.past_dot

    async def cancel_claims(self, deliveries: Sequence[DeliveryId]) -> frozenset[DeliveryId]:
        self.claims += deliveries
        return self.past_dot.intersection(deliveries)


class FakeProber:
    """Answers `outcome` and keeps what it was asked to try; a test may override `meanwhile`."""

    def __init__(self, outcome: Outcome = PASSED) -> None:
        self.outcome = outcome
        self.asked: list[Connection] = []

    async def meanwhile(self) -> None:
        """Runs while the peer is being tried."""

    async def probe(self, connection: Connection) -> Outcome:
        self.asked.append(connection)
        await self.meanwhile()
        return self.outcome


@dataclass(frozen=True)
class Harness:
    """A Context and the fakes in it, by their own types."""

    ctx: Context
    store: OpenStore
    clock: FakeClock
    hearer: FakeHearer
    prober: FakeProber


@asynccontextmanager
async def make_harness(folder: Path) -> AsyncIterator[Harness]:
    """A context in `folder`; at its end key uses are written and the store is closed."""
    clock, hearer, prober = FakeClock(), FakeHearer(), FakeProber()
    ring = KeyRing.create(folder / "key")
    store = await stores.make_store(folder, clock)
    ctx = Context(store, clock, ring, hearer, prober)
    try:
        yield Harness(ctx, store, clock, hearer, prober)
    finally:
        await ctx.keys.close()
        await ctx.inliner.close()
        await store.close()


@asynccontextmanager
async def make_context(folder: Path) -> AsyncIterator[Context]:
    """Only the context, for tests that ask nothing of its fakes."""
    async with make_harness(folder) as harness:
        yield harness.ctx
