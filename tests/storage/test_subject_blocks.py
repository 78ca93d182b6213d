"""Blocks of subjects are made of what is searched, miss nothing that comes late, and go with the messages."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TypeVar

import asyncpg
import pytest

from postroom.actions import finding
from postroom.actions.context import Context
from postroom.actions.subject_streams import SubjectStreams
from postroom.errors import Unavailable
from postroom.ids import AccountId, MessageId, ServerId
from postroom.storage import purge, subject_blocks
from postroom.storage.interface import Work
from postroom.storage.message_search import Search
from postroom.storage.subject_blocks import StreamKey, Unpacked, pack
from tests.support import stores, subjects
from tests.support.context import Harness, make_harness
from tests.support.passed_on import PassedOn
from tests.support.stores import on_both, on_postgresql
from tests.support.subjects import Said, maker

pytestmark = on_both

T = TypeVar("T")
ACCOUNT, SERVER = AccountId(1), ServerId(1)
OUTBOUND, BROADCAST = (StreamKey(ACCOUNT, SERVER, name) for name in ("outbound", "broadcast"))
Ranges = list[tuple[str, int, int]]


@pytest.fixture
async def harness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Harness]:
    for name, value in (("FIRST_SLICE", 2), ("SLICE", 5)):
        monkeypatch.setattr(finding, name, value)
    async with make_harness(tmp_path) as made:
        await made.store.write(subjects.tenants)
        yield made


async def fill(harness: Harness, *numbers: int, stream: str = "outbound", at_s: float = 0) -> None:
    said = [Said(number, f"number {number}.", stream, at_s=at_s) for number in numbers]
    await harness.store.write(lambda: subjects.insert(said))


async def ranges(harness: Harness) -> Ranges:
    return await harness.store.read(subjects.ranges)


async def search(ctx: Context, number: int) -> list[MessageId]:
    wanted = Search("outbound", subject=f"NUMBER {number}.")
    found = await finding.find(ctx, ACCOUNT, SERVER, wanted, enough=5)
    assert found.last is None
    return list(found.numbers)


# --- what is made, and when ----------------------------------------------------------------------------


async def test_a_search_has_all_full_blocks_of_its_stream_made(harness: Harness) -> None:
    await fill(harness, *range(2, 34, 3))
    await fill(harness, *range(3, 35, 3), stream="broadcast")
    blocks = maker(harness.ctx, 4)
    assert await blocks.run_once() == 0
    assert await search(harness.ctx, 2) == [2]
    assert await blocks.run_once() == 2
    expected = [("outbound", 1, 11), ("outbound", 12, 23)]
    assert await ranges(harness) == expected
    assert await blocks.run_once() == 0
    await fill(harness, 36)
    assert await blocks.run_once() == 1
    assert await ranges(harness) == [*expected, ("outbound", 24, 36)]
    assert await search(harness.ctx, 2) == [2]


async def test_streams_are_taken_in_turn_and_forgotten_after_a_day(harness: Harness) -> None:
    await fill(harness, *range(1, 13))
    await fill(harness, *range(13, 25), stream="broadcast")
    clock, blocks = harness.clock, maker(harness.ctx, 6, keep_s=60.0)
    harness.ctx.subjects.note(OUTBOUND, clock.steady_s())
    clock.advance(61)
    harness.ctx.subjects.note(BROADCAST, clock.steady_s())
    assert await blocks.run_once() == 2
    assert {stream for stream, *_ in await ranges(harness)} == {"broadcast"}
    harness.ctx.subjects.note(OUTBOUND, clock.steady_s())
    assert await blocks.run_once() == 2


async def test_long_subjects_make_small_blocks(harness: Harness) -> None:
    await fill(harness, *range(1, 13))
    harness.ctx.subjects.note(OUTBOUND, harness.clock.steady_s())
    assert await maker(harness.ctx, 6, characters=25).run_once() == 3
    assert await ranges(harness) == [("outbound", 1, 3), ("outbound", 4, 6), ("outbound", 7, 9)]


def test_so_many_streams_are_kept_in_mind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("postroom.actions.subject_streams.MOST_STREAMS", 2)
    noted = SubjectStreams()
    streams = [StreamKey(ACCOUNT, SERVER, name) for name in "abc"]
    for at_s, stream in enumerate((streams[0], streams[1], streams[0], streams[2])):
        noted.note(stream, float(at_s))
    assert noted.since(0) == [streams[2], streams[0]]
    noted.came.clear()
    noted.note(streams[0], 9.0)
    assert not noted.came.is_set()
    assert noted.since(9) == [streams[0]]


# --- what comes late -----------------------------------------------------------------------------------


async def test_what_is_young_waits_for_what_may_come_before_it(harness: Harness) -> None:
    await fill(harness, *range(1, 5), 6, 7)
    harness.ctx.subjects.note(OUTBOUND, harness.clock.steady_s())
    blocks = maker(harness.ctx, 6, age_s=60.0)
    harness.clock.advance(59)
    assert await blocks.run_once() == 0
    await fill(harness, 5)
    harness.clock.advance(1)
    assert await blocks.run_once() == 1
    assert await ranges(harness) == [("outbound", 1, 6)]
    assert await search(harness.ctx, 5) == [5]


@on_postgresql
async def test_what_waits_in_its_commit_is_waited_for(harness: Harness, tmp_path: Path) -> None:
    await fill(harness, *range(1, 8))
    harness.ctx.subjects.note(OUTBOUND, harness.clock.steady_s())
    blocks = subjects.maker(harness.ctx, 6, open_s=0.0, on_postgres=True)
    session = await asyncpg.connect(stores.url_of(tmp_path))
    try:
        transaction = session.transaction()
        await transaction.start()
        assert await session.fetchval("SELECT COUNT(*) FROM messages") == 7
        await session.execute("UPDATE messages SET message_id = 70 WHERE message_id = 3")
        assert await blocks.run_once() == 0
        await transaction.commit()
    finally:
        await session.close()
    assert await blocks.run_once() == 1
    assert await ranges(harness) == [("outbound", 1, 7)]


# --- at once, and in trouble ---------------------------------------------------------------------------


async def test_two_at_once_make_the_same(harness: Harness) -> None:
    await fill(harness, *range(1, 42))
    harness.ctx.subjects.note(OUTBOUND, harness.clock.steady_s())
    await asyncio.gather(*(maker(harness.ctx, 4).run_once() for _ in range(3)))
    assert await ranges(harness) == [("outbound", first, first + 3) for first in range(1, 41, 4)]
    assert await search(harness.ctx, 17) == [17]


class Unreliable(PassedOn):
    """A store whose writes fail as often as is said, then may be held up."""

    def __init__(self, harness: Harness, failing: int = 0) -> None:
        super().__init__(harness.store)
        self.failing = failing
        self.begun, self.go_on, self.written = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def write(self, work: Callable[[], Work[T]], size_bytes: int = 0, *, share: bool = False) -> T:
        if self.failing:
            self.failing -= 1
            raise Unavailable("the disk is full")
        self.begun.set()
        await self.go_on.wait()
        value = await super().write(work, size_bytes, share=share)
        self.written.set()
        return value

    async def close(self) -> None:
        """It is the harness's."""


