"""Housekeeping: what is past its time goes, all of it, and nothing that somebody may still need."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.clock import MICROS
from postroom.core.message import FINAL_STATES, DeliveryState, Purpose
from postroom.engine.caps import DAY_US, HOUR_US
from postroom.engine.housekeeping import KINDS, Housekeeping, HousekeepingSettings
from postroom.engine.retention import SLICE, Past, Window, first_message_of
from postroom.engine.turn import Turn
from postroom.errors import Unavailable
from postroom.ids import AccountId, KeyId, MessageId
from postroom.storage import audit, idempotency
from postroom.storage.audit import AuditLine, Wanted
from postroom.storage.interface import Rows, Sql, Work
from tests.support import seed_rows, stores
from tests.support.clock import FakeClock
from tests.support.passed_on import PassedOn
from tests.support.stores import OpenStore, on_both, on_sqlite

pytestmark = on_both
T = TypeVar("T")
DAY_S = 86_400.0
QUICK = HousekeepingSettings(every_s=0.001, pause_s=0.0)


class Counts(SimpleNamespace):
    """Rows of each kind; kinds that are not named: none."""

    def __init__(self, **counts: int) -> None:
        super().__init__(**(dict.fromkeys(KINDS, 0) | counts))


class House:
    """A store with one account, a clock to move, and the housekeeping of both."""

    def __init__(self, store: OpenStore, clock: FakeClock) -> None:
        self.store, self.clock = store, clock
        self.keeping = Housekeeping(store, clock, QUICK)
        self._names = 0

    async def clear(self) -> Counts:
        """One run."""
        return Counts(**(await self.keeping.run_once()).counts())

    async def do(self, text: str, **params: object) -> Rows:
        def work() -> Work[Rows]:
            return (yield Sql(text, params))

        return await self.store.write(work)

    async def many(self, text: str, values: list[dict[str, object]]) -> None:
        def work() -> Work[None]:
            yield Sql(text, values)

        await self.store.write(work)

    async def count(self, table: str) -> int:
        rows = await self.do(f"SELECT COUNT(*) FROM {table}")
        found: int = rows[0][0]
        return found

    async def message(self, *states: DeliveryState) -> MessageId:
        """A message accepted now, with one delivery in each of these states."""
        self._names += 1
        recipients = [f"r{number}@example.net" for number in range(len(states))]
        message_id, _ = await self.store.write(
            lambda: seed_rows.message(Purpose.TRANSACTIONAL, recipients, f"m{self._names}")
        )
        for recipient, state in zip(recipients, states, strict=True):
            await self.do(
                "UPDATE deliveries SET state = :state WHERE message_id = :message_id AND recipient = :to",
                state=state.value,
                message_id=message_id,
                to=recipient,
            )
        return message_id

    async def attempt(self, message_id: MessageId, decision: int, *, open_: bool = False) -> None:
        """An attempt that began now, of every delivery of a message."""
        await self.do(
            "INSERT INTO attempts (account_id, delivery_id, connection_id, worker_id, epoch, decision_id,"
            " day, granted_at, result) SELECT account_id, delivery_id, 1, 1, 1, :decision, 0, :now, :result"
            " FROM deliveries WHERE message_id = :message_id",
            decision=decision,
            now=self.clock.now_us(),
            result=None if open_ else "sent",
            message_id=message_id,
        )

    async def decision(self, lane: int = 1) -> int:
        """A decision made now."""
        rows = await self.do(
            "INSERT INTO decisions (account_id, lane_id, facts, decision, created_at)"
            " VALUES (1, :lane, '{}', '{}', :now) RETURNING decision_id",
            lane=lane,
            now=self.clock.now_us(),
        )
        found: int = rows[0][0]
        return found

    async def contents_of(self) -> set[MessageId]:
        """Messages whose content is still there."""
        rows = await self.do("SELECT message_id FROM messages JOIN contents USING (content_id)")
        return {row[0] for row in rows}


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    clock = FakeClock()
    store = await stores.make_store(tmp_path, clock, seed_rows.tenants)
    yield House(store, clock)
    await store.close()


async def test_what_was_cleared_away_is_told_once_and_nothing_where_nothing_was(house: House) -> None:
    async def lines() -> list[AuditLine]:
        return await house.store.read(lambda: audit.list_lines(Wanted()))

    await house.message(DeliveryState.SENT)
    await house.clear()
    assert await lines() == []
    house.clock.advance(31 * DAY_S)
    await house.clear()
    await house.clear()
    (line,) = await lines()
    assert (line.actor, line.account_id, line.action) == ("housekeeping", 0, "retention.clear")
    assert line.detail == {"contents": 1}


# --- contents ------------------------------------------------------------------------------------------


async def test_the_content_of_a_final_message_goes_after_its_time_and_the_message_stays(house: House) -> None:
    old = await house.message(DeliveryState.SENT)
    house.clock.advance(DAY_S)
    young = await house.message(DeliveryState.SENT)

    house.clock.advance(29 * DAY_S - 1)
    assert (await house.clear()).contents == 0
    house.clock.advance(1)
    assert (await house.clear()).contents == 1

    assert await house.contents_of() == {young}
    rows = await house.do("SELECT content_id FROM messages WHERE message_id = :m", m=old)
    assert rows[0][0] > 0
    assert await house.count("deliveries") == 2


@pytest.mark.parametrize("state", sorted(DeliveryState))
async def test_a_content_stays_as_long_as_one_delivery_is_not_final(
    house: House, state: DeliveryState
) -> None:
    message = await house.message(DeliveryState.SENT, state)
    before = await house.do("SELECT * FROM deliveries")
    house.clock.advance(3650 * DAY_S)
    await house.clear()

    assert await house.contents_of() == (set() if state in FINAL_STATES else {message})
    assert await house.do("SELECT * FROM deliveries") == before


async def test_old_messages_that_wait_do_not_hide_those_that_are_done(house: House) -> None:
    waiting = {await house.message(DeliveryState.CAPTURED) for _ in range(3)}
    await house.message(DeliveryState.SENT)
    waiting.add(await house.message(DeliveryState.READY))
    await house.message(DeliveryState.BOUNCED)
    house.clock.advance(31 * DAY_S)
    young = await house.message(DeliveryState.SENT)

    assert (await house.clear()).contents == 2
    assert await house.contents_of() == waiting | {young}

    house.clock.advance(31 * DAY_S)
    await house.do("UPDATE deliveries SET state = 'sent'")
    assert (await house.clear()).contents == 5
    assert await house.contents_of() == set()


@on_sqlite
async def test_contents_are_found_when_their_ids_have_run_ahead_of_the_messages(house: House) -> None:
    """As after a restore, which moves the numbers on; on PostgreSQL a content's number has its day."""
    kept = await house.message(DeliveryState.READY)
    for ahead in (7, 3 * SLICE, 20 * SLICE):
        await house.do("UPDATE sqlite_sequence SET seq = seq + :n WHERE name = 'contents'", n=ahead)
        await house.message(DeliveryState.SENT)
        await house.do("UPDATE sqlite_sequence SET seq = seq + :n WHERE name = 'messages'", n=ahead // 3)
        await house.message(DeliveryState.CANCELLED)
    house.clock.advance(31 * DAY_S)

    assert (await house.clear()).contents == 6
    assert await house.contents_of() == {kept}


@settings(derandomize=True, max_examples=30, deadline=None)
@given(steps=st.lists(st.tuples(st.integers(1, 5), st.integers(1, 9)), max_size=20))
def test_the_first_message_of_a_content_is_found_whatever_numbers_are_missing(
    steps: list[tuple[int, int]],
) -> None:
    database = sqlite3.connect(":memory:")
    database.execute("CREATE TABLE messages (message_id INTEGER PRIMARY KEY, content_id INTEGER)")
    pairs, message_id, content_id = [], 0, 0
    for message_step, content_step in steps:
        message_id, content_id = message_id + message_step, content_id + content_step
        pairs.append((message_id, content_id))
    database.executemany("INSERT INTO messages VALUES (?, ?)", pairs)

    for wanted in range(content_id + 3):
        found = _run_on(database, first_message_of(wanted))
        assert [m for m, _ in pairs if m >= found] == [m for m, c in pairs if c >= wanted]
    database.close()


def _run_on(database: sqlite3.Connection, work: Work[int]) -> int:
    rows: Rows = []
    statement = next(work)
    try:
        while True:
            assert isinstance(statement, Sql)
            rows = database.execute(statement.text, statement.params).fetchall()
            statement = work.send(rows)
    except StopIteration as stop:
        found: int = stop.value
        return found


async def test_what_waits_again_between_look_and_delete_stays(house: House) -> None:
    message = await house.message(DeliveryState.SENT)
    await house.attempt(message, 1)
    house.clock.advance(91 * DAY_S)
    real_read = house.store.read

    async def read(work: Callable[[], Work[Window | None]]) -> Window | None:
        await house.do("UPDATE deliveries SET state = 'sent'")
        window = await real_read(work)
        await house.do("UPDATE deliveries SET state = 'ready'")
        return window

    house.store.read = read  # type: ignore[method-assign, assignment]  # the moment between two units
    cleared = await house.clear()
    house.store.read = real_read  # type: ignore[method-assign]

    assert cleared == Counts()
    assert await house.contents_of() == {message}


# --- events and attempts -------------------------------------------------------------------------------


async def test_events_go_after_their_time_but_for_those_of_what_waits(house: House) -> None:
    await house.message(DeliveryState.SENT, DeliveryState.HELD)
    await house.do(
        "INSERT INTO events (account_id, server_id, kind, at) VALUES (1, 0, 'connection_failed', :now)",
        now=house.clock.now_us(),
    )
    assert await house.count("events") == 3
    house.clock.advance(90 * DAY_S - 1)
    assert (await house.clear()).events == 0
    await house.message(DeliveryState.SENT)
    house.clock.advance(1)
    assert (await house.clear()).events == 2

    rows = await house.do("SELECT d.state FROM events LEFT JOIN deliveries d USING (delivery_id)")
    assert sorted(row[0] for row in rows) == ["held", "sent"]


async def test_attempts_go_after_their_time_but_for_open_ones_and_those_of_what_waits(house: House) -> None:
    done = await house.message(DeliveryState.BOUNCED)
    waiting = await house.message(DeliveryState.UNKNOWN)
    await house.attempt(done, 1)
    await house.attempt(waiting, 2)
    await house.attempt(done, 3, open_=True)
    house.clock.advance(90 * DAY_S - 1)
    assert (await house.clear()).attempts == 0
    await house.attempt(done, 4)
    house.clock.advance(1)
    assert (await house.clear()).attempts == 1

    rows = await house.do("SELECT decision_id, result FROM attempts ORDER BY attempt_id")
    assert [tuple(row) for row in rows] == [(2, "sent"), (3, None), (4, "sent")]


async def test_what_is_judged_is_the_time_of_the_row_not_its_place(house: House) -> None:
    """A clock was set back: a younger number has an older time. Nothing young goes for it."""
    message = await house.message(DeliveryState.SENT)
    house.clock.advance(100 * DAY_S)
    await house.attempt(message, 1)
    house.clock.step(-50 * DAY_S)
    await house.attempt(message, 1)
    house.clock.step(50 * DAY_S + 60)

    assert (await house.clear()).attempts == 0
    house.clock.advance(90 * DAY_S)
    assert (await house.clear()).attempts == 2


# --- decisions -----------------------------------------------------------------------------------------


async def test_a_decision_goes_when_it_was_replaced_long_ago_and_no_attempt_names_it(house: House) -> None:
    done, waiting = await house.message(DeliveryState.SENT), await house.message(DeliveryState.READY)
    unused, used, named = [await house.decision() for _ in range(3)]
    await house.attempt(done, used)
    await house.attempt(waiting, named)
    newest = await house.decision()
    other_lane = await house.decision(lane=2)
    house.clock.advance(90 * DAY_S)
    assert (await house.clear()).decisions == 0  # a claim may have been under way

    house.clock.advance(3600)
    assert (await house.clear()).decisions == 2
    rows = await house.do("SELECT decision_id FROM decisions")
    assert {row[0] for row in rows} == {named, newest, other_lane}
    assert unused not in {row[0] for row in rows}

    await house.do("UPDATE deliveries SET state = 'sent'")
    assert (await house.clear()).decisions == 1


async def test_a_decision_long_in_force_stays_for_the_attempts_made_by_it_lately(house: House) -> None:
    message = await house.message(DeliveryState.SENT)
    long_in_force = await house.decision()
    house.clock.advance(200 * DAY_S)
    await house.attempt(message, long_in_force)
    await house.decision()
    house.clock.advance(DAY_S)

    await house.clear()
    assert await house.count("decisions") == 2
    assert await house.count("attempts") == 1


# --- counters, senders, idempotency --------------------------------------------------------------------


async def test_old_counters_go_and_those_the_caps_look_at_stay(house: House) -> None:
    now_us = house.clock.now_us()
    day, hour = now_us // DAY_US, now_us // HOUR_US
    for back in (0, 7, 8, 9, 400):
        await house.do(
            "INSERT INTO cap_day (account_id, connection_id, day, used) VALUES (1, 1, :day, 1)",
            day=day - back,
        )
        await house.do(
            "INSERT INTO cap_hour (account_id, connection_id, hour, transactional) VALUES (1, 1, :hour, 1)",
            hour=hour - back * 24,
        )
    await house.do("INSERT INTO cap (account_id, connection_id, held) VALUES (1, 1, 3)")
    await house.do("INSERT INTO cap_release (account_id, connection_id, due, n) VALUES (1, 1, 10, 3)")

    cleared = await house.clear()

    assert (cleared.cap_days, cleared.cap_hours) == (2, 2)
    assert {row[0] for row in await house.do("SELECT day FROM cap_day")} == {day, day - 7, day - 8}
    assert await house.count("cap_hour") == 3
    # Room that is overdue belongs to what is held; only the next grant may take both together.
    assert (await house.count("cap"), await house.count("cap_release")) == (1, 1)


async def test_a_refused_sender_is_forgotten_when_it_may_be_tried_again(house: House) -> None:
    now_us = house.clock.now_us()
    for sender, until in (("past@example.com", now_us), ("later@example.com", now_us + 1)):
        await house.do(
            "INSERT INTO refused_senders (account_id, connection_id, sender, until, reply)"
            " VALUES (1, 1, :sender, :until, '')",
            sender=sender,
            until=until,
        )

    assert (await house.clear()).refused_senders == 1
    rows = await house.do("SELECT sender FROM refused_senders")
    assert [row[0] for row in rows] == ["later@example.com"]


def remembered(name: str, message_id: MessageId, at_us: int) -> Work[None]:
    assert (yield from idempotency.begin(AccountId(1), KeyId(1), name, b"f", at_us, 0)) is None
    yield from idempotency.finish(AccountId(1), KeyId(1), name, message_id)


async def test_idempotency_rows_go_after_a_day(house: House) -> None:
    def remember(name: str) -> Callable[[], Work[None]]:
        return lambda: remembered(name, MessageId(1), house.clock.now_us())

    await house.store.write(remember("old"))
    house.clock.advance(DAY_S - 1)
    await house.store.write(remember("new"))
    assert (await house.clear()).idempotency == 0
    house.clock.advance(1)

    assert (await house.clear()).idempotency == 1
    assert [row[0] for row in await house.do("SELECT name FROM idempotency")] == ["new"]


class Counting(PassedOn):
    """A store that knows how many units were written through it."""

    def __init__(self, store: OpenStore) -> None:
        super().__init__(store)
        self.written = 0

    async def write(self, work: Callable[[], Work[T]], size_bytes: int = 0, *, share: bool = False) -> T:
        value = await super().write(work, size_bytes, share=share)
        self.written += 1
        return value

    async def looked(self, times: int) -> None:
        """Returns when it was written to so often from now on."""
        wanted = self.written + times
        async with asyncio.timeout(10):
            while self.written < wanted:
                await asyncio.sleep(0)


async def test_one_of_several_processes_keeps_house_and_is_followed_when_it_is_gone(house: House) -> None:
    looks = [Counting(house.store) for _ in range(3)]
    turns = [Turn(each, "housekeeping", renew_s=0.001) for each in looks]
    first, second, third = keepers = [
        Housekeeping(house.store, house.clock, HousekeepingSettings(pause_s=0.0), turn=turn) for turn in turns
    ]

    async def until_run(keeping: Housekeeping) -> None:
        async with asyncio.timeout(10):
            while not keeping.runs:
                await asyncio.sleep(0)

    first.start()
    await until_run(first)
    second.start()
    for _ in range(3):  # it is renewed: time alone changes nothing
        house.clock.advance(30)
        await looks[0].looked(2)
        await looks[1].looked(2)
    assert [one.runs for one in keepers] == [1, 0, 0]

    await first.stop()  # gives it back
    await until_run(second)

    assert turns[1]._task is not None
    turns[1]._task.cancel()  # as if killed: neither renewed nor given back
    third.start()
    house.clock.advance(40)
    await looks[2].looked(2)
    assert [one.runs for one in keepers] == [1, 1, 0]
    house.clock.advance(46)  # a last renewal may have been under way
    await until_run(third)
    for one in keepers:
        await one.stop()


async def test_the_times_are_those_of_the_settings(house: House) -> None:
    keeping = Housekeeping(
        house.store,
        house.clock,
        HousekeepingSettings(keep_content_s=10, keep_events_s=20, idempotency_keep_s=5, pause_s=0),
    )
    message = await house.message(DeliveryState.SENT)
    await house.attempt(message, 1)
    house.clock.advance(9)
    assert Counts(**(await keeping.run_once()).counts()) == Counts()
    house.clock.advance(1)
    assert Counts(**(await keeping.run_once()).counts()) == Counts(contents=1)
    house.clock.advance(10)
    assert Counts(**(await keeping.run_once()).counts()) == Counts(events=1, attempts=1)


# --- slices and the loop -------------------------------------------------------------------------------


async def test_much_is_cleared_in_slices_with_room_for_others_between(house: House) -> None:
    count = 2 * SLICE + 7
    at = house.clock.now_us()
    await house.many(
        "INSERT INTO events (account_id, server_id, kind, at) VALUES (1, 1, 'sent', :at)",
        [{"at": at}] * count,
    )
    await house.many(
        "INSERT INTO idempotency (account_id, key_id, name, fingerprint, message_id, created_at)"
        " VALUES (1, 1, :name, :zero, 1, :at)",
        [{"name": str(number), "at": at, "zero": b"\x00"} for number in range(count)],
    )
    await house.many(
        "INSERT INTO contents (account_id, created_at, body) VALUES (1, :at, :zero)",
        [{"at": at, "zero": b"\x00"}] * count,
    )
    await house.many(
        "INSERT INTO messages (account_id, public_id, server_id, stream, purpose, sender, subject,"
        " rfc_message_id, content_id, size_bytes, origin, created_at)"
        " VALUES (1, :name, 1, '', '', '', '', '', :content, 0, '', :at)",
        [
            {"name": str(row[0]), "content": row[0], "at": at}
            for row in await house.do("SELECT content_id FROM contents ORDER BY content_id")
        ],
    )
    house.clock.advance(91 * DAY_S)
    slices: list[int] = []
    real_write = house.store.write

    async def counted(work: Callable[[], Work[Past]], size_bytes: int = 0) -> Past:
        found: Past | None = await real_write(work, size_bytes)
        slices.append(found.rows if found else 0)  # None: the line in the audit trail
        return found or Past()

    house.store.write = counted  # type: ignore[method-assign, assignment]  # what a unit answers is its size
    cleared = await house.clear()
    house.store.write = real_write  # type: ignore[method-assign]

    assert (cleared.events, cleared.idempotency, cleared.contents) == (count, count, count)
    assert max(slices) == SLICE
    assert await house.count("events") == 0


async def test_nothing_old_costs_no_write_in_the_walks(house: House) -> None:
    for _ in range(3):
        message = await house.message(DeliveryState.SENT)
        await house.attempt(message, await house.decision())
    before = house.store.units
    assert await house.clear() == Counts()

    assert house.store.units - before == 8  # one look each at the eight tables that are not walked


async def test_the_loop_goes_on_when_the_database_was_busy_and_when_something_is_broken(house: House) -> None:
    await house.message(DeliveryState.SENT)
    house.clock.advance(31 * DAY_S)
    faults: list[Exception] = [Unavailable("busy"), RuntimeError("broken")]
    real_read = house.store.read

    async def failing(work: Callable[[], Work[Rows]]) -> Rows:
        if faults:
            raise faults.pop(0)
        return await real_read(work)

    house.store.read = failing  # type: ignore[method-assign, assignment]  # the faults a real disk has
    tasks = len(asyncio.all_tasks())
    house.keeping.start()
    house.keeping.start()  # a second call changes nothing
    assert len(asyncio.all_tasks()) == tasks + 1
    async with asyncio.timeout(5):
        while house.keeping.runs < 2:
            await asyncio.sleep(0.001)
    await house.keeping.stop()
    await house.keeping.stop()

    assert house.keeping.failures == 2
    assert await house.contents_of() == set()
    assert len(asyncio.all_tasks()) == tasks


def test_the_defaults_are_those_of_the_settings() -> None:
    from postroom.config import Settings

    ours, theirs = HousekeepingSettings(), Settings()
    for name in ("keep_content_s", "keep_events_s", "idempotency_keep_s"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert MICROS * DAY_S == DAY_US


# --- looking before it is done ---------------------------------------------------------------------------


async def test_a_dry_run_says_what_a_run_then_does_and_changes_nothing(house: House) -> None:
    """Of every kind: rows, bytes and the oldest are the same, and the database the same as before."""
    began = house.clock.now_us()
    done = await house.message(DeliveryState.SENT, DeliveryState.BOUNCED)
    waiting = await house.message(DeliveryState.READY)
    old, young = await house.decision(), await house.decision()
    for message in (done, waiting):
        await house.attempt(message, old)
    await house.attempt(done, young)
    await house.store.write(lambda: remembered("x", done, began))
    for text in (
        "INSERT INTO refused_senders VALUES (1, 1, 'a@example.com', :now, 'no')",
        "INSERT INTO lacks VALUES (1, 1, 'smtputf8', :now, 'no')",
        "INSERT INTO notices (account_id, kind, about, text, data, began_at, ended_at)"
        " VALUES (1, 'k', 'a', 't', '{}', :now, :now)",
        f"INSERT INTO cap_hour (account_id, connection_id, hour) VALUES (1, 1, :now / {HOUR_US})",
        f"INSERT INTO cap_day (account_id, connection_id, day) VALUES (1, 1, :now / {DAY_US})",
        "INSERT INTO bounces (account_id, server_id, public_id, stream, kind, recipient, address, sender,"
        " subject, tag, text, report, at) VALUES (1, 1, 'p', 's', 'k', 'r', 'a', 'f', '', '', '', '', :now)",
        "INSERT INTO bulks (account_id, server_id, public_id, origin, stream, total, created_at,"
        " completed_at, shared) VALUES (1, 1, 'b', 'o', 's', 1, 0, :now, '')",
        "INSERT INTO templates (account_id, server_id, kind, name, html, created_at, updated_at, deleted_at)"
        " VALUES (1, 1, 'standard', 'gone', '<p>', 0, 0, :now)",
    ):
        await house.do(text, now=began)
    house.clock.advance(200 * DAY_S)
    await house.message(DeliveryState.SENT)
    tables = ["contents", "events", "attempts", "decisions", "idempotency", "refused_senders", "lacks"]
    tables += ["templates", "bulks", "notices", "cap_hour", "cap_day", "audit", "bounces"]

    async def everything() -> list[Rows]:
        return [await house.do(f"SELECT * FROM {table}") for table in tables]

    before = await everything()
    told = await house.keeping.run_once(dry=True)
    assert await everything() == before
    assert house.keeping.runs == 0

    assert (await house.keeping.run_once()).kinds == told.kinds
    assert {name: past.rows for name, past in told.kinds.items()} == {
        **dict.fromkeys(KINDS, 1),
        "deleted_servers": 0,
        "archived_streams": 0,
        "events": 2,
        "attempts": 4,
    } | {"decisions": told.kinds["decisions"].rows}
    assert all(past.size_bytes > 0 for past in told.kinds.values() if past.rows)
    assert {past.oldest_us for name, past in told.kinds.items() if not name.startswith("cap_")} <= {
        began,
        None,
    }
    assert await house.clear() == Counts()


async def test_a_second_run_waits_for_the_first(house: House) -> None:
    for _ in range(3):
        await house.message(DeliveryState.SENT)
    house.clock.advance(31 * DAY_S)
    first, second = await asyncio.gather(house.clear(), house.clear())
    assert (first.contents, second.contents) == (3, 0)
