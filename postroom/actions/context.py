"""What every action needs, handed down once by `wiring`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from postroom.actions.generations import Generation
from postroom.actions.key_cache import KeyCache
from postroom.actions.subject_streams import SubjectStreams
from postroom.clock import Clock
from postroom.core.actor import Actor as Actor  # every action takes both
from postroom.core.connection import Connection
from postroom.errors import Unavailable
from postroom.ids import AccountId, ConnectionId, DeliveryId, LaneId
from postroom.keyring import KeyRing
from postroom.loop_turns import LoopTurns
from postroom.storage.interface import Store
from postroom.storage.pauses import Pause
from postroom.storage.processes import Process
from postroom.tally import Tally
from postroom.templates.inline import Inliner
from postroom.tracing import Traces
from postroom.transports.interface import Outcome


class Hearer(Protocol):
    """Who wants to know, right after a commit, that something changed: the engine of this process.

    Missing a call costs time, never correctness: the engine also looks by itself.
    """

    def wake(self, lanes: Sequence[tuple[LaneId, int]]) -> None:
        """So many deliveries became ready on these lanes."""

    def connection_changed(self, connection_id: ConnectionId) -> None:
        """A connection was made, changed, tested, switched or deleted."""

    def room_changed(self, connection_id: ConnectionId) -> None:
        """Room under a connection's caps came back by a person's hand."""

    def facts_changed(self, account_id: AccountId) -> None:
        """Identities or other facts that routing depends on changed; account 0: for everybody."""

    async def pauses_changed(self, about: Pause) -> int:
        """A person paused or resumed this: in force when it returns. How many of its deliveries came too
        far to be given back; they end by themselves."""

    async def cancel_claims(self, deliveries: Sequence[DeliveryId]) -> frozenset[DeliveryId]:
        """Stop these before their final dot where possible; which are past it (or unknown) comes back."""

    async def let_go(self, connection_id: ConnectionId) -> frozenset[DeliveryId]:
        """A connection was deleted: give back what it holds. Returns, after half a minute at most, what is
        on its way still and ends by itself."""


class Peers(Protocol):
    """The processes that use the same database."""

    async def alive(self) -> Sequence[Process]:
        """Every `serve` process that lives, on whatever machine. Raises Unavailable."""

    async def without_key(self, key_id: str) -> Sequence[str]:
        """Which of those alive did not report this key of the key file, after they were asked; in words."""


class Prober(Protocol):
    """Tries a connection without sending a message: connect, secure, log in, quit."""

    async def probe(self, connection: Connection) -> Outcome:
        """The outcome; never raises for what the peer does."""


class Resolver(Protocol):
    """Asks DNS."""

    async def txt(self, name: str) -> Sequence[bytes]:
        """The TXT records at `name`, the strings of each joined; none: empty. Raises Unavailable."""


class NoResolver:
    """Where nobody is there to ask DNS: it does not answer."""

    async def txt(self, name: str) -> Sequence[bytes]:
        raise Unavailable(f"there is no way to ask DNS for {name}")


@dataclass(frozen=True)
class Limits:
    """Bounds on what may come in."""

    max_message_bytes: int = 25 << 20
    max_mail_headers: int = 200
    max_mail_header_bytes: int = 100 << 10
    max_recipients: int = 500
    idempotency_keep_s: float = 86_400.0


@dataclass(frozen=True)
class Context:
    """Handed to every action."""

    store: Store
    clock: Clock
    ring: KeyRing
    hearer: Hearer
    prober: Prober
    limits: Limits = Limits()
    keys: KeyCache = field(default_factory=KeyCache, compare=False, repr=False)
    # Of `keys`, where other processes use the database as well.
    key_generation: Generation | None = field(default=None, compare=False, repr=False)
    peers: Peers | None = field(default=None, compare=False, repr=False)
    # Idempotent requests that are running in this process: (key, name). Those of others are waited for.
    running: set[tuple[int, str]] = field(default_factory=set, compare=False, repr=False)
    traces: Traces | None = field(default=None, compare=False, repr=False)
    tally: Tally = field(default_factory=Tally, compare=False, repr=False)
    resolver: Resolver = field(default_factory=NoResolver, compare=False, repr=False)
    # Set when a bulk was accepted; whoever makes them into messages here waits for it.
    bulk_came: asyncio.Event = field(default_factory=asyncio.Event, compare=False, repr=False)
    # Between the messages of large requests, so that one request does not keep the loop to itself.
    turns: LoopTurns = field(default_factory=LoopTurns, compare=False, repr=False)
    inliner: Inliner = field(default_factory=Inliner, compare=False, repr=False)
    subjects: SubjectStreams = field(default_factory=SubjectStreams, compare=False, repr=False)
