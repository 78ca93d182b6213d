"""The connection by which processes hear each other comes back by itself, and then all is looked at anew."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import asyncpg
import pytest

from postroom.errors import Unavailable
from postroom.storage.postgres_news import PostgresWire
from tests.processes.conftest import until
from tests.support.postgres import PostgresServer


class Ear:
    """Hears by a wire."""

    def __init__(self, url: str, name: str) -> None:
        self.wire = PostgresWire(url, name)
        self.heard: list[str] = []
        self.missed = 0

    def note_missed(self) -> None:
        self.missed += 1


@pytest.fixture
async def ears(database: str) -> AsyncIterator[list[Ear]]:
    made = [Ear(database, name) for name in ("one", "two")]
    async with AsyncExitStack() as stack:
        for ear in made:
            stack.push_async_callback(ear.wire.close)
            await ear.wire.listen(ear.heard.append, ear.note_missed)
        yield made


async def test_everybody_hears_what_is_said(ears: list[Ear]) -> None:
    await ears[0].wire.say("one")
    await ears[1].wire.say("två")
    for ear in ears:
        await until(lambda ear=ear: ear.heard == ["one", "två"])  # type: ignore[misc]  # bound at once
    assert await ears[0].wire.alive() == {"one", "two"}


async def test_a_cut_connection_comes_back_and_says_what_was_missed(ears: list[Ear], database: str) -> None:
    connection = await asyncpg.connect(database)
    try:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'postroom two'"
        )
        await until(lambda: ears[1].missed == 1)
    finally:
        await connection.close()
    await ears[0].wire.say("again")
    await until(lambda: ears[1].heard == ["again"])
    assert ears[0].missed == 0


async def test_who_says_something_first_after_a_cut_hides_nothing_from_the_listener(
    ears: list[Ear], database: str
) -> None:
    """It opens the connection again for itself; what came in between was missed all the same."""
    ears[1].wire._connection.terminate()
    await ears[1].wire.say("me")
    await until(lambda: ears[1].missed == 1)


async def test_a_server_that_restarts_is_listened_to_again() -> None:
    with PostgresServer() as server:
        ear = Ear(server.url, "one")
        try:
            await ear.wire.listen(ear.heard.append, ear.note_missed)
            server.stop()
            with pytest.raises(Unavailable, match=r"cannot be reached|does not take it"):
                await ear.wire.say("lost")
            server.start()
            await until(lambda: ear.missed >= 1)
            await ear.wire.say("heard")
            await until(lambda: ear.heard == ["heard"])
        finally:
            await ear.wire.close()


async def test_nobody_listens_by_a_pooler_but_says_all_the_same(ears: list[Ear], database: str) -> None:
    command = PostgresWire(database, "three", pooler=True)
    await command.listen(lambda _: None, lambda: None)
    await asyncio.gather(*(command.say(str(n)) for n in range(3)))
    await command.close()
    await until(lambda: sorted(ears[0].heard) == ["0", "1", "2"])
    assert await ears[0].wire.alive() == {"one", "two"}