def beside(harness: Harness, store: Unreliable) -> Context:
    ctx = harness.ctx
    return Context(store, ctx.clock, ctx.ring, ctx.hearer, ctx.prober, subjects=ctx.subjects)


async def test_trouble_is_told_and_it_goes_on_afterwards(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    await fill(harness, *range(1, 5))
    store = Unreliable(harness, failing=2)
    store.go_on.set()
    blocks = maker(beside(harness, store), 4, every_s=0.0)
    blocks.start()
    try:
        harness.ctx.subjects.note(OUTBOUND, harness.clock.steady_s())
        async with asyncio.timeout(30):
            await store.written.wait()
    finally:
        await blocks.stop()
    assert await ranges(harness) == [("outbound", 1, 4)]
    assert caplog.text.count("blocks of subjects were put off") == 2


async def test_a_new_stream_is_not_kept_waiting_and_an_end_is_clean(harness: Harness) -> None:
    await fill(harness, *range(1, 13))
    store = Unreliable(harness)
    blocks = maker(beside(harness, store), 4, every_s=3600.0)
    blocks.start()
    assert await search(harness.ctx, 1) == [1]
    async with asyncio.timeout(30):
        await store.begun.wait()
        await blocks.stop()
    assert await ranges(harness) == []
    assert await maker(harness.ctx, 4).run_once() == 3


# --- what goes -----------------------------------------------------------------------------------------


async def test_no_subject_outlives_its_message(harness: Harness) -> None:
    """Slice by slice; what another stream has stays."""
    await fill(harness, *range(1, 261))
    await fill(harness, *range(261, 301), stream="broadcast")
    for stream in (OUTBOUND, BROADCAST):
        harness.ctx.subjects.note(stream, harness.clock.steady_s())
    blocks = maker(harness.ctx, 30)
    assert await blocks.run_once() == 8 + 1
    left = 260
    while await harness.store.write(lambda: purge.mail_slice(ACCOUNT, SERVER, "outbound")):
        rest = await harness.store.read(lambda: purge.next_messages(ACCOUNT, SERVER, "outbound"))
        first = rest[0] if rest else 1000
        spoken_for = [one for one in await ranges(harness) if one[0] == "outbound"]
        assert all(begin >= first for _, begin, _ in spoken_for), (first, spoken_for)
        left = min(left, len(spoken_for))
    assert left == 0
    assert await ranges(harness) == [("broadcast", 1, 290)]


async def test_a_block_of_what_is_gone_is_not_kept(harness: Harness) -> None:
    await fill(harness, *range(1, 5))
    block = pack(Unpacked(1, [(MessageId(number), "secret") for number in range(1, 5)]))
    while await harness.store.write(lambda: purge.mail_slice(ACCOUNT, SERVER, "outbound")):
        pass
    assert not await harness.store.write(lambda: subject_blocks.add(OUTBOUND, block))
    assert await ranges(harness) == []


@on_postgresql
async def test_a_block_waits_for_a_purge_that_has_begun(harness: Harness, tmp_path: Path) -> None:
    await fill(harness, *range(1, 5))
    block = pack(Unpacked(1, [(MessageId(number), "secret") for number in range(1, 5)]))
    session = await asyncpg.connect(stores.url_of(tmp_path))
    try:
        transaction = session.transaction()
        await transaction.start()
        await session.execute("DELETE FROM messages")
        adding = asyncio.create_task(harness.store.write(lambda: subject_blocks.add(OUTBOUND, block)))
        async with asyncio.timeout(30):
            while not await session.fetchval("SELECT COUNT(*) FROM pg_locks WHERE NOT granted"):
                assert not adding.done()
        await transaction.commit()
        assert not await adding
    finally:
        await session.close()
    assert await ranges(harness) == []


@on_postgresql
async def test_bitmaps_lie_in_their_rows(harness: Harness, tmp_path: Path) -> None:
    """And only the subjects elsewhere, so that many bitmaps are read without many look-ups."""
    stream = StreamKey(ACCOUNT, SERVER, "a-name-of-thirty-characters-xy")
    await fill(harness, 1, stream=stream.stream)
    chance = random.Random(1)
    block = pack(Unpacked(1, [(MessageId(number), chance.randbytes(20).hex()) for number in range(1, 1000)]))
    assert await harness.store.write(lambda: subject_blocks.add(stream, block))
    session = await asyncpg.connect(stores.url_of(tmp_path))
    try:
        elsewhere = "SELECT reltoastrelid::regclass::text FROM pg_class WHERE relname = 'subject_blocks'"
        table = await session.fetchval(elsewhere)
        assert await session.fetchval(f"SELECT COUNT(DISTINCT chunk_id) FROM {table}") == 1
    finally:
        await session.close()
