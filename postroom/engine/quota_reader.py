"""What the vendor behind one connection allows by itself: read at a login, and now and then after it."""

from __future__ import annotations

from collections.abc import Callable

from postroom.clock import Clock
from postroom.engine.room import QUOTA_AGAIN_S
from postroom.errors import PostroomError
from postroom.ids import ConnectionId
from postroom.logs import logger
from postroom.storage import quotas
from postroom.storage.interface import Store
from postroom.storage.quotas import Mark
from postroom.storage.routes import Route
from postroom.transports.interface import Account, Quota, Transport

log = logger("engine")
QUOTA_EVERY_S = 300.0


class QuotaReader:
    """Of one connection."""

    def __init__(self, store: Store, clock: Clock, route: Callable[[], Route]) -> None:
        """route: the connection's, as it is now."""
        self._store, self._clock, self._route = store, clock, route
        self._stored: Quota | None = None  # as the transport said it last, stored
        self._read_s = clock.steady_s()
        self._reading = False

    @property
    def _connection_id(self) -> ConnectionId:
        return self._route().connection_id

    def due(self, transport: Transport | None, *, used_up: bool, may_ask: bool) -> bool:
        """Whether `read` is to be called now: every few minutes, more often while it is used up."""
        if not isinstance(transport, Account) or self._reading:
            return False
        return self._to_ask(used_up=used_up, may_ask=may_ask) or transport.quota is not self._stored

    def _to_ask(self, *, used_up: bool, may_ask: bool) -> bool:
        every_s = QUOTA_AGAIN_S if used_up else QUOTA_EVERY_S
        return may_ask and self._clock.steady_s() - self._read_s >= every_s

    async def read(self, account: Transport | None, *, used_up: bool, may_ask: bool) -> None:
        """Ask if it is time to, and store what was said."""
        if not isinstance(account, Account) or self._reading:
            return
        self._reading = True
        ask = self._to_ask(used_up=used_up, may_ask=may_ask)
        try:
            route = self._route()
            which = (route.account_id, route.connection_id)
            mark = await self._store.read(lambda: quotas.mark(*which)) if ask else None
            before = account.quota
            if ask:
                await account.check()
            if ask and account.quota is before:  # nothing new was said: what was granted since counts on
                self._read_s = self._clock.steady_s()
            else:
                await self._keep(account, mark)
        except PostroomError as error:
            log.warning("a quota could not be stored", connection=self._connection_id, error=str(error))
        finally:
            self._reading = False

    async def note(self, account: Transport | None) -> None:
        """What was said at a session's login, before anything is claimed for it."""
        if not isinstance(account, Account) or account.quota is self._stored:
            return
        try:
            await self._keep(account, None)
        except PostroomError as error:  # no trouble of the connection's; `read` tries again
            log.warning("a quota could not be stored", connection=self._connection_id, error=str(error))

    async def _keep(self, account: Account, mark: Mark | None) -> None:
        quota, self._read_s = account.quota, self._clock.steady_s()
        route = self._route()
        if quota is not None:
            await self._store.write(
                lambda: quotas.save(
                    route.account_id, route.connection_id, quota.per_day, quota.used, quota.per_second, mark
                )
            )
        self._stored = quota
