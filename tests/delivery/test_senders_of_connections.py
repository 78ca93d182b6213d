"""Mail that names no From goes out with that of the connection which takes it first, and keeps it."""

from __future__ import annotations

import asyncio
import email
import email.policy
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from postroom.config import load
from postroom.control.operations import run
from postroom.errors import Denied, Invalid
from postroom.storage.interface import Rows, Sql, Work
from postroom.wiring import PostRoom, open_post_room
from tests.support.engine import sink
from tests.support.sink import Received
from tests.support.stores import on_both

pytestmark = on_both


@dataclass
class Shop:
    """A post room with a server that has no default sender, and what came out at each port."""

    room: PostRoom
    ports: list[int]
    taken: list[list[Received]] = field(default_factory=list)

    async def connection(self, place: int, sender: str | None, **fields: object) -> int:
        given = {
            "label": f"out {place}",
            "host": "127.0.0.1",
            "port": self.ports[place],
            "security": "never",
            "for_transactional": True,
            "sender": sender,
            **fields,
        }
        made: Any = await run(self.room.desk, "connection.create", {"fields": given, "server": 1})
        number: int = made["connection_id"]
        return number

    async def update(self, connection: int, **fields: object) -> None:
        await run(self.room.desk, "connection.update", {"connection": connection, "fields": fields})

    async def send(self, *to: str, **more: object) -> int:
        asked = {"to": list(to), "subject": "Hello", "text": "there", **more}
        made: Any = await run(self.room.desk, "message.send", asked)
        number: int = made["message_id"]
        return number

    async def rows(self, text: str) -> Rows:
        def work() -> Work[Rows]:
            return (yield Sql(text))

        return await self.room.store.read(work)

    async def until(self, what: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not what():
                await asyncio.sleep(0.01)


@asynccontextmanager
async def shop(folder: Path) -> AsyncIterator[Shop]:
    async with AsyncExitStack() as stack:
        taken: list[list[Received]] = [[], []]
        ports = []
        for place in (0, 1):
            (folder / str(place)).mkdir()
            out = await stack.enter_async_context(sink(folder / str(place), taken[place].append))
            ports.append(out.port)
        room = await open_post_room(load({"data": str(folder / "data"), "retry_first_wait": "0.2s"}, {}))
        try:
            await room.dispatcher.start()
            await run(room.desk, "account.create", {"name": "Acme"})
            await run(room.desk, "server.create", {"name": "Shop"})
            yield Shop(room, ports, taken)
        finally:
            await room.dispatcher.stop(1.0)
            await room.close()


def from_of(received: Received) -> str:
    message = email.message_from_bytes(received.content, policy=email.policy.default)
    return str(message["From"])


async def test_from_and_envelope_are_those_of_the_connection(tmp_path: Path) -> None:
    async with shop(tmp_path) as post:
        await post.connection(0, '"Jörg & Co" <sales@one.example>')
        message = await post.send("ann@example.net", "bob@example.net")
        await post.until(lambda: len(post.taken[0]) == 2)
        assert {from_of(one) for one in post.taken[0]} == {"Jörg & Co <sales@one.example>"}
        assert {one.sender for one in post.taken[0]} == {"sales@one.example"}
        shown: Any = await run(post.room.desk, "message.show", {"message": str(message)})
        assert shown["from"] == "sales@one.example"
        assert shown["rfc_message_id"].endswith("@one.example>")


async def test_without_any_sender_it_is_refused(tmp_path: Path) -> None:
    async with shop(tmp_path) as post:
        await post.connection(0, None)
        await post.connection(1, "bulk@one.example", for_transactional=False, for_broadcast=True)
        with pytest.raises(Invalid, match="the server has no default sender"):
            await post.send("ann@example.net")
        assert await post.rows("SELECT * FROM messages") == []


async def test_its_own_sender_may_be_named_and_goes_through_it_alone(tmp_path: Path) -> None:
    async with shop(tmp_path) as post:
        await post.connection(0, "sales@one.example")
        await post.connection(1, "info@two.example")
        for _ in range(4):
            await post.send("ann@example.net", sender="Two <Info@two.example>")
        await post.until(lambda: len(post.taken[1]) == 4)
        assert {from_of(one) for one in post.taken[1]} == {"Two <Info@two.example>"}
        assert post.taken[0] == []
        with pytest.raises(Denied, match="nobody has vouched"):
            await post.send("ann@example.net", sender="other@two.example")


async def test_the_next_connection_takes_it_with_its_own_sender_while_the_first_is_off(
    tmp_path: Path,
) -> None:
    async with shop(tmp_path) as post:
        first = await post.connection(0, "sales@one.example")
        await post.connection(1, "info@two.example")
        await post.update(first, enabled=False)
        await post.send("ann@example.net")
        await post.until(lambda: len(post.taken[1]) == 1)
        assert from_of(post.taken[1][0]) == "info@two.example"


async def test_what_the_first_claim_gave_a_from_keeps_it(tmp_path: Path) -> None:
    """Deferred by the first peer, then that connection is off: the second may not send it as another."""
    async with shop(tmp_path) as post:
        first = await post.connection(0, "sales@one.example")
        await post.send("defer450@example.net")  # the sink refuses this recipient for now
        async with asyncio.timeout(20):
            while not await post.rows("SELECT 1 FROM deliveries WHERE tries = 1 AND state = 'ready'"):
                await asyncio.sleep(0.01)
        await post.connection(1, "info@two.example")
        await post.update(first, enabled=False)
        async with asyncio.timeout(20):  # due again, it is looked at and moved to the lane of its From
            while not await post.rows(
                "SELECT 1 FROM deliveries d JOIN lanes l ON l.lane_id = d.lane_id"
                " WHERE l.sender = 'sales@one.example' AND d.state = 'ready'"
            ):
                await asyncio.sleep(0.01)
        assert post.taken == [[], []]
        explained: Any = await run(post.room.desk, "explain", {"message": "1"})
        verdicts = {one["reason"] for one in explained["deliveries"][0]["candidates"]}
        assert verdicts == {"switched_off", "sender_not_proven"}


async def test_a_connection_without_a_sender_is_passed_over_and_explain_says_why(tmp_path: Path) -> None:
    async with shop(tmp_path) as post:
        first = await post.connection(0, "sales@one.example")
        await post.connection(1, None)
        await post.update(first, enabled=False)
        await post.send("ann@example.net")
        explained: Any = await run(post.room.desk, "explain", {"message": "1"})
        verdicts = [one["reason"] for one in explained["deliveries"][0]["candidates"]]
        assert verdicts == ["switched_off", "no_sender"]
        await post.update(first, enabled=True)
        await post.until(lambda: len(post.taken[0]) == 1)
        assert post.taken[1] == []
