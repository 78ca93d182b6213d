"""A running engine on a real database, real sockets and a real sink, for tests of delivery."""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from postroom.clock import Clock, SystemClock
from postroom.core.connection import Connection, DeliveryMethod, Security, Vendor
from postroom.core.message import DeliveryState, Purpose
from postroom.engine.dispatcher import Dispatcher
from postroom.engine.retry import Policy
from postroom.engine.settings import EngineSettings
from postroom.ids import AccountId, ConnectionId, MessageId
from postroom.storage import routes
from postroom.storage.interface import Rows, Sql, Store, Work
from postroom.tracking.links import PATHS, MailLinks
from postroom.tracking.tokens import SigningKeys
from postroom.transports.dialer import Dialer
from postroom.transports.interface import SmtpTarget, StartTls, Timeouts, Transport
from postroom.transports.smtp import SmtpTransport
from tests.support import seed_rows, stores
from tests.support.sink import Received, Sink, SinkOptions
from tests.support.stores import OpenStore

QUICK = EngineSettings(
    policy=Policy(unknown_wait_s=0.2),
    backoff_first_s=0.05,
    backoff_longest_s=0.2,
    look_every_s=0.02,
)
LINKS = MailLinks([SigningKeys(kind, 1, {1: b"k" * 32}) for kind in PATHS], "https://post.example")
_TIMEOUTS = Timeouts(2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 0.2)


@dataclass
class Bench:
    """One store with one engine at a time; `die` leaves it as a SIGKILL would.

    tls: whom to trust; with it STARTTLS is required, without it never used.
    """

    folder: Path
    clock: Clock
    settings: EngineSettings
    store: OpenStore
    engine: Dispatcher
    tls: ssl.SSLContext | None = None
    timeouts: Timeouts = _TIMEOUTS
    ports: dict[ConnectionId, int] = field(default_factory=dict)
    sent: int = 0
    at_end: list[Callable[[], Awaitable[None]]] = field(default_factory=list)

    async def rows(self, text: str, **params: object) -> Rows:
        def work() -> Work[Rows]:
            return (yield Sql(text, params))

        return await self.store.read(work)

    async def do(self, text: str, **params: object) -> Rows:
        def work() -> Work[Rows]:
            return (yield Sql(text, params))

        return await self.store.write(work)

    async def connection(
        self,
        port: int,
        hourly_cap: int | None = None,
        daily_cap: int | None = None,
        host: str = "127.0.0.1",
    ) -> ConnectionId:
        """A connection to this port that may send everything."""
        made = await self.store.write(lambda: seed_rows.connection(hourly_cap, daily_cap, host, port))
        self.engine.connection_changed(made)
        return made

    async def send(self, purpose: Purpose, recipients: Sequence[str], body: str = "hello") -> MessageId:
        """Accept a message and tell the engine."""
        self.sent += 1
        name = f"m{self.sent}"
        message, lane = await self.store.write(lambda: seed_rows.message(purpose, recipients, name, body))
        self.engine.wake([(lane, len(recipients))])
        return message

    async def states(self) -> Counter[str]:
        """How many deliveries are in each state."""
        return Counter(dict(await self.rows("SELECT state, COUNT(*) FROM deliveries GROUP BY state")))

    async def until(self, what: Callable[[Counter[str]], bool], timeout_s: float = 20.0) -> Counter[str]:
        """Wait until the states are as wanted."""
        async with asyncio.timeout(timeout_s):
            while True:
                states = await self.states()
                if what(states):
                    return states
                await asyncio.sleep(0.01)

    async def until_settled(self, timeout_s: float = 20.0) -> Counter[str]:
        """Wait until nothing waits any more."""
        waiting = {DeliveryState.READY, DeliveryState.CLAIMED, DeliveryState.UNKNOWN}
        return await self.until(lambda states: not any(states[one] for one in waiting), timeout_s)

    async def restart(self) -> None:
        """A clean stop and a new engine on a store opened again."""
        await self.engine.stop(5.0)
        await self.store.close()
        self.store = stores.open_store(self.folder, self.clock)
        self.engine = self._engine()
        await self.engine.start()

    def _engine(self) -> Dispatcher:
        return Dispatcher(
            self.store,
            self.clock,
            self._transport,
            self._load,
            self.folder / "journal",
            "instance",
            self.settings,
            LINKS,
        )

    async def _load(self, account_id: AccountId, connection_id: ConnectionId) -> Connection:
        return await connection_of(self.store, connection_id)

    def _transport(self, connection: Connection) -> Transport:
        return transport_to(connection, self.tls, self.timeouts)


async def connection_of(store: Store, connection_id: ConnectionId) -> Connection:
    """A seeded connection, as the engine is handed it."""

    def where() -> Work[Rows]:
        which = {"c": connection_id}
        return (yield Sql("SELECT host, port FROM connections WHERE connection_id = :c", which))

    route = await store.read(lambda: routes.route(connection_id))
    assert route is not None
    rows = await store.read(where)
    return Connection(
        account_id=route.account_id,
        connection_id=connection_id,
        server_id=route.server_id,
        uid=b"u" * 16,
        label=route.label,
        vendor=Vendor.OTHER,
        delivery_method=DeliveryMethod.SMTP,
        enabled=route.enabled,
        failed_at_us=None,
        failed_reason=None,
        disabled_at_us=None,
        held_until_us=None,
        purposes=route.purposes,
        hourly_cap=route.hourly_cap,
        daily_cap=route.daily_cap,
        host=rows[0][0],
        port=rows[0][1],
        security=Security.NEVER,
        auth="",
        sender=None,
        options={},
        version=route.version,
        created_at_us=0,
        updated_at_us=0,
        deleted_at_us=None,
    )


def transport_to(
    connection: Connection, tls: ssl.SSLContext | None = None, timeouts: Timeouts = _TIMEOUTS
) -> Transport:
    """Its SMTP. tls: as of `Bench`."""
    starttls = StartTls.NEVER if tls is None else StartTls.REQUIRED
    target = SmtpTarget(connection.host, connection.port, starttls, helo_name="test", timeouts=timeouts)
    return SmtpTransport(target, Dialer(), ssl_context=tls)


@asynccontextmanager
async def bench(
    folder: Path,
    *,
    clock: Clock | None = None,
    settings: EngineSettings = QUICK,
    durable: bool = False,
    tls: ssl.SSLContext | None = None,
    timeouts: Timeouts = _TIMEOUTS,
) -> AsyncIterator[Bench]:
    """An engine with one account and one server and no connection yet.

    durable: a SQLite file with fsync, as in life.
    """
    clock = clock or SystemClock()
    await stores.make_database(folder, clock, seed_rows.tenants)
    store = stores.open_store(folder, clock, durable=durable)
    # type: ignore: the engine is made from it, next line.
    made = Bench(folder, clock, settings, store, None, tls, timeouts)  # type: ignore[arg-type]
    made.engine = made._engine()
    await made.engine.start()
    try:
        yield made
    finally:
        for close in made.at_end:
            await close()
        await made.engine.stop(5.0)
        await made.store.close()


@asynccontextmanager
async def sink(
    folder: Path, on_message: Callable[[Received], None] | None = None, **options: object
) -> AsyncIterator[Sink]:
    """A sink in this process, on a free port."""
    made = Sink(replace(SinkOptions(folder / "sink.log"), **options), on_message)  # type: ignore[arg-type]  # its fields
    await made.start()
    try:
        yield made
    finally:
        await made.stop()
