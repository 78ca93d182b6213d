"""PostgreSQL: units of work as transactions, many at a time, on a few connections of this process.

Each unit is a transaction of its own at READ COMMITTED. What the server calls off because of others (a
deadlock, a lost serialisation, a lock that was not to be had) and what a broken connection cuts short before
its COMMIT is run again from its beginning, within the time a caller is made to wait; a COMMIT whose answer
is lost is an error, since nobody here knows whether it was made.

Units that share (`write(share=True)`) gather while others commit and go together in one transaction, side by
side: a statement at which several are runs once for all of them. If one raises after it changed something,
the transaction is given up and each is run alone, so what one raises reaches its caller only.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import asyncpg
import msgspec

from postroom.clock import Clock
from postroom.errors import Unavailable
from postroom.logs import Trouble, logger
from postroom.storage.interface import Work
from postroom.storage.postgres_engine import DRIVER_ERRORS, engine_for
from postroom.storage.postgres_link import Link, Raised
from postroom.storage.postgres_plans import Growth
from postroom.tally import COMMIT_BOUNDS_S, Histogram

T = TypeVar("T")
log = logger("storage")
_AGAIN_S = 5
_DAYS_GONE = 3
_RECONNECT_S = 0.2
_ONE_TRY_S = 1.0  # while it is known to be down
_LATE_TRY_S = 4.0  # of who waited for others to commit
# Groups under way at once. One as a rule: what comes while it commits is the next one, and the fewer there
# are the less each message costs. A second where many wait already, or where the first is held up.
_SHARERS = 2
_HELD_UP_S = 0.05

# The server called it off because of others, or ended the session: the same again may well succeed.
_CALLED_OFF = ("40001", "40P01", "55P03")
_ENDED = ("08", "57P", "53", "58", "XX")
_READ_ONLY = "25006"
_LOST = tuple(one for one in DRIVER_ERRORS if one is not asyncpg.PostgresError)


class _Unit(msgspec.Struct):
    work: Callable[[], Work[Any]]  # Any: units of all callers share one queue
    future: asyncio.Future[Any]
    asked_s: float


class _InDoubt(Exception):
    """COMMIT was sent and its answer did not come."""


def called_off(error: BaseException) -> bool:
    """Whether the server undid this because of other transactions."""
    return isinstance(error, asyncpg.PostgresError) and error.sqlstate in _CALLED_OFF


def lost(error: BaseException) -> bool:
    """Whether it says something of the server or the way to it, and nothing of the statement."""
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        return state.startswith(_ENDED)
    return isinstance(error, _LOST)


class PostgresStore:
    """The Store on PostgreSQL. Made and used on one event loop."""

    def __init__(
        self,
        url: str,
        clock: Clock | None = None,
        *,
        pooler: bool = False,
        connections: int = 10,
        queue_units: int = 10_000,
        queue_bytes: int = 256 << 20,
        group_commit_max: int = 50,
        patience_s: float = 10.0,
    ) -> None:
        """clock: answers `Now` instead of the server, for tests.

        connections: of this process at most. patience_s: how long a caller is made to wait for a server
        that does not answer, before errors.Unavailable.
        """
        self._engine, self._clock, self._pooler = engine_for(url, pooler=pooler), clock, pooler
        self._most, self._patience_s, self._group_max = connections, patience_s, group_commit_max
        self._queue_units, self._queue_bytes = queue_units, queue_bytes
        self._growth = Growth()
        self._free: list[Link] = []
        self._open = 0
        self._came_back: deque[asyncio.Future[None]] = deque()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._sharing: deque[_Unit] = deque()
        self._sharers = 0
        self._down_since_s: float | None = None
        self._trouble = Trouble(log)
        self._closing = False
        self.waiting_units = 0
        self.waiting_bytes = 0
        self.statements = 0
        self.commits = 0
        self.units = 0
        self.failed_commits = 0
        self.run_again = 0
        self.commit_s = Histogram(COMMIT_BOUNDS_S)

    # --- the Store -------------------------------------------------------------------------------------

    async def read(self, work: Callable[[], Work[T]]) -> T:
        if self._closing:
            raise Unavailable("shutting down")
        return await self._patiently(
            lambda link: self._snapshot(link, lambda: link.run(work(), write=False)), "read"
        )

    async def read_each(self, works: Sequence[Callable[[], Work[T]]]) -> list[T]:
        if self._closing:
            raise Unavailable("shutting down")

        async def run(link: Link) -> list[T]:
            found = await link.run_together([work() for work in works], only_reads=True)
            for one in found:
                if isinstance(one, Raised):
                    raise one.error
            return [one for one in found if not isinstance(one, Raised)]

        return await self._patiently(lambda link: self._snapshot(link, lambda: run(link)), "read")

    async def write(self, work: Callable[[], Work[T]], size_bytes: int = 0, *, share: bool = False) -> T:
        if self._closing:
            raise Unavailable("shutting down")
        if self.waiting_units >= self._queue_units or (
            self.waiting_bytes + size_bytes > self._queue_bytes and self.waiting_units
        ):
            raise Unavailable("too much is waiting to be written", retry_after_s=2)
        self.waiting_units += 1
        self.waiting_bytes += size_bytes
        try:
            # Shielded: a caller that goes away does not stop what may already be committed.
            if share:
                return await asyncio.shield(self._shared(work))
            return await asyncio.shield(self._spawn(self._alone(work)))
        finally:
            self.waiting_units -= 1
            self.waiting_bytes -= size_bytes

    async def close(self) -> None:
        self._closing = True
        while self._tasks:
            await asyncio.wait(self._tasks)
        for link in self._free:
            await link.close()
        self._free.clear()
        await self._engine.dispose()

    # --- units -----------------------------------------------------------------------------------------

    def _spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # a caller that went away is no unhandled error

    async def _alone(self, work: Callable[[], Work[T]], asked_s: float | None = None) -> T:
        return await self._patiently(
            lambda link: self._transaction(link, 1, lambda: link.run(work(), write=True)), "written", asked_s
        )

    def _shared(self, work: Callable[[], Work[T]]) -> asyncio.Future[T]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._sharing.append(_Unit(work, future, loop.time()))
        if not self._sharers or len(self._sharing) > self._group_max // 2:
            self._one_more_sharer()
        return future

    def _one_more_sharer(self) -> None:
        if self._sharing and self._sharers < _SHARERS:
            self._sharers += 1
            self._spawn(self._share())

    async def _share(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._sharing:
                held_up = loop.call_later(_HELD_UP_S, self._one_more_sharer)
                try:
                    await self._together(self._next_group())
                finally:
                    held_up.cancel()
        finally:
            self._sharers -= 1

    def _next_group(self) -> list[_Unit]:
        """Who comes next; those that waited out their patience behind others who met a trouble are told."""
        group: list[_Unit] = []
        now_s = asyncio.get_running_loop().time()
        while self._sharing and len(group) < self._group_max:
            unit = self._sharing.popleft()
            if self._down_since_s is not None and now_s - unit.asked_s >= self._patience_s:
                _answer(unit, Unavailable("the database cannot be used", retry_after_s=_AGAIN_S))
            else:
                group.append(unit)
        return group

    async def _together(self, group: Sequence[_Unit]) -> None:
        if group:
            try:
                values = await self._patiently(
                    lambda link: self._transaction(
                        link,
                        len(group),
                        lambda: link.run_together([unit.work() for unit in group]),
                        begins=False,
                    ),
                    "written",
                    group[0].asked_s,
                )
            except Unavailable as error:
                for unit in group:
                    _answer(unit, error)
                return
            except Exception as error:  # whose it is shows when each runs alone
                log.debug("a shared commit is taken apart", units=len(group), cause=type(error).__name__)
            else:
                for unit, value in zip(group, values, strict=True):
                    _answer(unit, value)
                return
        for unit in group:
            try:
                value = await self._alone(unit.work, unit.asked_s)
            except Exception as error:
                _answer(unit, error)
            else:
                _answer(unit, value)

    async def _snapshot(self, link: Link, run: Callable[[], Awaitable[T]]) -> T:
        await link.begin(write=False)
        try:
            value = await run()
        except Exception:
            await link.rollback()
            raise
        await link.rollback()
        return value

    async def _transaction(
        self, link: Link, units: int, run: Callable[[], Awaitable[T]], *, begins: bool = True
    ) -> T:
        """begins: a transaction is begun before; else by what runs, if it needs one."""
        begun_s = time.perf_counter()
        try:
            if begins:
                await link.begin(write=True)
            value = await run()
        except (Exception, asyncio.CancelledError) as error:
            if link.deciding and (lost(error) or not isinstance(error, Exception)):
                raise _InDoubt from error
            if not isinstance(error, Exception):
                raise
            await link.rollback()
            if getattr(error, "sqlstate", None) == _READ_ONLY:
                link.abort()  # a primary that became a standby: perhaps another one is found
                raise ConnectionError("the server takes no writes") from error
            raise
        try:
            if link.is_open:
                await link.commit()
        except asyncpg.PostgresError as error:
            if called_off(error):
                raise
            if lost(error):
                raise _InDoubt from error
            raise
        except (*_LOST, asyncio.CancelledError) as error:
            raise _InDoubt from error
        self.commits += 1
        self.units += units
        self.commit_s.observe(time.perf_counter() - begun_s)
        return value

    # --- patience --------------------------------------------------------------------------------------

    async def _patiently(
        self, step: Callable[[Link], Coroutine[Any, Any, T]], what: str, asked_s: float | None = None
    ) -> T:
        """Run this on a connection, again where that may help, until the caller's patience ends.

        asked_s: since when it is used up; now, where nobody had to be waited for.
        """
        loop = asyncio.get_running_loop()
        now_s, patience_s = loop.time(), self._patience()
        least_s = min(_LATE_TRY_S if self._down_since_s is None else _ONE_TRY_S, patience_s)
        deadline_s = max((now_s if asked_s is None else asked_s) + patience_s, now_s + least_s)
        tries = 0
        while True:
            try:
                value = await self._once(step, deadline_s)
            except _InDoubt as doubt:
                self._failed(what, doubt.__cause__)
                raise Unavailable(
                    "the database did not say whether it took this", retry_after_s=_AGAIN_S
                ) from doubt
            except TimeoutError as error:
                self._failed(what, error)
                text = f"the database does not answer and nothing could be {what}"
                raise Unavailable(text, retry_after_s=_AGAIN_S) from error
            except Exception as error:
                # The day this process takes for the newest went with its partitions, perhaps.
                gone = isinstance(error, asyncpg.UndefinedTableError) and tries < _DAYS_GONE
                if gone:
                    self._growth.look_again()
                elif not called_off(error) and not lost(error):
                    raise
                tries += 1
                pause_s = random.uniform(0, min(0.01 * 2**tries, _RECONNECT_S))  # noqa: S311 - it only spreads
                if loop.time() + pause_s >= deadline_s:
                    self._failed(what, error)
                    raise Unavailable(_told(what, error), retry_after_s=_AGAIN_S) from error
                self.run_again += 1
                await asyncio.sleep(pause_s)
            else:
                self._down_since_s = None
                self._trouble.over("the database answers again")
                return value

    def _patience(self) -> float:
        """Who comes while it is known to be down gets one try: a queue of waiting callers helps nobody."""
        if self._down_since_s is None or time.monotonic() - self._down_since_s < self._patience_s:
            return self._patience_s
        return min(_ONE_TRY_S, self._patience_s)

    def _failed(self, what: str, error: BaseException | None) -> None:
        if what == "written":
            self.failed_commits += 1
        if self._down_since_s is None:
            self._down_since_s = time.monotonic()
        self._trouble.met("the database cannot be used", error=_words(error), what=what)

    async def _once(self, step: Callable[[Link], Coroutine[Any, Any, T]], deadline_s: float) -> T:
        link = await self._take(deadline_s)
        try:
            async with asyncio.timeout_at(deadline_s):
                return await step(link)
        except (TimeoutError, asyncio.CancelledError):
            link.abort()  # cut short: in what state it is only the server knows
            raise
        except Exception as error:
            if isinstance(error, _InDoubt) or lost(error):
                link.abort()
            raise
        finally:
            self._give_back(link)

    # --- connections -----------------------------------------------------------------------------------

    async def _take(self, deadline_s: float) -> Link:
        """A connection nobody uses. Raises TimeoutError, or what connecting raised."""
        loop = asyncio.get_running_loop()
        while True:
            while self._free:
                link = self._free.pop()
                if link.usable:
                    return link
                self._open -= 1
                link.abort()
            if self._open < self._most:
                self._open += 1
                try:
                    async with asyncio.timeout_at(deadline_s):
                        return await Link.open(
                            self._engine, self._clock, pooler=self._pooler, growth=self._growth
                        )
                except BaseException as error:
                    self._open -= 1
                    self._tell_one()
                    if not self._open or isinstance(error, asyncio.CancelledError):
                        raise
                    # The server takes no more of them, perhaps: those that are open are enough.
            came: asyncio.Future[None] = loop.create_future()
            self._came_back.append(came)
            try:
                async with asyncio.timeout_at(deadline_s):
                    await came
            except BaseException:
                if came.done() and not came.cancelled():
                    self._tell_one()  # told in vain: the next one
                else:
                    with suppress(ValueError):
                        self._came_back.remove(came)
                raise

    def _give_back(self, link: Link) -> None:
        self.statements += link.statements
        link.statements = 0
        if link.usable:
            self._free.append(link)
        else:
            link.abort()
            self._open -= 1
        self._tell_one()

    def _tell_one(self) -> None:
        while self._came_back:
            came = self._came_back.popleft()
            if not came.done():
                came.set_result(None)
                return


def _answer(unit: _Unit, value: object) -> None:
    """Hand a unit's caller what it returned or raised."""
    if unit.future.done():
        return
    error = value.error if isinstance(value, Raised) else value
    if isinstance(error, Exception):
        unit.future.set_exception(error)
        unit.future.exception()  # a caller that went away is no unhandled error
    else:
        unit.future.set_result(value)


def _words(error: BaseException | None) -> str:
    """What went wrong, without statements, values or where the server is."""
    if isinstance(error, asyncpg.PostgresError):
        return f"{type(error).__name__} ({error.sqlstate})"
    return type(error).__name__


def _told(what: str, error: BaseException) -> str:
    return f"the database cannot be {what}: {_words(error)}"
