"""Partitions by day on PostgreSQL: made ahead, found by id, and never missing when mail comes in."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from postroom.core.message import Purpose
from postroom.ids import MessageId
from postroom.storage import contents, days, hot, messages, queue
from postroom.storage.days import AHEAD, BITS, PARTITIONED, first_of
from postroom.storage.interface import NewIds, Rows, Sql, Work
from postroom.storage.migrations.postgres import upgrade
from postroom.storage.postgres import PostgresStore
from postroom.storage.postgres_batch import batch
from tests.support import seed_rows
from tests.support.postgres import PostgresServer, program, shared_databases


@pytest.fixture
async def url() -> AsyncIterator[str]:
    with shared_databases().fresh() as made:
        await upgrade(made, unsafe=True)
        yield made


@pytest.fixture
async def store(url: str) -> AsyncIterator[PostgresStore]:
    made = PostgresStore(url)
    await made.write(seed_rows.tenants)
    yield made
    await made.close()


def sql(text: str, **params: object) -> Work[Rows]:
    return (yield Sql(text, params))


async def today_of(store: PostgresStore) -> int:
    rows = await store.read(
        lambda: sql("SELECT floor(extract(epoch FROM clock_timestamp()) / 86400)::bigint")
    )
    found: int = rows[0][0]
    return found


async def put(store: PostgresStore, name: str = "m") -> tuple[int, int]:
    """A message stored as accept stores it: its number and its content's."""
    message_id, _ = await store.write(
        lambda: seed_rows.message(Purpose.TRANSACTIONAL, ["a@example.net"], name)
    )
    rows = await store.read(
        lambda: sql("SELECT content_id FROM messages WHERE message_id = :id", id=message_id)
    )
    return message_id, rows[0][0]


async def test_a_new_database_has_the_days_of_a_week_ahead(store: PostgresStore) -> None:
    today = await today_of(store)
    for table in PARTITIONED:
        found = await store.read(lambda table=table: days.partitions(table))  # type: ignore[misc]
        assert found[0].name == f"{table}_before"
        assert found[0].first is None
        assert [one.day for one in found[1:]] == list(range(today - 1, today + AHEAD + 1))


async def test_ids_carry_the_day_and_count_up(store: PostgresStore) -> None:
    today = await today_of(store)
    ids = [(await put(store, f"m{number}"))[1] for number in range(3)]

    assert ids == [first_of(today) + number for number in (1, 2, 3)]
    assert max(ids) < 1 << 53  # what JSON readers everywhere hold exactly


async def test_making_again_makes_nothing_and_two_at_once_make_each_once(
    store: PostgresStore, url: str
) -> None:
    assert await store.write(days.make) == []
    last = (await store.read(lambda: days.partitions("events")))[-1]
    await store.write(lambda: sql(f"DROP TABLE {last.name}"))

    made = await asyncio.gather(*(store.write(days.make) for _ in range(4)))

    assert [name for one in made for name in one] == [last.name]
    await upgrade(url, unsafe=True)  # so does a start


async def test_mail_comes_in_though_nobody_made_partitions_for_weeks(store: PostgresStore) -> None:
    """As if today were weeks after the newest partition: ids stay in the newest."""
    today = await today_of(store)
    await store.write(lambda: _only(today - 40, today - 20))

    _, content = await put(store)
    assert content >> BITS == today - 20

    await store.write(days.make)
    _, content = await put(store, "later")
    assert content >> BITS == today


async def test_mail_comes_in_though_the_servers_clock_went_back_by_years(store: PostgresStore) -> None:
    """As if the partitions had been made while the clock said a time in the far future."""
    today = await today_of(store)
    await store.write(lambda: _only(today + 4000, today + 4008))

    _, content = await put(store)
    assert content >> BITS == today + 4000

    await store.write(days.make)  # the clock is right again, and what it says counts
    _, content = await put(store, "later")
    assert content >> BITS == today


def _only(first: int, last: int) -> Work[None]:
    """The partitions as they were made at another time."""
    for table in PARTITIONED:
        for one in (yield from days.partitions(table)):
            yield Sql(f"DROP TABLE {one.name}")
        for day in range(first, last + 1):
            yield Sql(
                f"CREATE TABLE {table}_{day} PARTITION OF {table}"
                f" FOR VALUES FROM ({first_of(day)}) TO ({first_of(day + 1)})"
            )
    yield Sql("SELECT setval('postroom_days', :day)", {"day": last})


