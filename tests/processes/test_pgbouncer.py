"""A real pgbouncer in transaction mode: no session keeps anything, and news goes past it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from postroom.control.operations import run
from postroom.storage.interface import Sql, Work
from postroom.storage.postgres import PostgresStore
from tests.processes.conftest import House, rows, until_states
from tests.support.engine import sink
from tests.support.pgbouncer import SESSIONS, pgbouncer
from tests.support.postgres import shared_databases
from tests.support.sink import read_log
from tests.support.tools import needs

pytestmark = needs("debian")
MESSAGES = 30


@pytest.fixture
async def pooled(tmp_path: Path, database: str) -> AsyncIterator[House]:
    """Rooms opened in it reach the database through a pooler, and past it by `database_direct_url`."""
    with pgbouncer(database) as url:
        async with AsyncExitStack() as stack:
            made = House(tmp_path, url, stack)
            made.flags |= {"database_pooler": "true", "database_direct_url": database}
            first = await made.open("command")
            await run(first.desk, "bootstrap", {"sender": "post@example.com"})
            await first.close()
            yield made


async def test_two_processes_send_through_it_and_hear_of_what_a_third_accepts(
    pooled: House, tmp_path: Path
) -> None:
    async with sink(tmp_path) as out:
        await pooled.deliver()
        await pooled.deliver()
        accepting = await pooled.open(does="http")
        await pooled.connect(accepting, out.port)
        # Those who send would look by themselves only after half a minute: they hear of it.
        await asyncio.gather(*(pooled.send(accepting, f"r{n}@example.net") for n in range(MESSAGES)))
        await until_states(accepting, {"sent": MESSAGES})
        assert len(read_log(tmp_path / "sink.log")) == MESSAGES
        assert accepting.ctx.peers is not None
        assert len(await accepting.ctx.peers.alive()) == 3
        # Those of all units, and one of each process that listens past it.
        sessions = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database()"
        listens = "starts_with(application_name, 'postroom ')"
        assert (await rows(accepting, f"{sessions} AND NOT {listens}"))[0][0] <= SESSIONS
        assert await rows(accepting, f"{sessions} AND {listens}") == [(3,)]


async def test_units_at_once_share_few_sessions_under_the_settings_each_needs(database: str) -> None:
    name = urlsplit(database).path[1:]
    shared_databases().execute("CREATE TABLE sums (n bigint PRIMARY KEY, times bigint)", name)
    try:
        with pgbouncer(database) as url:
            several = [PostgresStore(url, pooler=True, connections=2 * SESSIONS) for _ in range(2)]
            told = await asyncio.gather(
                *(several[n % 2].write(lambda n=n: add(n % 5), share=n % 3 == 0) for n in range(60))  # type: ignore[misc]
            )
            # Without a pooler they go with a session; here they are said in each transaction.
            assert set(told) == {"5s 10s 30s off off"}
            assert await several[0].read(total) == 60
            for store in several:
                await store.close()
    finally:
        shared_databases().execute("DROP TABLE sums", name)


_UNDER = ("lock_timeout", "idle_in_transaction_session_timeout", "statement_timeout", "jit", "enable_seqscan")


def add(n: int) -> Work[str]:
    """Count one up; the settings this was done under."""
    yield Sql(
        "INSERT INTO sums (n, times) VALUES (:n, 1) ON CONFLICT (n) DO UPDATE SET times = sums.times + 1",
        {"n": n},
    )
    found = yield Sql("SELECT " + " || ' ' || ".join(f"current_setting('{name}')" for name in _UNDER))
    return str(found[0][0])


def total() -> Work[int]:
    """A sum, which is of a type that needs a codec of ours."""
    found = yield Sql("SELECT SUM(times) FROM sums")
    value: int = found[0][0]
    return value
