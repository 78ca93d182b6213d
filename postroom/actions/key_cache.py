"""Keys that were asked for lately, so that a request needs no read to know who sent it.

In this process a revocation forgets its key at once; a read that began before the revocation cannot bring it
back. Where other processes write as well, `as_of` is told a generation that each revocation raises, and
forgets everything when it was. Besides, an entry is believed for a few seconds only.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Coroutine
from dataclasses import dataclass

from postroom.core.key import Key
from postroom.ids import AccountId, KeyId, ServerId


@dataclass
class _Entry:
    key: Key
    read_at_s: float
    touched_at_us: int


class KeyCache:
    """Hash to key, the most lately used ones. Used on one event loop.

    most: entries; fresh_s: how long one is believed; touch_every_s: how seldom a use is written down.
    """

    def __init__(self, *, most: int = 10_000, fresh_s: float = 5.0, touch_every_s: float = 60.0) -> None:
        self._most, self._fresh_s = most, fresh_s
        self._touch_every_us = round(touch_every_s * 1_000_000)
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self.generation = 0  # raised by each forgetting; whoever reads notes it first
        self._as_of = 0

    def get(self, hash: bytes, now_s: float) -> Key | None:
        """The key, if it was read within `fresh_s`; now_s: steady seconds."""
        entry = self._entries.get(hash)
        if entry is None or now_s - entry.read_at_s > self._fresh_s:
            return None
        self._entries.move_to_end(hash)
        return entry.key

    def put(self, hash: bytes, key: Key, now_s: float, generation: int) -> None:
        """Remember a key read just now, unless something was forgotten since `generation` was noted."""
        if generation != self.generation:
            return
        before = self._entries.get(hash)
        touched = max(key.last_used_at_us or 0, before.touched_at_us if before else 0)
        self._entries[hash] = _Entry(key, now_s, touched)
        self._entries.move_to_end(hash)
        while len(self._entries) > self._most:
            self._entries.popitem(last=False)

    def touch_is_due(self, hash: bytes, now_us: int) -> bool:
        """Whether this use is to be written down; if so, it counts as written from now on."""
        entry = self._entries.get(hash)
        if entry is None or 0 <= now_us - entry.touched_at_us < self._touch_every_us:
            return False
        entry.touched_at_us = now_us
        return True

    def as_of(self, generation: int) -> None:
        """The generation of keys in the database: another one than before, and nothing is remembered."""
        if generation != self._as_of:
            self._as_of = generation
            self._forget(list(self._entries))

    def forget(self, key_id: KeyId) -> None:
        """This key was revoked."""
        self._forget([hash for hash, entry in self._entries.items() if entry.key.key_id == key_id])

    def forget_server(self, account_id: AccountId, server_id: ServerId) -> None:
        """All keys of this server were revoked."""
        owner = (account_id, server_id)
        self._forget(
            [
                hash
                for hash, entry in self._entries.items()
                if (entry.key.account_id, entry.key.server_id) == owner
            ]
        )

    def _forget(self, hashes: list[bytes]) -> None:
        self.generation += 1
        for hash in hashes:
            del self._entries[hash]

    def __len__(self) -> int:
        return len(self._entries)

    def start(self, work: Coroutine[None, None, None]) -> None:
        """Run something small beside the request; `close` waits for it."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Wait until every use that is being written down is written; call before the store closes."""
        while self._tasks:
            await asyncio.wait(self._tasks)
