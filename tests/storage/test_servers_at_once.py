"""Servers and streams changed by several at once: what one server may have, one server has."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from postroom.actions import accounts, servers, streams
from postroom.actions.accounts import AccountChanges
from postroom.actions.servers import InboundDomainTaken, NameTaken, PlanLimit, ServerChanges, ServerRules
from postroom.actions.streams import MOST_STREAMS, Refusal, StreamDraft, StreamRefused
from postroom.core.server import Account, Owner
from postroom.core.stream import StreamType
from postroom.errors import PostroomError
from tests.support.context import ACTOR, Harness, make_harness
from tests.support.stores import on_both

pytestmark = on_both
RULES = ServerRules(unique_name=True, within_plan=True, with_token=True)
TIMES = 8


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[Harness]:
    async with make_harness(tmp_path) as made:
        yield made


async def at_once(work: Callable[[int], Awaitable[object]]) -> list[type[PostroomError]]:
    """Run it several times together; the errors there were."""
    found: list[type[PostroomError]] = []

    async def one(number: int) -> None:
        try:
            await work(number)
        except PostroomError as error:
            found.append(type(error))

    await asyncio.gather(*(one(number) for number in range(TIMES)))
    return found


async def account_of(harness: Harness, name: str = "Acme") -> Account:
    return await accounts.create_account(harness.ctx, ACTOR, name)


async def test_a_name_is_given_once(harness: Harness) -> None:
    account = await account_of(harness)

    async def make(number: int) -> object:
        name = "Shop" if number % 2 else "SHOP"
        return await servers.create_server(harness.ctx, ACTOR, account.account_id, name, rules=RULES)

    assert await at_once(make) == [NameTaken] * (TIMES - 1)


async def test_an_inbound_domain_is_given_once_whatever_the_account(harness: Harness) -> None:
    made = [await account_of(harness, f"A{number}") for number in range(TIMES)]

    async def make(number: int) -> object:
        return await servers.create_server(
            harness.ctx, ACTOR, made[number].account_id, "Shop", inbound_domain="in.example", rules=RULES
        )

    assert await at_once(make) == [InboundDomainTaken] * (TIMES - 1)


async def test_a_plan_is_kept(harness: Harness) -> None:
    account = await account_of(harness)
    await accounts.update_account(harness.ctx, ACTOR, account.account_id, AccountChanges(max_servers=3))

    async def make(number: int) -> object:
        return await servers.create_server(
            harness.ctx, ACTOR, account.account_id, f"Shop {number}", rules=RULES
        )

    assert await at_once(make) == [PlanLimit] * (TIMES - 3)


async def test_w16_two_changes_of_one_server_lose_nothing(harness: Harness) -> None:
    account = await account_of(harness)
    server = await servers.create_server(harness.ctx, ACTOR, account.account_id, "Shop")
    owner = Owner(account.account_id)

    async def change(number: int) -> object:
        changes = ServerChanges(options={f"n{number}": number})
        return await servers.update_server(harness.ctx, ACTOR, owner, server.server_id, changes)

    assert await at_once(change) == []
    found = await servers.get_server(harness.ctx, owner, server.server_id)
    assert found.options == {f"n{number}": number for number in range(TIMES)}


async def test_ten_streams_and_no_more(harness: Harness) -> None:
    account = await account_of(harness)
    server = await servers.create_server(harness.ctx, ACTOR, account.account_id, "Shop")
    owner = Owner(account.account_id, server.server_id)
    refusals: list[Refusal] = []

    async def make(number: int) -> object:
        draft = StreamDraft(f"news-{number}", "News", StreamType.BROADCAST)
        try:
            return await streams.create_stream(harness.ctx, ACTOR, owner, server.server_id, draft)
        except StreamRefused as error:
            refusals.append(error.refusal)
            raise

    assert await at_once(make) == [StreamRefused]
    assert refusals == [Refusal.TOO_MANY]
    assert len(await streams.list_streams(harness.ctx, owner, server.server_id)) == MOST_STREAMS
