"""Several processes on one PostgreSQL: open post rooms in one test process, each as `serve` would have it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from postroom.clock import Clock
from postroom.config import load
from postroom.control.lock import SERVE
from postroom.control.operations import run
from postroom.ids import ConnectionId
from postroom.storage.interface import Rows, Sql, Work
from postroom.storage.migrations.postgres import upgrade
from postroom.wiring import PostRoom, open_post_room
from tests.support.postgres import shared_databases


@dataclass
class House:
    """Rooms on one data folder and one database; what was opened is closed at the end.

    flags: settings of all rooms.
    """

    folder: Path
    url: str
    stack: AsyncExitStack
    flags: dict[str, str] = field(default_factory=dict)

    async def open(
        self, role: str = SERVE, clock: Clock | None = None, does: str = "", **flags: str
    ) -> PostRoom:
        """One more process. It delivers once its dispatcher is started. does: roles of `serve`; all."""
        flags |= {"role": does} if does else {}
        common = {"data": str(self.folder), "database": self.url, "database_may_forget": "true"}
        room = await open_post_room(load({**common, **self.flags, **flags}, {}), role=role, clock=clock)
        assert room.cluster is not None
        room.cluster.everybody.wait_s, room.cluster.everybody.paused_within_s = 0.5, 0.2
        self.stack.push_async_callback(room.close)
        return room

    async def deliver(self, clock: Clock | None = None, **flags: str) -> PostRoom:
        """One more process that delivers."""
        room = await self.open(clock=clock, **flags)
        await room.dispatcher.start()
        self.stack.push_async_callback(room.dispatcher.stop, 1.0)
        return room

    async def connect(self, room: PostRoom, port: int) -> ConnectionId:
        """A connection made in this process, to a server on this port."""
        fields = {
            "label": f"port {port}",
            "host": "127.0.0.1",
            "port": port,
            "security": "never",
            "for_transactional": True,
        }
        made = await run(room.desk, "connection.create", {"fields": fields, "options": {}})
        assert isinstance(made, dict)
        return ConnectionId(made["connection_id"])

    async def send(self, room: PostRoom, *recipients: str) -> str:
        """A message handed in at this process; its number."""
        made = await run(room.desk, "message.send", {"to": list(recipients), "subject": "s", "text": "hello"})
        assert isinstance(made, dict)
        return str(made["message_id"])


async def until(done: Callable[[], bool]) -> None:
    """Wait for something that lasts."""
    async with asyncio.timeout(10):
        while not done():
            await asyncio.sleep(0.005)


async def states(room: PostRoom) -> Counter[str]:
    """How many deliveries are in each state."""
    return Counter(dict(await rows(room, "SELECT state, COUNT(*) FROM deliveries GROUP BY state")))


async def until_states(room: PostRoom, wanted: Mapping[str, int]) -> None:
    """Wait until the deliveries are in these states, for good."""
    async with asyncio.timeout(10):
        while await states(room) != wanted:
            await asyncio.sleep(0.01)


async def rows(room: PostRoom, text: str, **params: object) -> Rows:
    """What this statement finds."""

    def work() -> Work[Rows]:
        return (yield Sql(text, params))

    return await room.store.read(work)


_TABLES = """
SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND NOT c.relispartition
AND c.relkind IN ('r', 'p')
"""
_SEQUENCES = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'S'"


@pytest.fixture(scope="session")
def prepared() -> Iterator[tuple[str, str]]:
    """A database with the schema, and the statements that make it as it was. To copy one takes longer."""
    databases = shared_databases()
    name = databases.create()
    asyncio.run(upgrade(databases.of(name), unsafe=True))
    tables = databases.execute(_TABLES, name).splitlines()
    empty = [one for one in tables if databases.execute(f"SELECT COUNT(*) FROM {one}", name) == "0"]
    cleaning = [f"DELETE FROM {one}" for one in empty]
    cleaning += [f"ALTER SEQUENCE {one} RESTART" for one in databases.execute(_SEQUENCES, name).splitlines()]
    yield name, "; ".join(cleaning)
    databases.drop(name)


@pytest.fixture
def database(prepared: tuple[str, str]) -> Iterator[str]:
    """The URL of a database with nothing in it."""
    name, cleaning = prepared
    yield shared_databases().of(name)
    shared_databases().execute(cleaning, name)


@pytest.fixture
async def house(tmp_path: Path, database: str) -> AsyncIterator[House]:
    """With an account and a server called default, the sender post@example.com trusted."""
    async with AsyncExitStack() as stack:
        made = House(tmp_path, database, stack)
        first = await made.open("command")
        await run(first.desk, "bootstrap", {"sender": "post@example.com"})
        await first.close()
        yield made
