"""LISTEN and NOTIFY: one connection of this process to PostgreSQL itself, past any pooler.

It is opened when something is said or listened for, and again by itself when it broke; then the listener is
told that it may have missed something. Its name among the server's sessions is the process's, so that while
it stands every other process sees that this one is alive.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import asyncpg

from postroom.errors import Unavailable
from postroom.logs import Trouble, logger
from postroom.storage.postgres_engine import DRIVER_ERRORS

CHANNEL = "postroom"
_NAME = "postroom "
_ANSWER_S = 5.0
_PING_EVERY_S = 15.0
_AGAIN_FIRST_S, _AGAIN_LONGEST_S = 0.2, 5.0
_LOST = (*DRIVER_ERRORS, TimeoutError)
log = logger("news")


class PostgresWire:
    """Used on one event loop."""

    def __init__(self, url: str, process: str, *, pooler: bool = False) -> None:
        """process: a name of its own. pooler: `url` is one in transaction mode; nobody can listen by that."""
        self._url, self.process, self.listens = url, process, not pooler
        self._connection: Any = None  # Any: asyncpg's connection (its types are not published)
        self._using = asyncio.Lock()
        self._broke = asyncio.Event()
        self._keeping: asyncio.Task[None] | None = None
        self._trouble = Trouble(log)
        self._heard: Callable[[str], None] | None = None

    async def listen(self, heard: Callable[[str], None], missed: Callable[[], None]) -> None:
        """Hear what is said from now on; missed: called each time that nothing could be heard for a while.

        Raises Unavailable when the server cannot be reached.
        """
        if not self.listens:
            log.warning("changes made in other processes are seen late: set database_direct_url")
            return
        self._heard = heard
        async with self._using:
            await self._open()
        self._keeping = asyncio.create_task(self._keep(missed), name="news")

    async def say(self, text: str) -> None:
        """Every process that listens hears it. Raises Unavailable."""
        async with self._using:
            connection = await self._open()
            try:
                await connection.execute("SELECT pg_notify($1, $2)", CHANNEL, text, timeout=_ANSWER_S)
            except _LOST as error:
                self._drop()
                raise Unavailable(f"the database does not take it: {type(error).__name__}") from error

    async def alive(self) -> frozenset[str]:
        """Names of the processes whose connection stands. Raises Unavailable."""
        async with self._using:
            connection = await self._open()
            try:
                rows = await connection.fetch(
                    "SELECT application_name FROM pg_stat_activity"
                    " WHERE datname = current_database() AND starts_with(application_name, $1)",
                    _NAME,
                    timeout=_ANSWER_S,
                )
            except _LOST as error:
                self._drop()
                raise Unavailable(f"the database does not say: {type(error).__name__}") from error
            return frozenset(row[0].removeprefix(_NAME) for row in rows)

    async def close(self) -> None:
        """End it."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(*_LOST):
                await connection.close(timeout=1.0)

    # --- the connection --------------------------------------------------------------------------------

    async def _open(self) -> Any:  # Any: asyncpg's connection
        """The connection; `_using` is held. Raises Unavailable."""
        if self._connection is not None and not self._connection.is_closed():
            return self._connection
        settings = {"application_name": _NAME + self.process, "synchronous_commit": "off"}
        try:
            connection = await asyncpg.connect(
                self._url,
                timeout=_ANSWER_S,
                statement_cache_size=0,
                server_settings=settings if self.listens else None,
            )
            if self._heard is not None:
                connection.add_termination_listener(lambda _: self._broke.set())
                await connection.add_listener(CHANNEL, self._hear)
        except (*_LOST, ValueError) as error:
            raise Unavailable(f"the database cannot be reached: {type(error).__name__}") from error
        self._connection = connection
        return connection

    def _hear(self, _connection: object, _pid: int, _channel: str, text: object) -> None:
        if self._heard is not None:
            try:
                self._heard(str(text))
            except Exception:  # one that cannot be dealt with must not end the listening
                log.exception("what another process told could not be used")

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
            self._broke.set()

    async def _keep(self, missed: Callable[[], None]) -> None:
        """Notice that it broke, and open it again."""
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._broke.wait(), _PING_EVERY_S)
            if not self._broke.is_set():
                await self._ping()
            if self._broke.is_set():
                await self._reopen()
                missed()

    async def _ping(self) -> None:
        """A server that went without a word, or a network that drops us, is noticed by this."""
        async with self._using:
            try:
                if self._connection is not None:
                    await self._connection.execute("SELECT 1", timeout=_ANSWER_S)
            except _LOST:
                self._drop()

    async def _reopen(self) -> None:
        again_s = _AGAIN_FIRST_S
        while True:
            self._broke.clear()
            try:
                async with self._using:
                    await self._open()
            except Unavailable as error:
                self._trouble.met("the other processes cannot be heard", error=str(error))
                await asyncio.sleep(random.uniform(again_s / 2, again_s))  # noqa: S311 - it only spreads
                again_s = min(again_s * 2, _AGAIN_LONGEST_S)
            else:
                self._trouble.over("the other processes are heard again")
                return
