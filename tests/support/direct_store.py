"""One database, one step after another, for models that take each step by hand without an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import TypeVar

from postroom.clock import Clock
from postroom.storage.interface import Store, Work, in_turn
from postroom.storage.sqlite import Database
from tests.support import stores

T = TypeVar("T")


class DirectStore:
    """Each unit in a transaction of its own, at once. Implements storage.interface.Store on SQLite."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self, work: Callable[[], Work[T]]) -> T:
        return self._database.snapshot(work)

    async def read_each(self, works: Sequence[Callable[[], Work[T]]]) -> list[T]:
        return self._database.snapshot(lambda: in_turn(works))

    async def write(self, work: Callable[[], Work[T]], size_bytes: int = 0, *, share: bool = False) -> T:
        return self._database.transact(work)

    async def close(self) -> None:
        self._database.close()


class Direct:
    """A database made in `folder`, where databases are made now (`stores.on`).

    `store` is for what takes one; on PostgreSQL it is the real one.
    """

    def __init__(self, folder: Path, clock: Clock) -> None:
        self.store: Store
        self._loop: asyncio.Runner | None = None
        if stores.made_on() is stores.Kind.SQLITE:
            self.finish(stores.make_database(folder, clock))
            self.store = DirectStore(Database(folder / stores.FILE, clock, durable=False))
        else:
            self._loop = asyncio.Runner()
            self.store = self.finish(stores.make_store(folder, clock))

    def finish(self, work: Coroutine[object, object, T]) -> T:
        """What a coroutine returns; on SQLite it waits for nothing."""
        if self._loop is not None:
            return self._loop.run(work)
        try:
            work.send(None)
        except StopIteration as stop:
            value: T = stop.value
            return value
        raise AssertionError("it waits for something")

    def run(self, work: Callable[[], Work[T]]) -> T:
        """A writing unit."""
        return self.finish(self.store.write(work))

    def look(self, work: Callable[[], Work[T]]) -> T:
        """A unit that only reads."""
        return self.finish(self.store.read(work))

    def close(self) -> None:
        """The store, and what runs it."""
        self.finish(self.store.close())
        if self._loop is not None:
            self._loop.close()
