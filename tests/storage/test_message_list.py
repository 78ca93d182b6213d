"""Messages are found by what is known of them, page by page, in looks of bounded length."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from postroom.actions import finding, messages
from postroom.actions.context import Context
from postroom.clock import MICROS, moment_us
from postroom.core.message import DeliveryState, Purpose
from postroom.core.server import Owner
from postroom.ids import AccountId, ServerId
from postroom.storage.interface import Sql, Work
from postroom.storage.message_search import Search
from tests.support import seed_rows
from tests.support.context import make_harness
from tests.support.stores import on_both

pytestmark = on_both

OWNER = Owner(seed_rows.ACCOUNT, whole_account=True)
COUNT = 30


@pytest.fixture
async def ctx(tmp_path: Path) -> AsyncIterator[Context]:
    """30 messages, one a second: even ones transactional; every fifth bounced; names with signs in them."""

    def fill() -> Work[None]:
        yield from seed_rows.tenants()
        for n in range(COUNT):
            purpose = Purpose.BROADCAST if n % 2 else Purpose.TRANSACTIONAL
            number, _ = yield from seed_rows.message(
                purpose, [f"r{n}@example.net", "all@other.example"], f"m{n}"
            )
            subject = f"100%_off {n} ÄPFEL" if n % 3 == 0 else f"Invoice {n}"
            yield Sql(
                "UPDATE messages SET created_at = :at, subject = :s WHERE message_id = :m",
                {"at": n * MICROS, "s": subject, "m": number},
            )
        yield Sql("UPDATE deliveries SET state = 'bounced' WHERE message_id % 5 = 0 AND address LIKE 'r%'")

    async with make_harness(tmp_path) as harness:
        await harness.store.write(fill)
        yield harness.ctx


async def numbers(ctx: Context, wanted: Search, owner: Owner = OWNER, limit: int = 100) -> list[int]:
    listed = await messages.list_messages(ctx, owner, wanted, limit=limit)
    return [one.message.message_id for one in listed.seen]


async def test_r3_each_filter_and_all_together(ctx: Context) -> None:
    everything = list(range(COUNT, 0, -1))
    assert await numbers(ctx, Search()) == everything
    assert await numbers(ctx, Search(state=DeliveryState.BOUNCED)) == [30, 25, 20, 15, 10, 5]
    assert await numbers(ctx, Search(stream="broadcast")) == [n for n in everything if n % 2 == 0]
    assert await numbers(ctx, Search(recipient="r6@example.net")) == [7]
    assert await numbers(ctx, Search(recipient="@other.example")) == everything
    assert await numbers(ctx, Search(recipient="@ther.example")) == []
    assert await numbers(ctx, Search(subject="0%_OFF")) == [n for n in everything if n % 3 == 1]
    assert await numbers(ctx, Search(subject="%invoice")) == []
    assert await numbers(ctx, Search(since_us=25 * MICROS)) == [30, 29, 28, 27, 26]
    both = Search(state=DeliveryState.BOUNCED, stream="broadcast", since_us=5 * MICROS, subject="invoice")
    assert await numbers(ctx, both) == [30, 20]
    assert await numbers(ctx, Search(state=DeliveryState.BOUNCED, recipient="all@other.example")) == []


async def test_what_is_anothers_is_not_there(ctx: Context) -> None:
    assert await numbers(ctx, Search(), Owner(AccountId(2), whole_account=True)) == []
    assert await numbers(ctx, Search(), Owner(seed_rows.ACCOUNT, ServerId(2))) == []


@pytest.mark.parametrize("wanted", [Search(), Search(subject="invoice"), Search(state=DeliveryState.BOUNCED)])
async def test_pages_go_on_where_the_last_one_ended(
    ctx: Context, wanted: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = await numbers(ctx, wanted)
    monkeypatch.setattr(finding, "FIRST_SLICE", 4)
    monkeypatch.setattr(finding, "SLICE", 4)
    found: list[int] = []
    before: int | None = None
    for _ in range(COUNT):
        listed = await messages.list_messages(ctx, OWNER, wanted, limit=3, before=before)
        found += [one.message.message_id for one in listed.seen]
        before = listed.next_before
        if before is None:
            break
    assert before is None
    assert found == whole


async def test_a_look_ends_though_nothing_is_found_and_says_so(
    ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("FIRST_SLICE", 1), ("SLICE", 1), ("MOST_LOOKED", 10)):
        monkeypatch.setattr(finding, name, value)
    for wanted in (Search(subject="nothing"), Search(recipient="@nowhere.example")):
        listed = await messages.list_messages(ctx, OWNER, wanted)
        assert (listed.seen, listed.next_before, listed.searched_all) == ((), 21, False)
    listed = await messages.list_messages(ctx, OWNER, Search(recipient="nobody@example.net"))
    assert (listed.seen, listed.next_before, listed.searched_all) == ((), None, True)
    assert await numbers(ctx, Search(recipient="r0@example.net")) == [1]


async def test_odd_limits_and_places_are_taken(ctx: Context) -> None:
    assert len((await messages.list_messages(ctx, OWNER, limit=0)).seen) == 1
    assert len((await messages.list_messages(ctx, OWNER, limit=10**9)).seen) == COUNT
    for before in (0, -5):
        assert (await messages.list_messages(ctx, OWNER, before=before)).seen == ()
    assert len((await messages.list_messages(ctx, OWNER, before=2**70)).seen) == COUNT


def test_moments() -> None:
    now_us = 10 * 86_400 * MICROS
    assert moment_us("2d", now_us) == 8 * 86_400 * MICROS
    assert moment_us(" 90M ", now_us) == now_us - 5400 * MICROS
    assert moment_us("1970-01-02", now_us) == 86_400 * MICROS
    assert moment_us("1970-01-02T01:00:00+01:00", now_us) == 86_400 * MICROS
    assert moment_us("99999d", now_us) == 0
    for wrong in ("", "yesterday", "5", "1h\x00", "-1d", "2024-13-01"):
        with pytest.raises(ValueError):  # its words are never shown
            moment_us(wrong, now_us)
