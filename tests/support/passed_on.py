"""A store around another, for tests that count, note or break a part of what goes to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from postroom.storage.interface import Store, Work

T = TypeVar("T")


class PassedOn:
    """Passes everything on as it comes. Implements storage.interface.Store."""

    def __init__(self, store: Store) -> None:
        self.store = store

    async def read(self, work: Callable[[], Work[T]]) -> T:
        return await self.store.read(work)

    async def read_each(self, works: Sequence[Callable[[], Work[T]]]) -> list[T]:
        return await self.store.read_each(works)

    async def write(self, work: Callable[[], Work[T]], size_bytes: int = 0, *, share: bool = False) -> T:
        return await self.store.write(work, size_bytes, share=share)

    async def close(self) -> None:
        await self.store.close()
