"""PostgreSQL in trouble: callers are told in time, nothing is half done, and it ends by itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest

from postroom.errors import Unavailable
from postroom.storage.interface import Rows, Sql, Together, Work
from postroom.storage.postgres import PostgresStore
from tests.support.postgres import PostgresServer

PATIENCE_S = 2.0


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with PostgresServer() as made:
        made.execute("CREATE TABLE t (a bigint PRIMARY KEY)")
        yield made


@pytest.fixture
async def store(server: PostgresServer) -> AsyncIterator[PostgresStore]:
    server.execute("DELETE FROM t")
    made = PostgresStore(server.url, patience_s=PATIENCE_S, connections=4)
    yield made
    server.resume()
    await made.close()


def put(a: int) -> Work[int]:
    yield Sql("INSERT INTO t (a) VALUES (:a)", {"a": a})
    return a


def count() -> Work[int]:
    rows = yield Sql("SELECT COUNT(*) FROM t")
    found: int = rows[0][0]
    return found


async def cut_off(server: PostgresServer, what: str) -> None:
    """End the session that does this, once it does."""
    ended = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'active' AND {what}"
    while server.execute(ended) != "t":
        await asyncio.sleep(0.01)


async def test_a_restart_between_units_is_not_noticed(server: PostgresServer, store: PostgresStore) -> None:
    await asyncio.gather(*(store.write(lambda a=a: put(a)) for a in range(8)))  # type: ignore[misc]
    await asyncio.to_thread(server.restart)
    assert await store.write(lambda: put(100)) == 100
    assert await store.read(count) == 9


async def test_a_unit_cut_off_before_its_commit_is_run_again(
    server: PostgresServer, store: PostgresStore
) -> None:
    runs = 0

    def slow() -> Work[int]:
        nonlocal runs
        runs += 1
        yield from put(1)
        yield Sql("SELECT pg_sleep(:s)", {"s": 0.4 if runs == 1 else 0.0})
        return runs

    task = asyncio.create_task(store.write(slow))
    await cut_off(server, "query LIKE 'SELECT pg_sleep($1)%'")
    assert await task == 2
    assert await store.read(count) == 1


async def test_a_server_that_is_away_is_told_in_time_and_found_again(
    server: PostgresServer, store: PostgresStore
) -> None:
    await store.write(lambda: put(1))
    await asyncio.to_thread(server.stop)
    began = time.monotonic()
    with pytest.raises(Unavailable) as told:
        await store.write(lambda: put(2))
    assert time.monotonic() - began < 10 * PATIENCE_S
    assert told.value.retry_after_s
    assert "postroom" not in str(told.value)  # neither user nor place
    await asyncio.to_thread(server.start)
    assert await store.write(lambda: put(2)) == 2
    assert await store.read(count) == 2


async def test_a_server_that_hangs_is_told_in_time_and_found_again(
    server: PostgresServer, store: PostgresStore
) -> None:
    await asyncio.gather(*(store.write(lambda a=a: put(a)) for a in range(4)))  # type: ignore[misc]
    server.pause()
    began = time.monotonic()
    told = await asyncio.gather(
        *(store.write(lambda a=a: put(a)) for a in range(10, 20)),  # type: ignore[misc]
        *(store.write(lambda a=a: put(a), share=True) for a in range(20, 30)),  # type: ignore[misc]
        store.read(count),
        return_exceptions=True,
    )
    assert {type(one) for one in told} == {Unavailable}
    assert time.monotonic() - began < 10 * PATIENCE_S
    server.resume()
    assert await store.write(lambda: put(100)) == 100
    assert await store.read(count) in range(5, 26)  # what hung at its commit may have been made


async def test_a_server_without_room_for_more_connections_works_with_those_that_are_open(
    server: PostgresServer, store: PostgresStore
) -> None:
    await store.write(lambda: put(0))
    server.execute("CREATE ROLE few LOGIN CONNECTION LIMIT 2")
    server.execute("GRANT ALL ON t TO few")
    few = PostgresStore(server.url.replace("postroom@", "few@"), patience_s=PATIENCE_S, connections=10)

    def slow(a: int) -> Work[int]:
        yield Sql("SELECT pg_sleep(0.05)")
        return (yield from put(a))

    await few.write(lambda: put(1))
    done = await asyncio.gather(*(few.write(lambda a=a: slow(a)) for a in range(2, 10)))  # type: ignore[misc]
    assert done == list(range(2, 10))
    await few.close()


async def test_a_database_that_may_only_be_read_is_unavailable(
    server: PostgresServer, store: PostgresStore
) -> None:
    server.configure({"default_transaction_read_only": "on"})
    server.reload()
    try:
        while server.execute("SHOW default_transaction_read_only") != "on":
            await asyncio.sleep(0.01)
        with pytest.raises(Unavailable):
            await store.write(lambda: put(1))
        assert await store.read(count) == 0
    finally:
        server.configure({"default_transaction_read_only": "off"})
        server.reload()
    while server.execute("SHOW default_transaction_read_only") != "off":
        await asyncio.sleep(0.01)
    assert await store.write(lambda: put(1)) == 1


async def test_who_waits_for_others_to_commit_is_told_in_time_too(
    server: PostgresServer, store: PostgresStore
) -> None:
    """Their patience counts from when they asked, not from when it is their turn."""
    server.configure({"default_transaction_read_only": "on"})
    server.reload()
    try:
        began_s = time.monotonic()
        first = [asyncio.create_task(store.write(lambda n=n: put(n), share=True)) for n in range(2)]  # type: ignore[misc]
        while store.run_again == 0:
            await asyncio.sleep(0.01)
        others = (store.write(lambda n=n: put(n), share=True) for n in range(2, 200))  # type: ignore[misc]
        told = await asyncio.gather(*first, *others, return_exceptions=True)
        assert {type(one) for one in told} == {Unavailable}
        assert time.monotonic() - began_s < 2 * PATIENCE_S
    finally:
        server.configure({"default_transaction_read_only": "off"})
        server.reload()


async def test_a_commit_whose_answer_is_lost_is_not_run_again(
    server: PostgresServer, store: PostgresStore
) -> None:
    """The commit hangs on a deferred trigger, and its connection is cut there."""
    server.execute(
        "CREATE FUNCTION wait_a_little() RETURNS trigger LANGUAGE plpgsql AS"
        " $$BEGIN IF NEW.a = 666 THEN PERFORM pg_sleep(60); END IF; RETURN NEW; END$$"
    )
    server.execute(
        "CREATE CONSTRAINT TRIGGER slow_commit AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION wait_a_little()"
    )
    runs = 0

    def work() -> Work[Rows]:
        nonlocal runs
        runs += 1
        yield from put(666)
        return []

    task = asyncio.create_task(store.write(work))
    await cut_off(server, "query = 'COMMIT'")
    with pytest.raises(Unavailable, match="did not say"):
        await task
    assert runs == 1
    server.execute("DROP FUNCTION wait_a_little CASCADE")


async def test_a_statement_that_is_its_own_transaction_is_not_run_again_when_its_answer_is_lost(
    server: PostgresServer, store: PostgresStore
) -> None:
    """It may have been committed: who asked is told so, alone and in a group, and nothing runs twice."""
    server.execute("CREATE FUNCTION slow() RETURNS bigint LANGUAGE sql AS 'SELECT 1 FROM pg_sleep(60)'")
    server.execute("CREATE TABLE u (a bigint, b bigint DEFAULT slow())")
    runs = 0

    def work(a: int) -> Work[Rows]:
        nonlocal runs
        runs += 1
        return (yield Together((Sql("INSERT INTO u (a) VALUES (:a)", {"a": a}),), ends=True))

    for together in (1, 3):
        runs = 0
        tasks = [asyncio.create_task(store.write(lambda a=a: work(a), share=True)) for a in range(together)]  # type: ignore[misc]
        await cut_off(server, "query LIKE 'INSERT INTO u%'")
        for one in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(one, Unavailable)
            assert "did not say" in str(one)
        assert runs == together
    assert store.commits == 0
    server.execute("DROP TABLE u")
    server.execute("DROP FUNCTION slow")


async def test_its_patience_ends_in_doubt_too(server: PostgresServer) -> None:
    server.execute("CREATE FUNCTION slow() RETURNS bigint LANGUAGE sql AS 'SELECT 1 FROM pg_sleep(2)'")
    server.execute("CREATE TABLE u (a bigint, b bigint DEFAULT slow())")
    store = PostgresStore(server.url, patience_s=0.5)
    try:
        await store.read(count)

        def work() -> Work[Rows]:
            return (yield Together((Sql("INSERT INTO u (a) VALUES (1)"),), ends=True))

        with pytest.raises(Unavailable, match="did not say"):
            await store.write(work, share=True)
    finally:
        await store.close()
        server.execute("DROP TABLE u")
        server.execute("DROP FUNCTION slow")


async def test_a_caller_that_goes_away_stops_nothing(server: PostgresServer, store: PostgresStore) -> None:
    def slow() -> Work[int]:
        yield Sql("SELECT pg_sleep(0.2)")
        return (yield from put(7))

    task = asyncio.create_task(store.write(slow))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await store.close()
    assert server.execute("SELECT a FROM t") == "7"


async def test_who_comes_after_a_refused_statement_of_its_own_is_not_in_doubt(
    server: PostgresServer, store: PostgresStore
) -> None:
    """Nothing of it is left on the connection: what is cut off then before its commit is run again."""

    def refused() -> Work[Rows]:
        return (yield Together((Sql("INSERT INTO t (a) VALUES (1), (1)"),), ends=True))

    with pytest.raises(asyncpg.UniqueViolationError):
        await store.write(refused, share=True)
    runs = 0

    def cut_short() -> Work[int]:
        nonlocal runs
        runs += 1
        yield Sql("SELECT 'here', pg_sleep(:s)", {"s": 0.0 if runs > 1 else 60.0})
        return (yield from put(5))

    task = asyncio.create_task(store.write(cut_short))
    await cut_off(server, "query LIKE 'SELECT ''here''%'")
    assert await task == 5
    assert runs == 2
