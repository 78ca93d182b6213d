"""How one connection's mail goes out: its transport with the settings of now, and what its vendor allows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from postroom.clock import Clock
from postroom.core.connection import Connection
from postroom.engine.quota_reader import QuotaReader
from postroom.ids import AccountId, ConnectionId
from postroom.storage.interface import Store
from postroom.storage.routes import Route
from postroom.transports.interface import Fault, OpenFailed, Outcome, Phase, Result, Session, Transport


class WayOut:
    """Of one connection."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        route: Callable[[], Route],
        transport_for: Callable[[Connection], Transport | None],
        load_connection: Callable[[AccountId, ConnectionId], Awaitable[Connection]],
    ) -> None:
        """route: the connection's, as it is now."""
        self._route = route
        self._transport_for, self._load_connection = transport_for, load_connection
        self._made: tuple[int, Transport] | None = None
        self._quota = QuotaReader(store, clock, route)

    async def transport(self) -> Transport:
        """With the settings of now. Raises OpenFailed when there is no way, PostroomError."""
        route = self._route()
        if self._made is None or self._made[0] != route.version:
            connection = await self._load_connection(route.account_id, route.connection_id)
            transport = self._transport_for(connection)
            if transport is None:
                text = "no transport for its method"
                raise OpenFailed(Outcome(Result.RETURNED, Fault.CONNECTION, Phase.CONNECT, text=text))
            self._made = (connection.version, transport)
        return self._made[1]

    async def open(self) -> Session:
        """A new session. Raises OpenFailed, PostroomError."""
        return await (await self.transport()).open()

    @property
    def _account(self) -> Transport | None:
        return None if self._made is None else self._made[1]

    async def note_quota(self) -> None:
        """Keep what the vendor said at a session's login, before anything is claimed for it."""
        await self._quota.note(self._account)

    def quota_due(self, *, used_up: bool, may_ask: bool) -> bool:
        """Whether `read_quota` is to be called now."""
        return self._quota.due(self._account, used_up=used_up, may_ask=may_ask)

    async def read_quota(self, *, used_up: bool, may_ask: bool) -> None:
        """Ask the vendor if it is time to, and keep what it said."""
        await self._quota.read(self._account, used_up=used_up, may_ask=may_ask)
