"""Days past their time on PostgreSQL: they go as a whole, and nothing goes that somebody may still need."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from postroom.core.message import DeliveryState, Purpose
from postroom.engine import retention_days
from postroom.engine.caps import DAY_US
from postroom.engine.housekeeping import Cleared, Housekeeping, HousekeepingSettings
from postroom.ids import MessageId
from postroom.storage import days
from postroom.storage.days import PARTITIONED, Partition, first_of
from postroom.storage.interface import Rows, Sql, Work
from postroom.storage.migrations.postgres import upgrade
from postroom.storage.postgres import PostgresStore
from tests.support import seed_rows
from tests.support.clock import FakeClock
from tests.support.postgres import shared_databases

OLD = 100  # days ago


class House:
    """A database whose clock is right, with mail of any day in it."""

    def __init__(self, url: str, today: int) -> None:
        self.url, self.today = url, today
        self.clock = FakeClock(today * DAY_US + DAY_US // 2)
        self.store = PostgresStore(url, self.clock, patience_s=3.0)
        self.keeping = Housekeeping(self.store, self.clock, HousekeepingSettings(pause_s=0.0), by_day=True)
        self._names = 0

    async def do(self, text: str, **params: object) -> Rows:
        def work() -> Work[Rows]:
            return (yield Sql(text, params))

        return await self.store.write(work)

    async def day(self, ago: int) -> int:
        """Its partitions, as they were made when it was today."""
        day = self.today - ago
        for table in PARTITIONED:
            await self.do(
                f"CREATE TABLE IF NOT EXISTS {table}_ago_{ago} PARTITION OF {table}"
                f" FOR VALUES FROM ({first_of(day)}) TO ({first_of(day + 1)})"
            )
        return day

    async def message(self, ago: int, state: DeliveryState = DeliveryState.SENT) -> MessageId:
        """A message of that day, with an attempt and two events."""
        day = await self.day(ago)
        self._names += 1
        message_id, _ = await self.store.write(
            lambda: seed_rows.message(Purpose.TRANSACTIONAL, ["a@example.net"], f"m{self._names}")
        )
        which = {"id": message_id, "first": first_of(day), "at": day * DAY_US}
        await self.do(
            "UPDATE deliveries SET state = :state WHERE message_id = :id", state=state.value, id=message_id
        )
        await self.do("DELETE FROM ready")
        content = "(SELECT content_id FROM messages WHERE message_id = :id)"
        low = f"{(1 << days.BITS) - 1}"
        await self.do(
            f"UPDATE contents SET content_id = :first + (content_id & {low}), created_at = :at"
            f" WHERE content_id = {content}",
            **which,
        )
        await self.do(
            f"UPDATE messages SET content_id = :first + (content_id & {low}), created_at = :at"
            " WHERE message_id = :id",
            **which,
        )
        await self.do(
            "INSERT INTO events (account_id, server_id, message_id, delivery_id, kind, at)"
            " SELECT 1, 1, message_id, delivery_id, 'sent', 0 FROM deliveries WHERE message_id = :id",
            id=message_id,
        )
        await self.do(
            f"UPDATE events SET event_id = :first + (event_id & {low}), at = :at WHERE message_id = :id",
            **which,
        )
        await self.do(
            "INSERT INTO attempts (attempt_id, account_id, delivery_id, connection_id, worker_id, epoch,"
            " decision_id, day, granted_at, result)"
            " SELECT :first + message_id, 1, delivery_id, 1, 1, 1, 1, 0, :at, 'sent' FROM deliveries"
            " WHERE message_id = :id",
            **which,
        )
        return message_id

    async def counts(self) -> tuple[int, ...]:
        """How many contents, attempts and events there are."""
        return tuple([(await self.do(f"SELECT COUNT(*) FROM {table}"))[0][0] for table in PARTITIONED])

    async def names(self, table: str = "contents") -> list[str]:
        """Of partitions of past days."""
        found = await self.store.read(lambda: days.partitions(table))
        return [one.name for one in found if "_ago_" in one.name]

    async def clear(self, *, dry: bool = False) -> Cleared:
        return await self.keeping.run_once(dry=dry)

    async def oldest(self, table: str = "contents") -> Partition:
        return (await self.store.read(lambda: retention_days.past_days(table, self.clock.now_us())))[0]


@pytest.fixture
async def house() -> AsyncIterator[House]:
    with shared_databases().fresh() as url:
        await upgrade(url, unsafe=True)
        asking = await asyncpg.connect(url)
        today = await asking.fetchval("SELECT floor(extract(epoch FROM clock_timestamp()) / 86400)::bigint")
        await asking.close()
        made = House(url, today)
        await made.store.write(seed_rows.tenants)
        for table in PARTITIONED:  # as if it had been begun long ago
            await made.do(f"DROP TABLE {table}_before")
            await made.do(
                f"CREATE TABLE {table}_before PARTITION OF {table}"
                f" FOR VALUES FROM (MINVALUE) TO ({first_of(today - 300)})"
            )
        yield made
        await made.store.close()


async def test_a_day_past_its_time_goes_as_a_whole(house: House) -> None:
    for ago in (OLD, OLD, OLD + 1, 40, 3):
        await house.message(ago)
    would = await house.clear(dry=True)
    assert await house.counts() == (5, 5, 10)

    went = await house.clear()

    assert went.counts() == would.counts() == {"contents": 4, "attempts": 3, "events": 6}
    assert {name: past.size_bytes for name, past in went.kinds.items()} == {
        name: past.size_bytes for name, past in would.kinds.items()
    }
    assert await house.counts() == (1, 2, 4)
    assert await house.names() == ["contents_ago_3"]
    assert await house.names("events") == ["events_ago_40", "events_ago_3"]
    assert (await house.clear()).counts() == {}


@pytest.mark.parametrize("state", [DeliveryState.HELD, DeliveryState.CAPTURED, DeliveryState.READY])
async def test_what_waits_keeps_its_rows_and_the_rest_of_its_day_goes(
    house: House, state: DeliveryState
) -> None:
    for _ in range(5):
        await house.message(OLD)
    waits = await house.message(OLD, state)
    # A newer version's column is carried too.
    await house.do("ALTER TABLE contents ADD COLUMN colour text")
    await house.do("UPDATE contents SET colour = 'blue'")

    went = await house.clear()

    assert went.counts() == {"contents": 5, "attempts": 5, "events": 10}
    assert await house.counts() == (1, 1, 2)
    rows = await house.do(
        "SELECT m.message_id, c.colour, c.body, c.tableoid::regclass::text"
        " FROM messages m JOIN contents c USING (content_id)"
    )
    assert [(row[0], row[1], row[3]) for row in rows] == [(waits, "blue", f"contents_ago_{OLD}")]
    assert rows[0][2]
    assert (await house.clear()).counts() == {}  # and is not made anew each time
    assert await house.names() == [f"contents_ago_{OLD}"]

    await house.do("UPDATE deliveries SET state = 'sent'")
    assert (await house.clear()).counts() == {"contents": 1, "attempts": 1, "events": 2}
    assert await house.names() == []


async def test_where_much_waits_the_day_is_cleared_in_slices(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention_days, "MOST_KEPT", 1)
    for state in (DeliveryState.HELD, DeliveryState.HELD, DeliveryState.SENT):
        await house.message(OLD, state)

    assert (await house.clear()).counts() == {"contents": 1, "attempts": 1, "events": 2}
    assert await house.counts() == (2, 2, 4)
    assert await house.names() == [f"contents_ago_{OLD}"]


async def test_what_a_person_sends_again_after_the_look_keeps_its_content(house: House) -> None:
    message_id = await house.message(OLD)
    one = await house.oldest()
    judged = await house.store.read(
        lambda: retention_days.judge("contents", one, first_of(0), house.clock.now_us())
    )
    assert judged is not None
    assert not judged.stay

    await house.do(
        "INSERT INTO ready (account_id, lane_id, due, delivery_id)"
        " SELECT account_id, lane_id, 0, delivery_id FROM deliveries"
        " WHERE message_id = :id",
        id=message_id,
    )
    assert not await house.store.write(lambda: retention_days.drop("contents", one, judged))
    assert (await house.counts())[0] == 1

    await house.do("DELETE FROM ready")
    assert await house.store.write(lambda: retention_days.drop("contents", one, judged))
    assert (await house.counts())[0] == 0
    # Another process that judged the same finds it done.
    assert not await house.store.write(lambda: retention_days.drop("contents", one, judged))


async def test_a_table_in_use_is_left_to_the_next_run_and_mail_passes(house: House) -> None:
    await house.message(OLD)
    reader = await asyncpg.connect(house.url)
    async with reader.transaction():
        await reader.fetch("SELECT 1 FROM contents")  # a dump, say
        clearing = asyncio.create_task(house.clear())
        other = PostgresStore(house.url)
        for number in range(5):
            await other.write(
                lambda number=number: seed_rows.message(  # type: ignore[misc]
                    Purpose.TRANSACTIONAL, ["b@example.net"], f"beside{number}"
                )
            )
        await other.close()
        went = await clearing
    assert "contents" not in went.counts()
    assert await house.names() == [f"contents_ago_{OLD}"]
    await reader.close()

    assert (await house.clear()).counts()["contents"] == 1
    assert await house.names() == []


async def test_days_where_ids_may_still_come_to_lie_are_never_dropped(house: House) -> None:
    """However short the time of keeping, and though the clock says it is long past."""
    await house.do("DELETE FROM contents")
    house.clock.advance(20 * 365 * 86_400.0)
    await house.clear()

    found = await house.store.read(lambda: days.partitions("contents"))
    assert [one.day for one in found] == [None, *range(house.today - 1, house.today + days.AHEAD + 1)]


async def test_housekeeping_makes_the_days_of_the_coming_week(house: House) -> None:
    last = (await house.store.read(lambda: days.partitions("attempts")))[-1]
    await house.do(f"DROP TABLE {last.name}")
    await house.clear()
    assert (await house.store.read(lambda: days.partitions("attempts")))[-1] == last


async def test_a_content_whose_message_is_not_found_stays(house: House) -> None:
    day = await house.day(OLD)
    await house.do("INSERT INTO contents VALUES (1, :id, 0, '')", id=first_of(day) + 1)
    await house.clear()
    assert (await house.counts())[0] == 1


async def test_ids_that_are_not_quite_in_one_order_are_found(house: House) -> None:
    """Two connections took their numbers crosswise."""
    first, second = await house.message(OLD), await house.message(OLD)
    ids = {row[0]: row[1] for row in await house.do("SELECT message_id, content_id FROM messages")}
    await house.do("UPDATE messages SET content_id = :c WHERE message_id = :m", m=first, c=ids[second])
    await house.do("UPDATE messages SET content_id = :c WHERE message_id = :m", m=second, c=ids[first])

    assert (await house.clear()).counts()["contents"] == 2
    assert (await house.counts())[0] == 0
