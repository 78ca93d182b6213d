"""The Store's interface over one synchronous database, for models that take every step by hand."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TypeVar

from postroom.storage.interface import Work
from postroom.storage.sqlite import Database

T = TypeVar("T")


class DirectStore:
    """Each unit in a transaction of its own, at once. Implements storage.interface.Store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self, work: Callable[[], Work[T]]) -> T:
        return self._database.snapshot(work)

    async def write(self, work: Callable[[], Work[T]], size_bytes: int = 0, *, share: bool = False) -> T:
        return self._database.transact(work)

    async def close(self) -> None:
        self._database.close()


def finish(work: Coroutine[object, object, T]) -> T:
    """What a coroutine that waits for nothing returns."""
    try:
        work.send(None)
    except StopIteration as stop:
        value: T = stop.value
        return value
    raise AssertionError("it waits for something")