async def test_a_dump_that_was_restored_takes_mail_on(tmp_path: Path) -> None:
    """With PostgreSQL's own tools, as docs/postgresql.md has them."""
    dump = tmp_path / "postroom.dump"
    with PostgresServer() as server, server.fresh() as url, server.fresh() as other:
        await upgrade(url, unsafe=True)
        first = PostgresStore(url)
        await first.write(seed_rows.tenants)
        _, before = await put(first)
        await first.close()
        for name, *arguments in (
            ("pg_dump", "--format=custom", f"--file={dump}", url),
            ("pg_restore", "--exit-on-error", "--no-owner", f"--dbname={other}", str(dump)),
        ):
            subprocess.run([program(name), *arguments], check=True)
        await upgrade(other, unsafe=True)
        restored = PostgresStore(other)
        _, after = await put(restored, "after")
        found = await restored.read(lambda: sql("SELECT content_id FROM contents ORDER BY content_id"))
        await restored.close()
    assert [row[0] for row in found] == [before, after]
    assert after == before + 1


async def test_rows_of_a_database_without_days_lie_before_the_first(store: PostgresStore) -> None:
    await store.write(
        lambda: sql("INSERT INTO contents (account_id, content_id, created_at, body) VALUES (1, 7, 0, '')")
    )
    rows = await store.read(lambda: sql("SELECT tableoid::regclass::text FROM contents"))
    assert rows[0][0] == "contents_before"


async def locked(store: PostgresStore, work: Work[object]) -> set[str]:
    """The partitions a unit takes any lock on: what it touches, in planning or in running."""

    def unit() -> Work[set[str]]:
        yield from work
        rows = yield Sql(
            "SELECT DISTINCT c.relname FROM pg_locks l JOIN pg_class c ON c.oid = l.relation"
            " WHERE l.pid = pg_backend_pid() AND c.relispartition AND c.relkind = 'r'"
        )
        return {row[0] for row in rows}

    return await store.write(unit)


async def test_each_hot_look_touches_the_partition_of_its_id_alone(store: PostgresStore) -> None:
    today = await today_of(store)
    _, content_id = await put(store)
    delivery = (await store.read(lambda: sql("SELECT delivery_id, lane_id FROM deliveries")))[0]
    attempt = {
        "account_id": 1, "delivery_id": delivery[0], "connection_id": 1, "worker_id": 1, "epoch": 1,
        "decision_id": 1, "day": 0, "now": 0,
    }  # fmt: skip
    (ids,) = await store.write(lambda: _new(30))
    await store.write(lambda: _many(hot.INSERT_ATTEMPT, [{**attempt, "attempt_id": one} for one in ids]))
    table = {name: next(p.name for p in await store.read(lambda name=name: days.partitions(name))  # type: ignore[misc]
                        if p.day == today) for name in PARTITIONED}  # fmt: skip
    ended = {
        "account_id": 1, "now": 1, "result": "sent", "fault": "", "phase": "", "code": 250, "enhanced": "",
        "reply": "", "remote_id": "", "signed": "",
    }  # fmt: skip

    looks: dict[str, tuple[Work[object], set[str]]] = {
        "accept": (
            seed_rows.message(Purpose.TRANSACTIONAL, ["b@example.net"], "n"),
            {table["contents"], table["events"]},
        ),
        "content": (contents.bodies({content_id: seed_rows.ACCOUNT}), {table["contents"]}),
        "open attempts": (
            _many(hot.OPEN_ATTEMPT, [{"account_id": 1, "attempt_id": one} for one in ids]),
            {table["attempts"]},
        ),
        "end attempts": (
            _many(hot.END_ATTEMPT, [{**ended, "attempt_id": one} for one in ids]), {table["attempts"]}
        ),
        "begin attempts": (
            _many(hot.INSERT_ATTEMPT, [{**attempt, "attempt_id": ids[-1] + one} for one in (1, 2)]),
            {table["attempts"]},
        ),
    }  # fmt: skip
    for name, (work, wanted) in looks.items():
        assert await locked(store, work) == wanted, name


async def test_it_stays_so_when_the_server_has_seen_the_statement_often(store: PostgresStore) -> None:
    """At the sixth run PostgreSQL weighs, once, whether one plan for all values would do, which locks all."""
    _, content_id = await put(store)

    def often() -> Work[None]:
        for _ in range(8):
            yield from contents.bodies({content_id: seed_rows.ACCOUNT})
            yield Sql(hot.OPEN_ATTEMPT, {"account_id": 1, "attempt_id": content_id})
            yield Sql(
                hot.OPEN_ATTEMPT, [{"account_id": 1, "attempt_id": content_id + one} for one in range(20)]
            )

    await store.write(often)
    assert len(await locked(store, often())) == 2  # on the same connection, which is the only free one


