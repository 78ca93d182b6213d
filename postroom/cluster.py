"""This process among the others on one PostgreSQL: what joins their engines, and knows who is there."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from postroom.clock import Clock
from postroom.config import Settings
from postroom.engine.dispatcher import Dispatcher
from postroom.engine.everybody import Everybody
from postroom.engine.presence import Presence
from postroom.keyring import KeyRing
from postroom.storage.interface import Store
from postroom.storage.postgres_news import PostgresWire


@dataclass(frozen=True)
class Cluster:
    """`everybody` hears what actions did, `presence` says which processes are alive."""

    everybody: Everybody
    presence: Presence
    wire: PostgresWire

    @classmethod
    def of(
        cls, settings: Settings, clock: Clock, store: Store, ring: KeyRing, dispatcher: Dispatcher
    ) -> Cluster:
        """Nothing is heard and nobody knows of this process until `join`."""
        direct = settings.database_direct_url.reveal()
        name = secrets.token_hex(6)
        wire = PostgresWire(
            direct or settings.database.reveal(), name, pooler=settings.database_pooler and not direct
        )
        everybody = Everybody(dispatcher, wire, name, store, clock)
        dispatcher.tell_overtaken = everybody.overtaken
        presence = Presence(store, wire, ring, clock, name, settings.roles, everybody.key_file_rotates)
        everybody.key_file_changed = presence.key_file_changed
        dispatcher.tell_judged = everybody.connection_judged
        return cls(everybody, presence, wire)

    async def join(self) -> None:
        """Hear the others, and be listed. Raises Unavailable."""
        await self.wire.listen(self.everybody.heard, self.everybody.missed)
        await self.presence.enter()

    async def close(self) -> None:
        """Before the store closes."""
        await self.everybody.close()
        await self.presence.leave()
        await self.wire.close()
