"""Statements that go together: on both databases each gets the rows it would get alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from postroom.errors import Invalid
from postroom.storage.interface import CLOCK, NewIds, Now, Rows, Sql, Store, Together, Work
from postroom.storage.postgres import PostgresStore
from postroom.storage.postgres_link import Link
from postroom.storage.postgres_pieces import id_column
from postroom.storage.tables import metadata
from tests.support import seed_rows, stores
from tests.support.clock import FakeClock
from tests.support.postgres import shared_databases
from tests.support.stores import on_both, on_postgresql

KEY = {"account_id": 1, "server_id": 1}
SERVER = Sql("SELECT name, default_sender FROM servers WHERE server_id = :server_id", {"server_id": 1})
NOBODY = Sql("SELECT name FROM servers WHERE server_id = :server_id", {"server_id": 99})
CAP = "INSERT INTO cap (account_id, connection_id, held) VALUES (:account_id, :connection_id, :held)"
CAPS = Sql("SELECT connection_id, held FROM cap WHERE account_id = 1 ORDER BY connection_id")
RAISE = "UPDATE cap SET held = held + :n WHERE account_id = :account_id AND connection_id = :connection_id"
LANE = (
    "INSERT INTO lanes (account_id, server_id, purpose, stream, sender, form)"
    " VALUES (1, 1, 'broadcast', :stream, 's', 'parts') RETURNING lane_id"
)
SUPPRESS = (
    "INSERT INTO suppressions (account_id, server_id, address, reason, origin, created_at)"
    " VALUES (1, 1, :address, 'manual', 'customer', 0) RETURNING suppression_id"
)
RELEASE = (
    "INSERT INTO cap_release (account_id, connection_id, due, n) VALUES (1, :connection_id, :due, :n)"
    " ON CONFLICT (account_id, connection_id, due) DO UPDATE SET n = cap_release.n + excluded.n"
)


@pytest.fixture
async def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def store(tmp_path: Path, clock: FakeClock) -> AsyncIterator[Store]:
    made = await stores.make_store(tmp_path, clock, seed_rows.tenants)
    yield made
    await made.close()


def cap(*held: int) -> Sql:
    return Sql(CAP, [{"account_id": 1, "connection_id": at, "held": n} for at, n in enumerate(held, 1)])


def ask(*statements: Sql | Now | NewIds) -> Callable[[], Work[list[list[tuple[Any, ...]]]]]:
    def work() -> Work[list[list[tuple[Any, ...]]]]:
        found = yield Together(statements)
        return [[tuple(row) for row in rows] for rows in found]

    return work


@on_both
async def test_each_gets_the_rows_it_would_get_alone(store: Store, clock: FakeClock) -> None:
    await store.write(ask(cap(3, 4)))
    looked: list[Sql | Now] = [SERVER, Now(), NOBODY, CAPS, Sql(CAPS.text)]
    together = await store.read(ask(*looked))
    assert together == [(await store.read(ask(one)))[0] for one in looked]
    caps = [(1, 3), (2, 4)]
    assert together == [[("default", seed_rows.SENDER)], [(clock.now_us(),)], [], caps, caps]


@on_both
async def test_what_changes_rows_goes_with_what_looks(store: Store, clock: FakeClock) -> None:
    """All see what was there before; what returns rows returns them; one row may be named by two runs."""
    await store.write(ask(cap(3, 4)))
    twice = {"account_id": 1, "connection_id": 1}
    stamped = f"UPDATE servers SET name = :name WHERE server_id = 1 RETURNING name, {CLOCK}"
    rows = await store.write(
        ask(
            Sql(RAISE, [{**twice, "n": 5}, {**twice, "n": 1}]),
            Sql(LANE, [{"stream": "b"}, {"stream": "a"}]),
            Sql(CAP, []),
            Sql(stamped, {"name": "renamed"}),
            Sql(RELEASE, [{"connection_id": one, "due": 5, "n": one} for one in (1, 2, 1)]),
            Sql("SELECT stream FROM lanes WHERE account_id = :account_id", {"account_id": 1}),
            Sql("DELETE FROM cap WHERE account_id = :account_id AND connection_id = 2", {"account_id": 1}),
        )
    )
    lanes = [row[0] for row in rows[1]]
    assert rows[3] == [("renamed", clock.now_us())]
    assert [rows[0], rows[2], rows[4], rows[6]] == [[], [], [], []]
    after = await store.read(
        ask(
            CAPS,
            Sql("SELECT lane_id, stream FROM lanes ORDER BY lane_id"),
            Sql("SELECT connection_id, n FROM cap_release ORDER BY connection_id"),
            SERVER,
        )
    )
    assert after[:3] == [[(1, 9)], [(lanes[0], "b"), (lanes[1], "a")], [(1, 2), (2, 2)]]
    assert after[3][0][0] == "renamed"


@on_both
async def test_nothing_asked_is_nothing_told(store: Store) -> None:
    assert await store.read(ask()) == []
    assert await store.write(ask(Sql(CAP, []), Sql(RAISE, []))) == [[], []]


@on_both
async def test_new_ids_are_nobody_elses(store: Store) -> None:
    """Nor those that a row gets without asking."""
    asked = NewIds((("messages", 2), ("suppressions", 3)))

    def fails() -> Work[None]:
        yield asked
        raise Invalid("a", "is wrong")

    def twice(stream: str) -> Work[list[list[int]]]:
        first = yield asked
        rows = yield Together((asked, SERVER))
        taken = yield Sql(SUPPRESS, {"address": stream})
        return [[*first[1], *rows[0][1]], [row[0] for row in taken]]

    given: list[int] = []
    for stream in "ab":
        (messages, own) = await store.write(lambda: _ids(asked))
        assert len(messages) == 2
        given += own
        with pytest.raises(Invalid):
            await store.write(fails)
        ours, theirs = await store.write(lambda stream=stream: twice(stream))  # type: ignore[misc]
        given += ours
        assert not set(theirs) & set(given)
    assert len(set(given)) == len(given) == 18
    assert given == sorted(given)
    ((first,),) = (await store.write(ask(Sql(SUPPRESS, {"address": "x"}))))[0]
    assert (await store.write(lambda: _ids(NewIds((("suppressions", 1),)))))[0][0] > first


def _ids(asked: NewIds) -> Work[list[list[int]]]:
    return [list(one) for one in (yield asked)]


@pytest.mark.parametrize("table", ["messages", "deliveries", "contents", "attempts"])
def test_what_ids_are_asked_for_counts_up_for_ever_on_sqlite(table: str) -> None:
    assert metadata.tables[table].dialect_options["sqlite"]["autoincrement"]


@on_postgresql
@pytest.mark.parametrize("table", ["messages", "deliveries", "contents", "attempts"])
async def test_ids_asked_for_are_made_as_the_table_itself_makes_them(store: Store, table: str) -> None:
    column = id_column(table)
    look = (
        f"SELECT column_default FROM information_schema.columns WHERE table_name = '{table}'"
        f" AND column_name = '{column}'"
    )
    (((default,),),) = await store.read(ask(Sql(look)))
    ((given,),) = await store.write(lambda: _ids(NewIds(((table, 1),))))
    (((following,),),) = await store.write(ask(Sql(f"SELECT {default}")))
    assert following == given + 1


async def test_rows_are_locked_in_the_order_they_were_asked_for() -> None:
    with shared_databases().fresh() as url:
        made = PostgresStore(url)

        def tables() -> Work[None]:
            yield Sql("CREATE SEQUENCE ran")
            for name in ("a", "b", "c", "d"):
                yield Sql(f"CREATE TABLE {name} (x bigint, ran bigint DEFAULT nextval('ran'))")

        def put(names: Sequence[str], returning: str) -> list[Sql]:
            return [
                Sql(f"INSERT INTO {one} (x) VALUES (:x){' RETURNING x' * (one in returning)}", {"x": 1})
                for one in names
            ]

        def order() -> Work[str]:
            found = {}
            for name in ("a", "b", "c", "d"):
                found[name] = (yield Sql(f"SELECT MAX(ran) FROM {name}"))[0][0]
            return "".join(sorted(found, key=lambda name: found[name]))

        try:
            await made.write(tables)
            for names in ("abcd", "dcba", "bdac"):
                await made.write(ask(*put(names, "")))
                assert await made.read(order) == names
            await made.write(ask(*put("cabd", "d")))  # what returns rows runs when they are read, before
            assert await made.read(order) == "dcab"
        finally:
            await made.close()


@on_postgresql
async def test_units_that_share_a_commit_share_what_they_ask_together(store: Store) -> None:
    assert isinstance(store, PostgresStore)
    made = store

    def table() -> Work[None]:
        yield Sql("CREATE TABLE t (a bigint UNIQUE, b text)")
        yield Sql("CREATE TABLE u (a bigint)")

    def unit(a: int) -> Work[tuple[list[int], list[str]]]:
        looks = NewIds((("deliveries", a % 3),)), Sql("SELECT b FROM t WHERE a = :a", {"a": a}), Now()
        ids, rows, (stamp,) = yield Together(looks)
        assert stamp[0] > 0
        if a == 7:
            raise Invalid("a", "is seven")
        yield Together(
            (
                Sql("INSERT INTO t (a, b) VALUES (:a, :b)", {"a": a, "b": f"b{a}"}),
                Sql("INSERT INTO u (a) VALUES (:a)", [{"a": a}] * (a % 3)),
            )
        )
        again = yield Together((Sql("SELECT b FROM t WHERE a = :a", [{"a": a}, {"a": -1}, {"a": a}]),))
        return list(ids[0]), [row[0] for row in [*rows, *again[0]]]

    await made.write(table)
    before = made.commits
    told = await asyncio.gather(
        *(made.write(lambda a=a: unit(a), share=True) for a in range(40)),  # type: ignore[misc]
        return_exceptions=True,
    )
    assert made.commits - before < 10
    assert isinstance(told[7], Invalid)
    given: list[int] = []
    for a, one in enumerate(told):
        if isinstance(one, BaseException):
            assert a == 7
            continue
        ids, seen = one
        assert len(ids) == a % 3
        given += ids
        assert seen == [f"b{a}", f"b{a}"]
    assert len(set(given)) == len(given)
    counted = await made.read(ask(Sql("SELECT COUNT(*) FROM u"), Sql("SELECT COUNT(*) FROM t")))
    assert counted == [[(sum(a % 3 for a in range(40) if a != 7),)], [(39,)]]


@on_both
async def test_who_says_it_ends_yields_nothing_more(store: Store) -> None:
    runs = 0

    def goes_on() -> Work[None]:
        nonlocal runs
        runs += 1
        yield Together((cap(1),), ends=True)
        yield SERVER

    for share in (False, True):
        with pytest.raises(RuntimeError, match="went on"):
            await store.write(goes_on, share=share)
    assert runs == 2


@on_postgresql
async def test_the_last_statement_of_a_group_is_its_transaction(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it is one statement, and nobody in the group has changed anything before or will after."""
    assert isinstance(store, PostgresStore)

    def unit(a: int, *, before: bool = False, after: bool = False, twice: bool = False) -> Work[int]:
        yield Together((Now(), SERVER))
        yield Now()
        if before:
            yield Sql(LANE, {"stream": f"s{a}"})
        one = {"account_id": 1, "connection_id": a, "held": a}
        inserted = Sql(CAP, [one, {**one, "connection_id": a + 100}])
        raised = Sql(RAISE, [{"account_id": 1, "connection_id": 1, "n": 1}] * 2 if twice else [])
        yield Together((inserted, raised), ends=not after)
        if after:
            yield SERVER
        return a

    async def shared(*units: Work[int]) -> None:
        await asyncio.gather(*(store.write(lambda one=one: one, share=True) for one in units))  # type: ignore[misc]

    begun = 0
    begin = Link.begin

    async def noting(link: Link, *, write: bool) -> None:
        nonlocal begun
        begun += write
        await begin(link, write=write)

    monkeypatch.setattr(Link, "begin", noting)
    await shared(unit(1))
    await shared(unit(2), unit(3))
    assert begun == 0
    await shared(unit(4), unit(5, before=True))
    assert begun == 1
    await shared(unit(6, after=True), unit(7))
    assert begun == 2
    await shared(unit(8, twice=True), unit(9))  # two statements
    assert begun == 3
    counted = await store.read(ask(Sql("SELECT COUNT(*), SUM(held) FROM cap")))
    assert counted == [[(18, 2 * sum(range(1, 10)) + 2)]]


@on_postgresql
async def test_what_the_database_refuses_of_such_a_group_is_refused_alone(store: Store) -> None:
    await store.write(ask(cap(1, 2)))

    def blindly(a: int) -> Work[Rows]:
        return (yield Together((Sql(CAP, {"account_id": 1, "connection_id": a, "held": 0}),), ends=True))

    told = await asyncio.gather(
        *(store.write(lambda a=a: blindly(a), share=True) for a in (2, 3, 3, 4)),  # type: ignore[misc]
        return_exceptions=True,
    )
    assert [isinstance(one, asyncpg.UniqueViolationError) for one in told].count(True) == 2
    found = await store.read(ask(Sql("SELECT connection_id FROM cap ORDER BY 1")))
    assert found == [[(1,), (2,), (3,), (4,)]]