async def test_what_is_of_another_day_is_found_as_well(store: PostgresStore) -> None:
    today = await today_of(store)
    await put(store)
    ((delivery_id,),) = await store.read(lambda: sql("SELECT delivery_id FROM deliveries"))
    attempt = {
        "account_id": 1, "delivery_id": delivery_id, "connection_id": 1, "worker_id": 1, "epoch": 1,
        "decision_id": 1, "day": 0, "now": 0,
    }  # fmt: skip
    ids = [7, *(first_of(day) + n for day in (today - 1, today) for n in (1, 2))]
    await store.write(lambda: _many(hot.INSERT_ATTEMPT, [{**attempt, "attempt_id": one} for one in ids]))
    for wanted in (ids, ids[:1], ids[1:3], ids[3:], ids[4:], ids[2:4]):
        which = [{"account_id": 1, "attempt_id": one} for one in wanted]
        rows = await store.write(lambda which=which: _many(hot.OPEN_ATTEMPT, which))  # type: ignore[misc]
        assert [row[0] for row in rows] == wanted


async def test_a_day_that_went_while_nothing_was_numbered_is_no_trouble(store: PostgresStore) -> None:
    today = await today_of(store)
    _, content_id = await put(store)
    gone = first_of(today + AHEAD + 30) + 1
    store._growth.day = gone >> BITS
    assert await store.write(lambda: contents.bodies({gone: seed_rows.ACCOUNT})) == {}
    assert store._growth.day == 0
    store._growth.day = today
    assert list(await store.write(lambda: contents.bodies({content_id: seed_rows.ACCOUNT}))) == [content_id]


async def test_a_day_without_partitions_of_its_own_is_asked_of_the_table(store: PostgresStore) -> None:
    """As a clock leaves it that was days ahead when the database was made: ids lie in what is before."""
    today = await today_of(store)
    await put(store)
    ((delivery_id,),) = await store.read(lambda: sql("SELECT delivery_id FROM deliveries"))
    attempt = {
        "account_id": 1, "delivery_id": delivery_id, "connection_id": 1, "worker_id": 1, "epoch": 1,
        "decision_id": 1, "day": 0, "now": 0,
    }  # fmt: skip

    def without() -> Work[None]:
        """Today's attempts lie in a partition of another name."""
        name = days.name_of("attempts", today)
        yield Sql(f"ALTER TABLE {name} RENAME TO attempts_of_another_name")

    await store.write(without)
    store._growth.look_again()
    ids = [first_of(today) + n for n in (1001, 1002)]
    for one in ids:
        await store.write(lambda one=one: _many(hot.INSERT_ATTEMPT, [{**attempt, "attempt_id": one}]))  # type: ignore[misc]
        assert store._growth.day == 0
    rows = await store.write(
        lambda: _many(hot.OPEN_ATTEMPT, [{"account_id": 1, "attempt_id": one} for one in ids])
    )
    assert [row[0] for row in rows] == ids
    assert store.run_again == 0


async def test_many_who_meet_a_day_that_went_all_go_on(store: PostgresStore) -> None:
    today = await today_of(store)
    gone = first_of(today + AHEAD + 30) + 1

    def look() -> Work[dict[int, bytes]]:
        return contents.bodies({gone: seed_rows.ACCOUNT})

    for _ in range(5):
        store._growth.day = gone >> BITS
        assert await asyncio.gather(*(store.write(look) for _ in range(8))) == [{}] * 8


def _new(count: int) -> Work[Rows]:
    return (yield NewIds((("attempts", count),)))


def _many(text: str, params: list[dict[str, object]]) -> Work[Rows]:
    return (yield Sql(text, params))


async def test_what_a_person_asks_of_a_message_begins_at_its_day(store: PostgresStore) -> None:
    today = await today_of(store)
    message_id, content_id = await put(store)
    delivery = (await store.read(lambda: sql("SELECT delivery_id FROM deliveries")))[0][0]
    first = {f"{table}_before" for table in PARTITIONED}

    seen = await locked(store, messages.attempts(seed_rows.ACCOUNT, delivery, content_id))
    seen |= await locked(store, queue.by_hand(seed_rows.ACCOUNT, MessageId(message_id), content_id))
    assert len(seen) == 2 * (AHEAD + 2)
    assert not seen & first

    assert days.since(7) < 0  # a content of SQLite's has no day, and everything is looked through
    assert days.since(first_of(today) + 5) == first_of(today - 1)


def test_only_what_is_compared_is_bounded_and_not_what_is_set() -> None:
    made = batch(hot.CLAIM_DELIVERY, "", dict.fromkeys(
        ("attempt_id", "worker_id", "epoch", "account_id", "delivery_id"), "int8"))  # fmt: skip
    assert made is not None
    assert "ANY" not in made.text
