"""Suppression lists on a real database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from postroom.actions.context import Context
from postroom.core.suppression import Origin, Reason, Suppression
from postroom.ids import AccountId, ServerId
from postroom.storage import suppressions
from tests.support.context import make_context
from tests.support.stores import on_both

pytestmark = on_both

ACCOUNT, SERVER = AccountId(1), ServerId(1)


@pytest.fixture
async def ctx(tmp_path: Path) -> AsyncIterator[Context]:
    async with make_context(tmp_path) as made:
        yield made


async def suppress(
    ctx: Context, *addresses: str, stream: str = "", server: int = 1, reason: Reason = Reason.MANUAL
) -> set[str]:
    return await ctx.store.write(
        lambda: suppressions.add(
            ACCOUNT, ServerId(server), 7, addresses, reason=reason, origin=Origin.CUSTOMER, stream=stream
        )
    )


async def check(ctx: Context, stream: str, *addresses: str) -> set[str]:
    return await ctx.store.read(lambda: suppressions.check(ACCOUNT, SERVER, stream, addresses))


async def test_all_streams_and_one_stream(ctx: Context) -> None:
    await suppress(ctx, "all@example.com")
    await suppress(ctx, "news@example.com", stream="broadcast", reason=Reason.UNSUBSCRIBE)
    await suppress(ctx, "other@example.com", server=2)
    asked = ("all@example.com", "news@example.com", "other@example.com", "free@example.com")
    assert await check(ctx, "outbound", *asked) == {"all@example.com"}
    assert await check(ctx, "broadcast", *asked) == {"all@example.com", "news@example.com"}
    assert await check(ctx, "broadcast") == set()


async def test_another_account_has_its_own_list(ctx: Context) -> None:
    await suppress(ctx, "a@example.com")
    found = await ctx.store.read(
        lambda: suppressions.check(AccountId(2), SERVER, "outbound", ["a@example.com"])
    )
    assert found == set()


async def test_what_is_on_the_list_keeps_its_reason(ctx: Context) -> None:
    assert await suppress(ctx, "a@example.com", reason=Reason.HARD_BOUNCE) == {"a@example.com"}
    assert await suppress(ctx, "a@example.com", "b@example.com", "b@example.com") == {"b@example.com"}
    rows, total = await ctx.store.read(lambda: suppressions.list_of(ACCOUNT, SERVER, limit=10))
    assert total == 2
    assert rows[0] == Suppression(
        1, ACCOUNT, SERVER, "", "a@example.com", Reason.HARD_BOUNCE, Origin.CUSTOMER, 7
    )
    page, total = await ctx.store.read(lambda: suppressions.list_of(ACCOUNT, SERVER, limit=1, offset=1))
    assert ([row.address for row in page], total) == (["b@example.com"], 2)
    page, total = await ctx.store.read(
        lambda: suppressions.list_of(ACCOUNT, SERVER, stream="broadcast", limit=1)
    )
    assert (page, total) == ([], 0)


async def test_r3_a_text_in_addresses_is_looked_for_as_it_is(ctx: Context) -> None:
    await suppress(ctx, "a_b@example.com", "axb@example.com", "100%@example.com", "o'b\\@example.com")

    async def found(text: str) -> list[str]:
        rows, total = await ctx.store.read(
            lambda: suppressions.list_of(ACCOUNT, SERVER, containing=text, limit=10)
        )
        assert total == len(rows)
        return [row.address for row in rows]

    assert await found("a_b") == ["a_b@example.com"]
    assert await found("%") == ["100%@example.com"]
    assert await found("\\") == await found("o'") == ["o'b\\@example.com"]
    assert len(await found("@example")) == 4
    assert await found("nobody") == []


async def test_one_row_is_found_by_its_stream(ctx: Context) -> None:
    await suppress(ctx, "a@example.com", stream="broadcast")
    assert await ctx.store.read(lambda: suppressions.get(ACCOUNT, SERVER, "a@example.com")) is None
    row = await ctx.store.read(lambda: suppressions.get(ACCOUNT, SERVER, "a@example.com", stream="broadcast"))
    assert row is not None
    assert (row.suppression_id, row.stream) == (1, "broadcast")


async def test_removing(ctx: Context) -> None:
    await suppress(ctx, "a@example.com")
    await suppress(ctx, "a@example.com", stream="broadcast")
    gone = await ctx.store.write(
        lambda: suppressions.remove(ACCOUNT, SERVER, ["a@example.com", "b@example.com"])
    )
    assert gone == {"a@example.com"}
    assert await check(ctx, "outbound", "a@example.com") == set()
    assert await check(ctx, "broadcast", "a@example.com") == {"a@example.com"}


@pytest.mark.parametrize("count", [1, 2, 3, 511, 512, 513, 2000])
async def test_any_number_is_checked_at_once(ctx: Context, count: int) -> None:
    addresses = [f"r{number}@example.com" for number in range(count)]
    await suppress(ctx, *addresses[::2])
    assert await check(ctx, "outbound", *addresses) == set(addresses[::2])
    removed = await ctx.store.write(lambda: suppressions.remove(ACCOUNT, SERVER, addresses))
    assert removed == set(addresses[::2])
